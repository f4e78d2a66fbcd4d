//! Tokens: those of another implementation, every way to confuse a verifier, times, and what is remembered.

use std::ops::Range;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};

mod keys;

use super::*;
use crate::auth::AccessKey;

/// Tokens and keys that another implementation made, which the file names.
fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../../tests/vectors/jwt.json")).unwrap()
}

const ISSUER: &str = "https://idp.example.com";

/// The seconds in which the tokens of these tests count: from their `nbf` to before their `exp`, without leeway.
const TIME: Range<i64> = 1_700_000_000..1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn rules(keys: &Value, claims: &[(&str, &str)]) -> TokenRules {
    let claims = claims.iter();
    TokenRules {
        keys: JwkSet::parse(keys.to_string().as_bytes()).unwrap(),
        issuer: ISSUER.to_owned(),
        audience: "recordings".to_owned(),
        claims: claims
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    }
}

#[derive(Debug)]
struct TestCaller(&'static str, AccessKey);

impl super::super::Principal for TestCaller {
    fn name(&self) -> &str {
        self.0
    }

    fn access_key(&self) -> &AccessKey {
        &self.1
    }
}

/// The callers with these rules.
fn callers(all: Vec<(&'static str, TokenRules)>) -> TokenCallers<TestCaller> {
    let all: Vec<_> = all
        .into_iter()
        .map(|(name, rules)| {
            let caller = Arc::new(TestCaller(name, AccessKey::from("AK")));
            (caller, Arc::new(TokenVerifier::new(Arc::new(rules))))
        })
        .collect();
    TokenCallers::new(all.iter().map(|(caller, verifier)| (caller, verifier)))
}

/// Which caller a token identifies in the middle of its time, or why none.
fn verify(callers: &TokenCallers<TestCaller>, token: &str) -> Result<&'static str, AuthError> {
    let proven = callers.verify(token.as_bytes(), at(1_750_000_000))?;
    Ok(proven.caller().0)
}

fn wrong(reason: &'static str) -> Result<&'static str, AuthError> {
    Err(AuthError::WrongToken(reason))
}

fn encode(part: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

/// An issuer with a key for EdDSA and one for ES256, whose tokens can be malformed in every way.
struct TestIssuer {
    ed: Ed25519KeyPair,
    ec: EcdsaKeyPair,
}

impl TestIssuer {
    fn new() -> Self {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        Self {
            ed: Ed25519KeyPair::generate().unwrap(),
            ec: EcdsaKeyPair::generate(algorithm).unwrap(),
        }
    }

    fn keys(&self) -> Value {
        json!({ "keys": [self.ed_jwk(), self.ec_jwk()] })
    }

    fn ed_jwk(&self) -> Value {
        let key = encode(self.ed.public_key());
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": key })
    }

    fn ec_jwk(&self) -> Value {
        let point = self.ec.public_key().as_ref();
        let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
        json!({ "kty": "EC", "crv": "P-256", "kid": "ec", "x": x, "y": y })
    }

    /// Signs a token of these texts with EdDSA.
    fn sign(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", encode(header), encode(payload));
        let signature = self.ed.sign(signed.as_bytes());
        format!("{signed}.{}", encode(signature))
    }

    fn token(&self, payload: &Value) -> String {
        self.sign(HEADER, &payload.to_string())
    }

    /// Signs with ES256 and changes the signature.
    fn sign_ec(&self, change: impl FnOnce(&mut Vec<u8>)) -> String {
        let header = r#"{"alg":"ES256","kid":"ec"}"#;
        let signed = format!("{}.{}", encode(header), encode(payload().to_string()));
        let random = SystemRandom::new();
        let signature = self.ec.sign(&random, signed.as_bytes()).unwrap();
        let mut signature = signature.as_ref().to_vec();
        change(&mut signature);
        format!("{signed}.{}", encode(signature))
    }

    fn callers(&self) -> TokenCallers<TestCaller> {
        callers(vec![("qa", rules(&self.keys(), &[]))])
    }
}

const HEADER: &str = r#"{"alg":"EdDSA","kid":"ed"}"#;

fn payload() -> Value {
    json!({ "iss": ISSUER, "aud": "recordings", "exp": TIME.end, "nbf": TIME.start, "group": "qa" })
}

fn with(name: &str, value: Value) -> Value {
    let mut payload = payload();
    payload[name] = value;
    payload
}

fn without(name: &str) -> Value {
    let mut payload = payload();
    payload.as_object_mut().unwrap().remove(name);
    payload
}

#[test]
fn tokens_of_another_implementation_verify() {
    let vectors = vectors();
    let callers = callers(vec![("qa", rules(&vectors["jwks"], &[("group", "qa")]))]);
    let right = vectors["right"].as_array().unwrap();
    assert_eq!(right.len(), 8);
    for vector in right {
        let token = vector["token"].as_str().unwrap();
        assert_eq!(verify(&callers, token), Ok("qa"), "{}", vector["name"]);
    }
}

#[test]
fn what_confuses_other_verifiers_is_refused() {
    let vectors = vectors();
    let callers = callers(vec![("qa", rules(&vectors["jwks"], &[]))]);
    let all = vectors["wrong"].as_array().unwrap();
    assert_eq!(all.len(), 18);
    for vector in all {
        let verified = verify(&callers, vector["token"].as_str().unwrap());
        let Err(AuthError::WrongToken(reason)) = verified else {
            panic!("{}: {verified:?}", vector["name"]);
        };
        assert!(
            ["a wrong signature", "not one key for its algorithm and kid"].contains(&reason),
            "{}: {reason}",
            vector["name"]
        );
    }
}

#[test]
fn headers_that_demand_something_or_are_malformed_are_refused() {
    let issuer = TestIssuer::new();
    let callers = issuer.callers();
    let no_key = wrong("not one key for its algorithm and kid");
    for (header, expected) in [
        (HEADER, Ok("qa")),
        (r#" { "kid" : "ed" , "alg" : "EdDSA" } "#, Ok("qa")),
        (
            r#"{"alg":"EdDSA","kid":"ed","typ":"at+jwt","cty":"x"}"#,
            Ok("qa"),
        ),
        (r#"{"alg":"EdDSA"}"#, Ok("qa")),
        (
            r#"{"alg":"EdDSA","kid":"ed","crit":["exp"]}"#,
            wrong("it has crit"),
        ),
        (
            r#"{"alg":"EdDSA","kid":"ed","crit":[]}"#,
            wrong("it has crit"),
        ),
        (
            r#"{"alg":"EdDSA","kid":"ed","enc":"A128GCM"}"#,
            wrong("it is encrypted"),
        ),
        (
            r#"{"alg":"EdDSA","kid":"ed","kid":"ed"}"#,
            wrong("malformed"),
        ),
        (
            r#"{"alg":"none","kid":"ed","\u0061lg":"EdDSA"}"#,
            wrong("malformed"),
        ),
        (r#"{"alg":"EdDSA","kid":7}"#, wrong("malformed")),
        (r#"{"alg":"EdDSA","kid":null}"#, wrong("malformed")),
        (r#"{"alg":["EdDSA"],"kid":"ed"}"#, wrong("malformed")),
        (r#"{"kid":"ed"}"#, wrong("malformed")),
        (r#"["EdDSA"]"#, wrong("malformed")),
        ("", wrong("malformed")),
        (r#"{"alg":"eddsa","kid":"ed"}"#, no_key.clone()),
        (r#"{"alg":"Ed25519","kid":"ed"}"#, no_key.clone()),
        (r#"{"alg":"none","kid":"ed"}"#, no_key.clone()),
        (r#"{"alg":"none"}"#, no_key.clone()),
        (r#"{"alg":"HS256","kid":"ed"}"#, no_key.clone()),
        (r#"{"alg":"RS256"}"#, no_key.clone()),
        (r#"{"alg":"ES256","kid":"ed"}"#, no_key.clone()),
        (r#"{"alg":"EdDSA","kid":"ec"}"#, no_key.clone()),
        (r#"{"alg":"EdDSA","kid":"ed "}"#, no_key.clone()),
        (r#"{"alg":"EdDSA","kid":"../../dev/null"}"#, no_key.clone()),
        (r#"{"alg":"EdDSA","kid":""}"#, no_key),
        (r#"{"alg":"ES256","kid":"ec"}"#, wrong("a wrong signature")),
    ] {
        let token = issuer.sign(header, &payload().to_string());
        assert_eq!(verify(&callers, &token), expected, "{header}");
    }
}

#[test]
fn claims_are_compared_exactly() {
    let issuer = TestIssuer::new();
    let callers = issuer.callers();
    for (payload, expected) in [
        (with("aud", json!(["other", "recordings"])), Ok("qa")),
        (with("iat", json!("whatever")), Ok("qa")),
        (
            with("iss", json!("https://idp.example.com/")),
            wrong("another issuer"),
        ),
        (
            with("iss", json!("HTTPS://idp.example.com")),
            wrong("another issuer"),
        ),
        (with("iss", json!([ISSUER])), wrong("another issuer")),
        (without("iss"), wrong("another issuer")),
        (with("aud", json!("recordings2")), wrong("another audience")),
        (with("aud", json!("Recordings")), wrong("another audience")),
        (
            with("aud", json!([["recordings"]])),
            wrong("another audience"),
        ),
        (
            with("aud", json!({ "recordings": "recordings" })),
            wrong("another audience"),
        ),
        (with("aud", json!([])), wrong("another audience")),
        (without("aud"), wrong("another audience")),
        (with("cnf", json!({ "jkt": "x" })), wrong("it has cnf")),
        (with("cnf", json!(null)), wrong("it has cnf")),
        (without("exp"), wrong("no exp")),
        (
            with("exp", json!("1800000000")),
            wrong("an exp or nbf that is no time"),
        ),
        (
            with("exp", json!(null)),
            wrong("an exp or nbf that is no time"),
        ),
        (
            with("nbf", json!(true)),
            wrong("an exp or nbf that is no time"),
        ),
        (json!([]), wrong("malformed")),
    ] {
        let token = issuer.token(&payload);
        assert_eq!(verify(&callers, &token), expected, "{payload}");
    }
    for text in [
        // Which of two a parser takes must not matter.
        format!(r#"{{"iss":"{ISSUER}","aud":"recordings","exp":1,"exp":1800000000}}"#),
        format!(r#"{{"iss":"evil","\u0069ss":"{ISSUER}","aud":"recordings","exp":1800000000}}"#),
        format!(
            r#"{{"iss":"{ISSUER}","aud":"recordings","exp":1800000000,"x":[{{"a":1,"a":1}}]}}"#
        ),
        format!("{}x", payload()),
        format!("{}{}", payload(), payload()),
        String::new(),
    ] {
        let token = issuer.sign(HEADER, &text);
        assert_eq!(verify(&callers, &token), wrong("malformed"), "{text}");
    }
}

#[test]
fn the_text_of_a_token_has_one_form() {
    let issuer = TestIssuer::new();
    let callers = issuer.callers();
    let token = issuer.token(&payload());
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else {
        panic!("{token}");
    };
    assert_eq!(verify(&callers, &token), Ok("qa"));
    // 64 bytes end with four bits that encode nothing.
    let last = signature.chars().last().unwrap();
    let same_bytes = format!("{}{}", &signature[..85], char::from(last as u8 + 1));
    for text in [
        format!("{header}.{claims}.{signature}="),
        format!("{header}.{claims}.{signature}=="),
        format!("{header}=.{claims}.{signature}"),
        format!("{header}.{claims}.{same_bytes}"),
        format!(" {token}"),
        format!("{token} "),
        format!("{header}. {claims}.{signature}"),
        format!("{header}.{claims}\n.{signature}"),
        format!("{header}\t.{claims}.{signature}"),
        format!(
            "{header}.{claims}.{}",
            signature.replace('-', "+").replace('_', "/") + "+"
        ),
        format!("{header}.{claims}"),
        format!("{header}.{claims}.{signature}."),
        format!("{header}.{claims}.{signature}.x.y"),
        format!("{header}..{signature}"),
        format!(".{claims}.{signature}"),
        "..".to_owned(),
        String::new(),
    ] {
        assert_eq!(verify(&callers, &text), wrong("malformed"), "{text}");
    }
    for text in [
        format!("{header}.{claims}."),
        format!("{header}.{claims}.{}", &signature[..84]),
        format!("{header}.{claims}.{signature}AAAA"),
    ] {
        let verified = verify(&callers, &text);
        assert!(verified.is_err(), "{text}");
    }
}

#[test]
fn a_token_has_at_most_8_kib() {
    let issuer = TestIssuer::new();
    let callers = issuer.callers();
    let mut lengths = Vec::new();
    for padding in 5_850..5_950 {
        let token = issuer.token(&with("x", "a".repeat(padding).into()));
        let fits = token.len() <= 8_192;
        let expected = if fits {
            Ok("qa")
        } else {
            wrong("longer than 8 KiB")
        };
        assert_eq!(verify(&callers, &token), expected, "{}", token.len());
        let remembered = callers.remembered(token.as_bytes(), at(1_750_000_000));
        assert_eq!(remembered.is_some(), fits);
        lengths.push(token.len());
    }
    assert!(lengths.contains(&8_192) || lengths.contains(&8_191));
    assert!(lengths.contains(&8_193) || lengths.contains(&8_194));
}

#[test]
fn times_have_a_leeway_of_a_minute_and_exact_edges() {
    let issuer = TestIssuer::new();
    let judge = |payload: &Value, second: i64| {
        let callers = issuer.callers();
        let token = issuer.token(payload);
        let judged = callers.verify(token.as_bytes(), at(second));
        // What was verified in its time is judged the same afterwards.
        callers.verify(token.as_bytes(), at(1_750_000_000)).unwrap();
        let remembered = callers.remembered(token.as_bytes(), at(second));
        assert_eq!(
            remembered.is_some(),
            judged.is_ok(),
            "{payload} at {second}"
        );
        judged.map(|proven| proven.caller().0)
    };
    let (over, early) = (wrong("its time is over"), wrong("its time has not begun"));
    let both = payload();
    for (payload, second, expected) in [
        (&both, TIME.end - 1, Ok("qa")),
        (&both, TIME.end, Ok("qa")),
        (&both, TIME.end + 59, Ok("qa")),
        (&both, TIME.end + 60, over.clone()),
        (&both, TIME.end + 61, over.clone()),
        (&both, TIME.start - 59, Ok("qa")),
        (&both, TIME.start - 60, Ok("qa")),
        (&both, TIME.start - 61, early.clone()),
        (&without("nbf"), 1, Ok("qa")),
        (&with("exp", json!(1.8e9)), TIME.end + 59, Ok("qa")),
        (&with("exp", json!(1_800_000_000.9)), TIME.end + 60, over),
        (
            &with("nbf", json!(1_699_999_999.1)),
            TIME.start - 61,
            early.clone(),
        ),
        (
            &with("nbf", json!(1_699_999_999.1)),
            TIME.start - 60,
            Ok("qa"),
        ),
        (&with("exp", json!(u64::MAX)), 9_000_000_000, Ok("qa")),
        (&with("exp", json!(1e300)), 9_000_000_000, Ok("qa")),
        (&with("nbf", json!(-1e300)), 1, Ok("qa")),
        (&with("nbf", json!(i64::MIN)), 1, Ok("qa")),
    ] {
        assert_eq!(judge(payload, second), expected, "{payload} at {second}");
    }
    let fraction = Timestamp::new(TIME.end + 59, 999_999_999).unwrap();
    let token = issuer.token(&both);
    assert!(issuer.callers().verify(token.as_bytes(), fraction).is_ok());
    for (name, value) in [
        ("exp", json!(-1)),
        ("exp", json!(i64::MIN)),
        ("exp", json!(-1e300)),
    ] {
        let token = issuer.token(&with(name, value));
        assert_eq!(verify(&issuer.callers(), &token), wrong("its time is over"));
    }
    for value in [json!(u64::MAX), json!(1e300)] {
        let token = issuer.token(&with("nbf", value));
        assert_eq!(verify(&issuer.callers(), &token), early);
    }
}

#[test]
fn a_signature_of_es256_has_exactly_two_numbers() {
    let issuer = TestIssuer::new();
    let callers = issuer.callers();
    assert_eq!(verify(&callers, &issuer.sign_ec(|_| ())), Ok("qa"));
    let changes: [fn(&mut Vec<u8>); 9] = [
        // CVE-2022-21449: zeros verify whatever is signed.
        |it| it.fill(0),
        |it| it[..32].fill(0),
        |it| it[32..].fill(0),
        |it| it.fill(0xff),
        |it| it.clear(),
        |it| it.truncate(63),
        |it| it.push(0),
        |it| it.insert(0, 0),
        // DER instead of r and s.
        |it| {
            let integer = |number: &[u8]| [&[2, 33, 0], number].concat();
            let (r, s) = it.split_at(32);
            let body = [integer(r), integer(s)].concat();
            *it = [&[0x30, body.len() as u8][..], &body].concat();
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let token = issuer.sign_ec(change);
        assert_eq!(
            verify(&callers, &token),
            wrong("a wrong signature"),
            "{number}"
        );
    }
}

#[test]
fn without_a_kid_only_one_key_may_fit() {
    let [one, two] = [TestIssuer::new(), TestIssuer::new()];
    let mut second = two.ed_jwk();
    second["kid"] = "ed2".into();
    let both = json!({ "keys": [one.ed_jwk(), second, one.ec_jwk()] });
    let two_keys = callers(vec![("qa", rules(&both, &[]))]);
    let text = payload().to_string();
    let no_key = wrong("not one key for its algorithm and kid");
    for issuer in [&one, &two] {
        assert_eq!(
            verify(&two_keys, &issuer.sign(r#"{"alg":"EdDSA"}"#, &text)),
            no_key
        );
    }
    assert_eq!(verify(&two_keys, &one.sign(HEADER, &text)), Ok("qa"));
    assert_eq!(
        verify(&two_keys, &two.sign(HEADER, &text)),
        wrong("a wrong signature")
    );
    // A key without kid is not that of any kid.
    let mut nameless = one.ed_jwk();
    nameless.as_object_mut().unwrap().remove("kid");
    let nameless = json!({ "keys": [nameless] });
    let nameless = callers(vec![("qa", rules(&nameless, &[]))]);
    assert_eq!(
        verify(&nameless, &one.sign(r#"{"alg":"EdDSA"}"#, &text)),
        Ok("qa")
    );
    assert_eq!(verify(&nameless, &one.sign(HEADER, &text)), no_key);
}

#[test]
fn a_token_identifies_one_caller_by_its_claims() {
    let issuer = TestIssuer::new();
    let keys = issuer.keys();
    let callers = callers(vec![
        ("qa", rules(&keys, &[("group", "qa")])),
        ("ops", rules(&keys, &[("group", "ops"), ("site", "north")])),
    ]);
    let token = |group: Value, site: Value| {
        let mut payload = with("group", group);
        payload["site"] = site;
        issuer.token(&payload)
    };
    for (group, site, expected) in [
        (json!("qa"), json!(null), Ok("qa")),
        (json!(["x", "qa"]), json!("north"), Ok("qa")),
        (json!("ops"), json!("north"), Ok("ops")),
        (json!("ops"), json!("south"), wrong("other claims")),
        (json!("ops"), json!(null), wrong("other claims")),
        (json!("qa "), json!(null), wrong("other claims")),
        (json!({ "qa": true }), json!(null), wrong("other claims")),
        (
            json!(["ops", "qa"]),
            json!(["north"]),
            wrong("it fits more than one caller"),
        ),
    ] {
        let token = token(group.clone(), site);
        assert_eq!(verify(&callers, &token), expected, "{group}");
    }
    let [all, qa, ops] =
        [&[][..], &[("group", "qa")], &[("group", "ops")]].map(|it| rules(&keys, it));
    assert!(all.include(&qa) && !qa.include(&all) && !qa.include(&ops) && qa.include(&qa));
}

#[test]
fn right_tokens_are_remembered_up_to_a_number() {
    let issuer = TestIssuer::new();
    let callers = issuer.callers();
    let (_, verifier) = &callers.callers[0];
    let now = at(1_750_000_000);
    let token = |number: usize, exp: i64| {
        let mut payload = with("exp", exp.into());
        payload["jti"] = number.into();
        issuer.token(&payload)
    };
    let wrong = token(0, TIME.end).replacen('.', ".e30", 1);
    assert!(callers.verify(wrong.as_bytes(), now).is_err());
    assert_eq!(verifier.remembered.len(), 0);
    let first = token(0, TIME.end - 5);
    assert!(callers.remembered(first.as_bytes(), now).is_none());
    callers.verify(first.as_bytes(), now).unwrap();
    assert!(callers.remembered(first.as_bytes(), now).is_some());
    for number in 1..remembered::MAX_TOKENS + 10 {
        callers
            .verify(token(number, TIME.end).as_bytes(), now)
            .unwrap();
        assert!(verifier.remembered.len() <= remembered::MAX_TOKENS);
    }
    // The first one ends first; the last ones are there.
    assert!(callers.remembered(first.as_bytes(), now).is_none());
    let last = token(remembered::MAX_TOKENS + 9, TIME.end);
    assert!(callers.remembered(last.as_bytes(), now).is_some());
    // What is over makes room.
    let later = at(TIME.end + 60);
    let next = token(0, TIME.end + 1_000);
    callers.verify(next.as_bytes(), later).unwrap();
    assert_eq!(verifier.remembered.len(), 1);
}

proptest! {
    /// No text that differs from a right token in one character is one.
    #[test]
    fn a_changed_token_never_verifies(at in 0_usize..400, with in "[ -~]") {
        let issuer = TestIssuer::new();
        let mut token = issuer.token(&payload());
        let at = at % token.len();
        prop_assume!(token[at..=at] != with);
        token.replace_range(at..=at, &with);
        prop_assert!(verify(&issuer.callers(), &token).is_err());
    }

    /// Any bytes are judged without a panic, and none are a token.
    #[test]
    fn no_other_bytes_are_a_token(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let issuer = TestIssuer::new();
        prop_assert!(issuer.callers().verify(&bytes, at(1_750_000_000)).is_err());
        prop_assert!(JwkSet::parse(&bytes).is_err());
    }
}
