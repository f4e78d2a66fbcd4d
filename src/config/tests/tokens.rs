//! `[callers.NAME] jwt`: which tokens identify a caller, and every mistake.

use super::*;

const QA: &str = "[callers.qa]\naccess_key = \"AK\"\njwt = { jwks_file = \"idp.jwks\", issuer = \"https://idp\", \
                  audience = \"recordings\", claims = { group = \"qa\" } }\n";

/// Keys that another implementation made: five usable ones and five that are not.
fn keys() -> serde_json::Value {
    let vectors = include_str!("../../../tests/vectors/jwt.json");
    serde_json::from_str::<serde_json::Value>(vectors).unwrap()["jwks"].clone()
}

fn dir() -> TestDir {
    let dir = TestDir::new();
    dir.write("idp.jwks", &keys().to_string());
    dir
}

#[test]
fn keys_are_read_and_those_that_are_not_used_are_named() {
    let dir = dir();
    let (config, warnings) = dir.parse(&format!("{MINIMAL}\n{QA}")).unwrap();
    let rules = config.callers["qa"].jwt.as_ref().unwrap();
    assert_eq!(rules.keys.usable().count(), 5);
    assert_eq!(
        (rules.issuer.as_str(), rules.audience.as_str()),
        ("https://idp", "recordings")
    );
    assert_eq!(rules.claims["group"], "qa");
    assert!(config.files.contains_key(&dir.path("idp.jwks")));
    let shown = &config.redacted()["callers"]["qa"]["jwt"];
    assert_eq!(shown["claims"]["group"], "qa");
    assert_eq!(
        (&shown["keys"][3]["kid"], &shown["keys"][3]["alg"]),
        (&"p256".into(), &"ES256".into())
    );
    let [warning] = warnings.as_slice() else {
        panic!("{warnings:?}");
    };
    for named in ["\"rsa1024\"", "\"p384\"", "\"k1\"", "\"x25519\"", "\"enc\""] {
        assert!(warning.message().contains(named), "{warning}");
    }
    assert!(!warning.message().contains("\"rsa2048\""), "{warning}");
    // A byte-order mark of an editor is not part of the keys.
    dir.write("idp.jwks", &format!("\u{feff}{}\n", keys()));
    assert_eq!(dir.config(&format!("{MINIMAL}\n{QA}")).callers.len(), 1);
}

#[test]
fn mistakes_are_named_and_show_nothing_of_a_file() {
    let dir = dir();
    let private = r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","d":"CANARY"}]}"#;
    dir.write("private.jwks", private);
    dir.write("oct.jwks", r#"{"keys":[{"kty":"oct","kid":"CANARY"}]}"#);
    dir.write("none.jwks", r#"{"keys":[{"kty":"EC","crv":"P-521"}]}"#);
    dir.write("pem.jwks", "-----BEGIN PUBLIC KEY-----\nCANARY\n");
    dir.write("large.jwks", &" ".repeat(1024 * 1024 + 1));
    let inline = QA.replace("\"idp.jwks\"", &format!("'{private}'"));
    for (text, message) in [
        (QA.replace("jwks_file = \"idp.jwks\", ", ""), "no jwks_file"),
        (QA.replace("issuer = \"https://idp\", ", ""), "no issuer"),
        (QA.replace("audience = \"recordings\", ", ""), "no audience"),
        (QA.replace("\"https://idp\"", "\"\""), "an empty issuer"),
        (QA.replace("\"recordings\"", "\"\""), "an empty audience"),
        (QA.replace("\"recordings\"", "[\"recordings\"]"), "audience"),
        (QA.replace("\"idp.jwks\"", "\"\""), "an empty jwks_file"),
        (
            QA.replace("idp.jwks", "missing.jwks"),
            "cannot read missing.jwks",
        ),
        (
            QA.replace("idp.jwks", "private.jwks"),
            "key 1 is a private key",
        ),
        (QA.replace("idp.jwks", "oct.jwks"), "key 1 is symmetric"),
        (
            QA.replace("idp.jwks", "none.jwks"),
            "no usable key (key 1: another type",
        ),
        (QA.replace("idp.jwks", "pem.jwks"), "not JSON"),
        (QA.replace("idp.jwks", "large.jwks"), "larger than 1 MiB"),
        (inline, "the content of a file in the place of its name"),
        (QA.replace("group =", "aud ="), "aud is no further claim"),
        (QA.replace("\"qa\" }", "[\"qa\"] }"), "group"),
        (QA.replace("jwks_file", "jwks_uri"), "unknown key"),
    ] {
        assert_mistake(&dir, &text, message);
    }
}

/// Asserts that a text has this mistake, and that the diagnosis shows no secret.
fn assert_mistake(dir: &TestDir, text: &str, message: &str) {
    assert!(dir.parse(&format!("{MINIMAL}\n{text}")).is_err(), "{text}");
    let shown = dir.error_text(&format!("{MINIMAL}\n{text}"));
    assert!(shown.contains(message), "{message}\n{shown}");
    assert!(!shown.contains("CANARY"), "{shown}");
}

#[test]
fn two_callers_differ_in_what_their_tokens_are() {
    let dir = dir();
    let second = QA.replace("callers.qa", "callers.qb");
    for (text, message) in [
        (format!("{QA}{second}"), "fit caller qa too"),
        (
            format!(
                "{QA}{}",
                second.replace(", claims = { group = \"qa\" }", "")
            ),
            "fit caller qa too",
        ),
        (
            format!(
                "{QA}{}",
                second.replace("group = \"qa\"", "group = \"qa\", site = \"x\"")
            ),
            "fit caller qa too",
        ),
    ] {
        assert_mistake(&dir, &text, message);
    }
    for (from, to) in [
        ("\"qa\" }", "\"qb\" }"),
        ("group =", "team ="),
        ("https://idp", "https://idp2"),
        ("recordings", "others"),
    ] {
        let text = format!("{MINIMAL}\n{QA}{}", second.replace(from, to));
        assert_eq!(dir.config(&text).callers.len(), 2, "{to}");
    }
}
