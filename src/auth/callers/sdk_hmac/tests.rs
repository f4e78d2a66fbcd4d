//! Signatures of Huawei's own signers, and everything that differs from them.

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;

use super::*;

/// What two signers of Huawei signed, which the file names.
fn vectors() -> Value {
    let text = include_str!("../../../../tests/vectors/sdk-hmac.json");
    serde_json::from_str(text).unwrap()
}

#[derive(Clone, Debug)]
struct Request {
    method: String,
    target: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Request {
    /// A request of the vectors with the signature of one signer.
    fn of(vector: &Value, signer: &str) -> Self {
        let text = |name: &str| vector[name].as_str().unwrap().to_owned();
        let mut headers = HeaderMap::new();
        for (name, value) in vector["headers"].as_object().unwrap() {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.insert(name, value.as_str().unwrap().parse().unwrap());
        }
        headers.insert(AUTHORIZATION, text(signer).parse().unwrap());
        Self {
            method: text("method"),
            target: text("target"),
            headers,
            body: text("body").into_bytes(),
        }
    }

    fn first() -> Self {
        Self::of(&vectors()["requests"][0], "python")
    }

    /// Changes one field; an empty value removes it.
    fn with(&self, name: &'static str, value: &str) -> Self {
        let mut request = self.clone();
        match value {
            "" => drop(request.headers.remove(name)),
            _ => drop(
                request
                    .headers
                    .insert(name, HeaderValue::from_str(value).unwrap()),
            ),
        }
        request
    }

    fn authorization(&self) -> String {
        self.headers[AUTHORIZATION].to_str().unwrap().to_owned()
    }

    fn verify_at(&self, now: Timestamp) -> Result<&'static str, AuthError> {
        let (path, query) = match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.target.as_str(), None),
        };
        let request = Signable {
            method: &self.method,
            path,
            query,
            headers: &self.headers,
            body: &self.body,
        };
        let proven = callers().verify(&request, now)?;
        Ok(*proven.caller)
    }

    /// Verifies at the time at which it was signed.
    fn verify(&self) -> Result<&'static str, AuthError> {
        let date = self
            .headers
            .get(DATE)
            .and_then(|date| parse_date(date.to_str().ok()?));
        self.verify_at(date.unwrap_or_default())
    }
}

fn callers() -> AppCallers<&'static str> {
    let secret = vectors()["app_secret"].as_str().unwrap().to_owned();
    let app = |key: &str, secret: &str| AppCredential {
        app_key: key.to_owned(),
        app_secret: Secret::new(secret.into()),
    };
    let all = [
        (Arc::new("qa-tools"), app("qa", &secret)),
        (Arc::new("other"), app("other", "another secret of an app")),
        (Arc::new("first"), app("twice", &secret)),
        (Arc::new("second"), app("twice", &secret)),
    ];
    AppCallers::new(all.iter().map(|(caller, app)| (caller, app)))
}

fn wrong(reason: &'static str) -> Result<&'static str, AuthError> {
    Err(AuthError::WrongAppSignature(reason))
}

#[test]
fn signatures_of_two_other_implementations_verify() {
    let vectors = vectors();
    let requests = vectors["requests"].as_array().unwrap();
    assert_eq!(requests.len(), 7);
    for vector in requests {
        for signer in ["python", "javascript"] {
            let verified = Request::of(vector, signer).verify();
            assert_eq!(verified, Ok("qa-tools"), "{} {signer}", vector["name"]);
        }
    }
}

#[test]
fn a_value_of_another_form_or_app_is_another_scheme() {
    let request = Request::first();
    let value = request.authorization();
    let other = value.replace("Access=qa,", "Access=other,");
    let changed = |value: &str| request.with("authorization", value).verify();
    assert_eq!(changed(&other), wrong("a wrong signature"));
    for value in [
        value.replace("Access=qa,", "Access=unknown,"),
        value.replace("Access=qa,", "Access=QA,"),
        value.replace("Access=qa,", "Access=,"),
        value.replace("Access=qa,", "Access=twice,"),
        value.replace("SDK-HMAC-SHA256 ", "sdk-hmac-sha256 "),
        value.replace("SDK-HMAC-SHA256 ", "SDK-HMAC-SHA256  "),
        value.replace("SDK-HMAC-SHA256 ", "SDK-HMAC-SM3 "),
        value.replace("SDK-HMAC-SHA256 ", "V11-HMAC-SHA256 "),
        value.replace(", ", ","),
        value.replace("Access=", "Credential="),
        value.replace("SignedHeaders=", "Signedheaders="),
        value.replace("Signature=", "Signature=0"),
        value.replace("Signature=", "Signature= "),
        value.to_uppercase(),
        format!("{value}, Access=qa"),
        format!("{value},"),
        value[..value.len() - 1].to_owned(),
        value.split_once(", Signature").unwrap().0.to_owned(),
    ] {
        assert_eq!(changed(&value), Err(AuthError::OtherScheme), "{value}");
    }
}

#[test]
fn signed_fields_are_named_and_there_exactly_once() {
    let request = Request::first();
    let value = request.authorization();
    let names = "SignedHeaders=content-type;host;x-sdk-date";
    assert!(value.contains(names));
    let named = |names: &str| {
        let names = format!("SignedHeaders={names}");
        let value = value.replace("SignedHeaders=content-type;host;x-sdk-date", &names);
        request.with("authorization", &value).verify()
    };
    let malformed = wrong("host is not signed, or a name is malformed");
    for (names, expected) in [
        ("content-type;host;x-sdk-date", Ok("qa-tools")),
        ("content-type;host", wrong("X-Sdk-Date is not signed")),
        ("content-type;x-sdk-date", malformed.clone()),
        ("content-type;host;host;x-sdk-date", malformed.clone()),
        ("Content-Type;Host;X-Sdk-Date", malformed.clone()),
        ("", malformed.clone()),
        (";host;x-sdk-date", malformed),
        (
            "accept;content-type;host;x-sdk-date",
            wrong("a signed field is not there exactly once"),
        ),
        ("host;x-sdk-date", wrong("a wrong signature")),
        ("host;content-type;x-sdk-date", wrong("a wrong signature")),
    ] {
        assert_eq!(named(names), expected, "{names}");
    }
    for name in ["host", "content-type", "x-sdk-date"] {
        let mut twice = request.clone();
        let value = twice.headers[name].clone();
        twice.headers.append(name, value);
        assert!(
            matches!(twice.verify(), Err(AuthError::WrongAppSignature(_))),
            "{name}"
        );
        let without = request.with(name, "");
        assert!(
            matches!(without.verify(), Err(AuthError::WrongAppSignature(_))),
            "{name}"
        );
    }
    // A field that is not signed is as it is.
    assert_eq!(request.with("accept", "*/*").verify(), Ok("qa-tools"));
}

#[test]
fn the_time_of_the_signature_is_within_15_minutes() {
    let request = Request::first();
    let at: Timestamp = "2021-11-24T08:25:03Z".parse().unwrap();
    let late = wrong("X-Sdk-Date is not within 15 minutes");
    for (seconds, expected) in [
        (0, Ok("qa-tools")),
        (900, Ok("qa-tools")),
        (901, late.clone()),
        (-900, Ok("qa-tools")),
        (-901, late.clone()),
    ] {
        let now = at + SignedDuration::from_secs(seconds);
        assert_eq!(request.verify_at(now), expected, "{seconds}");
    }
    let now = at + SignedDuration::from_nanos(900_000_000_001);
    assert_eq!(request.verify_at(now), late);
    for date in [
        "2021-11-24T08:25:03Z",
        "20211124T082503",
        "20211124T082503+0000",
        "20211124t082503Z",
        "20211324T082503Z",
        "20211124T252503Z",
        "20211124T082503.000Z",
        "2021112 T082503Z",
        "Wed, 24 Nov 2021 08:25:03 GMT",
    ] {
        let verified = request.with("x-sdk-date", date).verify_at(at);
        assert_eq!(verified, wrong("X-Sdk-Date is no time"), "{date}");
    }
}

#[test]
fn the_hash_of_the_body_is_always_computed() {
    let vectors = vectors();
    let with_hash = Request::of(&vectors["requests"][6], "javascript");
    let hash = with_hash.headers[CONTENT_HASH].to_str().unwrap().to_owned();
    assert_eq!(with_hash.verify(), Ok("qa-tools"));
    let differs = wrong("X-Sdk-Content-Sha256 is not the hash of the body");
    let mut other_body = with_hash.clone();
    other_body.body.push(b' ');
    assert_eq!(other_body.verify(), differs);
    for value in [
        "UNSIGNED-PAYLOAD",
        "STREAMING-UNSIGNED-PAYLOAD",
        &hash.to_uppercase(),
        "0",
    ] {
        assert_eq!(
            with_hash.with(CONTENT_HASH, value).verify(),
            differs,
            "{value}"
        );
        // Also where it is not signed.
        assert_eq!(
            Request::first().with(CONTENT_HASH, value).verify(),
            differs,
            "{value}"
        );
    }
    assert_eq!(
        Request::first().with(CONTENT_HASH, &hash).verify(),
        Ok("qa-tools")
    );
    let mut twice = with_hash;
    twice.headers.append(CONTENT_HASH, hash.parse().unwrap());
    assert_eq!(twice.verify(), differs);
}

#[test]
fn app_keys_have_a_form() {
    for key in ["qa", "a-b_c.d", "279a08bbd8d949a0"] {
        assert!(is_app_key(key), "{key}");
    }
    for key in ["", "a b", "a,b", "a=b", "ä", "a/b", &"a".repeat(129)] {
        assert!(!is_app_key(key), "{key}");
    }
}

/// One byte of `text` as another visible one, which is not the same letter in the other case.
fn flip(text: &str, index: Index, step: u8) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let byte = &mut bytes[index.index(text.len())];
    let other = |step| b'!' + (byte.saturating_sub(b'!') + step) % 94;
    let first = other(step);
    let is_same_letter = byte.eq_ignore_ascii_case(&first);
    *byte = if is_same_letter {
        other(step + 1)
    } else {
        first
    };
    String::from_utf8(bytes).unwrap()
}

proptest! {
    /// A request that differs from the signed one in a byte does not verify.
    #[test]
    fn no_changed_request_verifies(part in 0..7_usize, index: Index, step in 1_u8..93) {
        let right = Request::of(&vectors()["requests"][3], "python");
        let mut request = right.clone();
        let field = |name: &'static str| {
            let value = right.headers[name].to_str().unwrap();
            right.with(name, &flip(value, index, step))
        };
        match part {
            0 => request.method = flip(&right.method, index, step),
            1 => request.target = flip(&right.target, index, step),
            2 => request.body[index.index(right.body.len())] ^= step,
            3 => request = field("host"),
            4 => request = field("x-trace"),
            5 => request = field("x-sdk-date"),
            _ => request = field("authorization"),
        }
        let signed_at = "2024-02-29T00:00:00Z".parse().unwrap();
        prop_assert_eq!(right.verify_at(signed_at), Ok("qa-tools"));
        prop_assert!(request.verify_at(signed_at).is_err());
    }

    /// A query means the same in every order and in every escape.
    #[test]
    fn queries_are_sorted_and_encoded_once(
        pairs in proptest::collection::vec(("[a-z~ ]{1,3}", "\\PC{0,4}"), 0..4),
    ) {
        let encode = |text: &str| -> String {
            text.bytes().map(|byte| format!("%{byte:02x}")).collect()
        };
        let write = |pairs: &[(String, String)]| {
            let pairs = pairs.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value)));
            pairs.collect::<Vec<_>>().join("&")
        };
        let mut reversed = pairs.clone();
        reversed.reverse();
        let canonical = canonical_query(&write(&pairs)).unwrap();
        prop_assert_eq!(&canonical, &canonical_query(&write(&reversed)).unwrap());
        let text = String::from_utf8(canonical.clone()).unwrap();
        prop_assert_eq!(canonical, canonical_query(&text).unwrap());
    }
}
