use std::sync::Arc;

use data_encoding::{BASE64, BASE64URL};
use http::{HeaderValue, Request};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::auth::{AppCredential, JwkSet, TokenRules, TokenVerifier};

const KEY: &str = "0123456789abcdef0123456789abcdef";
/// One that begins like the other.
const LONGER: &str = "0123456789abcdef0123456789abcdef+/==";
const APP_SECRET: &str = "a/secret=";
const ISSUER: &str = "https://idp.example.com";

fn search() -> CredentialSearch {
    let keys = [KEY, LONGER].map(|key| Secret::new(key.as_bytes().to_vec()));
    let app = AppCredential {
        app_key: "qa".to_owned(),
        app_secret: Secret::new(APP_SECRET.as_bytes().to_vec()),
    };
    let x = BASE64URL_NOPAD.encode(&[7; 32]);
    let jwks = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": x }] });
    let rules = TokenRules {
        keys: JwkSet::parse(jwks.to_string().as_bytes()).unwrap(),
        issuer: ISSUER.to_owned(),
        audience: "recordings".to_owned(),
        claims: std::collections::BTreeMap::new(),
    };
    let tokens = Arc::new(TokenVerifier::new(Arc::new(rules)));
    let credentials = CallerCredentials {
        certificates: &[],
        api_keys: &keys,
        tokens: Some(&tokens),
        app: Some(&app),
    };
    CredentialSearch::new(std::iter::once(credentials))
}

fn head(target: &str, field: &'static str, value: &str) -> Parts {
    let value = HeaderValue::from_str(value).unwrap();
    let request = Request::get(target).header(field, value);
    request.body(()).unwrap().into_parts().0
}

/// Whether an `Authorization` of this value is kept from the nodes.
fn finds(value: &str) -> bool {
    search().is_in(&head("/", "authorization", value))
}

fn basic(text: &str) -> String {
    format!("Basic {}", BASE64.encode(text.as_bytes()))
}

fn token(issuer: &str) -> String {
    let part = |value: serde_json::Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let (header, payload) = (json!({ "alg": "EdDSA" }), json!({ "iss": issuer }));
    format!("{}.{}.c2ln", part(header), part(payload))
}

#[test]
fn an_api_key_is_found_wherever_a_client_puts_it() {
    for key in [KEY, LONGER] {
        for value in [
            key.to_owned(),
            format!("Token {key}"),
            format!("Token token={key}"),
            format!("ApiKey apikey={key}, x=y"),
            format!("Bearer{key}"),
            format!("Bearer={key}"),
            format!("Bearer/{key}"),
            format!("Bearer <{key}>"),
            format!("{{{key}}}[x]"),
            format!("auth-v2/{key}/2026-11-29T11:00:00Z/host/00"),
            format!("x{key}x"),
            basic(key),
            basic(&format!("user:{key}")),
            basic(&format!("{key}:")),
            basic(&format!("a:b:{key}")),
            basic(&format!("u:{key}")).replace(' ', ""),
            basic(&format!("us:{key}")).replace(' ', "/"),
            basic(&format!("u:{key}")).replace(' ', "="),
            format!(
                "Basic {}",
                BASE64URL.encode(format!("u?>:{key}??>").as_bytes())
            ),
        ] {
            assert!(finds(&value), "{value}");
        }
        assert!(search().is_in(&head("/", "cookie", &format!("key={key}"))));
        assert!(search().is_in(&head(&format!("/?api_key={key}"), "host", "x")));
        let encoded = key
            .replace('/', "%2F")
            .replace('=', "%3D")
            .replace('0', "%30");
        assert!(search().is_in(&head(&format!("/?api_key={encoded}"), "host", "x")));
        assert!(finds(&format!("Token {encoded}")));
    }
    for value in [
        "",
        &KEY[1..],
        &KEY.to_uppercase(),
        &basic(&KEY[1..]),
        "auth-v2/279a08bbd8d949a0/2026-11-29T11:00:00Z/content-length;host/0123456789abcdef0123456789abcdee",
    ] {
        assert!(!finds(value), "{value}");
    }
}

#[test]
fn a_token_of_an_issuer_is_found_wherever_it_stands() {
    let right = token(ISSUER);
    for value in [
        right.clone(),
        format!("DPoP {right}"),
        format!("Basic x, Bearer {right}"),
        format!("Token token=\"{right}\""),
        format!("JWT:{right}x"),
        format!("JWT.{right}"),
        format!("JWT {right}.x"),
        format!("JWT/{right}=="),
        format!("Bearer{right}"),
        basic(&format!("user:{right}")),
    ] {
        assert!(finds(&value), "{value}");
    }
    for value in ["a.b.c", "..", &token("https://other.example.com")] {
        assert!(!finds(value), "{value}");
    }
}

#[test]
fn an_app_is_found_in_every_form_of_its_scheme_and_its_secret_in_any() {
    for value in [
        "SDK-HMAC-SHA256 Access=qa, SignedHeaders=host, Signature=0",
        "sdk-hmac-sha256 access=qa",
        "SDK-HMAC-SM3 Access=\"qa\"",
        "SDK-HMAC-SHA256 x,Access = qa ,y",
        "SDK-HMAC-SHA256/qa",
        "SDK-HMAC-SHA256 Access=<qa>",
        APP_SECRET,
        "Token \"a/secret=\"",
        &basic("qa:a/secret="),
    ] {
        assert!(finds(value), "{value}");
    }
    for value in [
        "Basic qa",
        "SDK-HMAC-SHA256 Access=qa2, SignedHeaders=host",
        "SDK-HMAC-SHA256",
        "Bearer a/secret",
    ] {
        assert!(!finds(value), "{value}");
    }
}

#[test]
fn what_is_too_long_to_be_searched_counts_as_found() {
    assert!(!finds(&"Bearer ".repeat(MAX_LENGTH / 7)));
    assert!(finds(&"Bearer ".repeat(MAX_LENGTH / 7 + 1)));
}

proptest! {
    /// The one pass finds what a comparison at every place finds.
    #[test]
    fn keys_are_found_at_every_place(
        keys in vec("[ab]{32,40}", 1..4),
        text in "[ab ]{0,200}",
        at in 0_usize..200,
        with in any::<proptest::sample::Index>(),
    ) {
        let mut text = text;
        text.insert_str(at.min(text.len()), with.get(keys.as_slice()).as_str());
        let search = KeySearch::new(keys.iter().map(String::as_bytes));
        let is_key = |part: &[u8]| keys.iter().any(|key| key.as_bytes() == part);
        prop_assert!(search.is_in(text.as_bytes(), is_key));
        for end in 0..text.len() {
            let start = &text[..end];
            let expected = keys.iter().any(|key| start.contains(key.as_str()));
            prop_assert_eq!(search.is_in(start.as_bytes(), is_key), expected);
        }
    }
}
