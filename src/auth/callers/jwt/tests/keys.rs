//! JWK Sets: which keys are used, which are skipped, and what is refused.

use super::*;

#[test]
fn keys_that_do_not_fit_are_skipped_and_named() {
    let set = JwkSet::parse(vectors()["jwks"].to_string().as_bytes()).unwrap();
    let usable: Vec<_> = set
        .usable()
        .map(|(id, algorithm)| (id.unwrap(), algorithm.name()))
        .collect();
    let expected = [
        ("rsa2048", "RS256"),
        ("rsa3072", "RS256"),
        ("rsa4096", "RS256"),
        ("p256", "ES256"),
        ("ed25519", "EdDSA"),
    ];
    assert_eq!(usable, expected);
    let other = "another type than RSA, EC with P-256, OKP with Ed25519";
    assert_eq!(
        set.skipped(),
        [
            "key 1 (\"rsa1024\"): an RSA key of 1024 bits, not 2048 to 4096".to_owned(),
            format!("key 6 (\"p384\"): {other}"),
            format!("key 7 (\"k1\"): {other}"),
            format!("key 9 (\"x25519\"): {other}"),
            "key 10 (\"enc\"): its use is not \"sig\"".to_owned(),
        ]
    );
}

/// A set of one key with a member changed; null removes it.
fn changed(key: &Value, member: &str, value: Value) -> Result<JwkSet, JwkSetError> {
    let mut key = key.clone();
    if value.is_null() {
        key.as_object_mut().unwrap().remove(member);
    } else {
        key[member] = value;
    }
    JwkSet::parse(json!({ "keys": [key] }).to_string().as_bytes())
}

#[test]
fn every_member_of_a_key_is_checked() {
    let keys = vectors()["jwks"]["keys"].clone();
    let issuer = TestIssuer::new();
    let (ed, ec) = (issuer.ed_jwk(), issuer.ec_jwk());
    let rsa = keys[1].clone();
    let even = {
        let mut bytes = URL_SAFE_NO_PAD.decode(rsa["n"].as_str().unwrap()).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        encode(bytes)
    };
    for (key, member, value, reason) in [
        (&ed, "use", json!("enc"), "its use is not"),
        (&ed, "use", json!(1), "its use is not"),
        (&ed, "key_ops", json!(["sign"]), "its key_ops"),
        (&ed, "alg", json!("ES256"), "its alg is not EdDSA"),
        (&ed, "alg", json!("Ed25519"), "its alg is not EdDSA"),
        (&ed, "kid", json!(7), "its kid is no text"),
        (&ed, "crv", json!("Ed448"), "another type"),
        (&ed, "crv", json!("P-256"), "another type"),
        (&ed, "kty", json!("ed"), "another type"),
        (&ed, "x", json!("AAAA"), "not an Ed25519 key"),
        (&ed, "x", json!("!"), "its x is not base64url"),
        (&ed, "x", json!(null), "its x is not base64url"),
        (&ec, "y", json!(encode([0; 32])), "not a point of P-256"),
        (&ec, "y", json!(encode([0; 31])), "not a point of P-256"),
        (&ec, "alg", json!("ES384"), "its alg is not ES256"),
        (&rsa, "alg", json!("PS256"), "its alg is not RS256"),
        (&rsa, "alg", json!("RSA-OAEP"), "its alg is not RS256"),
        (&rsa, "e", json!("AQ"), "not an RSA key"),
        (&rsa, "e", json!("Ag"), "not an RSA key"),
        (&rsa, "e", json!("AQAAAAE"), "not an RSA key"),
        (&rsa, "e", json!(""), "not an RSA key"),
        (&rsa, "n", json!(even), "not an RSA key"),
        (&rsa, "n", json!(""), "an RSA key of 0 bits"),
        (
            &rsa,
            "n",
            json!(encode([0xff; 255])),
            "an RSA key of 2040 bits",
        ),
        (
            &rsa,
            "n",
            json!(encode([0xff; 513])),
            "an RSA key of 4104 bits",
        ),
    ] {
        let Err(JwkSetError::NoUsableKey(why)) = changed(key, member, value.clone()) else {
            panic!("{member} {value}");
        };
        assert!(why.contains(reason), "{member} {value}: {why}");
    }
    for (key, member, value) in [
        (&ed, "use", json!("sig")),
        (&ed, "key_ops", json!(["verify"])),
        (&ed, "alg", json!("EdDSA")),
        (&rsa, "alg", json!("RS256")),
        (&rsa, "x5c", json!(["AAAA"])),
    ] {
        assert!(changed(key, member, value).is_ok(), "{member}");
    }
}

#[test]
fn secrets_and_what_is_no_set_are_errors() {
    let issuer = TestIssuer::new();
    let (ed, ec) = (issuer.ed_jwk(), issuer.ec_jwk());
    let parse = |text: &str| JwkSet::parse(text.as_bytes()).unwrap_err();
    for member in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        let error = changed(&ed, member, json!("CANARY")).unwrap_err();
        assert_eq!(error, JwkSetError::Private(1, member));
        assert!(!error.to_string().contains("CANARY"));
    }
    // A secret among right keys, and one that would be skipped.
    let mut private = ec.clone();
    private["use"] = "enc".into();
    private["d"] = "CANARY".into();
    let set = json!({ "keys": [ed, private] });
    assert_eq!(parse(&set.to_string()), JwkSetError::Private(2, "d"));
    let set = json!({ "keys": [ed, { "kty": "oct" }] });
    assert_eq!(parse(&set.to_string()), JwkSetError::Symmetric(2));
    let set = json!({ "keys": [ed, ec, ed] });
    assert_eq!(parse(&set.to_string()), JwkSetError::RepeatedId(3));
    let mut same_id = ec;
    same_id["kid"] = "ed".into();
    assert!(JwkSet::parse(json!({ "keys": [ed, same_id] }).to_string().as_bytes()).is_ok());
    let many = |count| {
        let mut key = ed.clone();
        key.as_object_mut().unwrap().remove("kid");
        json!({ "keys": vec![key; count] }).to_string()
    };
    assert!(JwkSet::parse(many(32).as_bytes()).is_ok());
    assert_eq!(parse(&many(33)), JwkSetError::TooManyKeys);
    assert_eq!(
        parse(r#"{"keys":[]}"#).to_string(),
        "no usable key (an empty list)"
    );
    for text in ["{}", r#"{"keys":{}}"#, r#"{"keys":[7]}"#, &ed.to_string()] {
        assert_eq!(parse(text), JwkSetError::NoKeys, "{text}");
    }
    let repeated = r#"{"keys":[{"kty":"OKP","kty":"OKP"}]}"#;
    for text in ["", "[]", "-----BEGIN PUBLIC KEY-----", repeated] {
        assert_eq!(parse(text), JwkSetError::NotJson, "{text}");
    }
}
