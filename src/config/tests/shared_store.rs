//! `[shared]`.

use std::time::Duration;

use super::*;

/// Returns a directory that also holds seal keys.
fn dir() -> TestDir {
    let dir = TestDir::new();
    dir.write("seal", "0123456789abcdef0123456789abcdef\n");
    dir.write("seal-2", "fedcba9876543210fedcba9876543210");
    dir.write("short", "0123456789abcdef0123456789abcde\n");
    dir.write("password", "pass-word\n");
    dir.write("empty", "\n");
    dir
}

fn with(table: &str) -> String {
    format!("{MINIMAL}\n[shared]\n{table}\n")
}

#[test]
fn a_store_has_defaults() {
    let text = with("url = \"redis://Redis.example\"\nseal_key_file = \"seal\"");
    let (config, warnings) = dir().parse(&text).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let shared = config.shared.as_ref().unwrap();
    assert_eq!(shared.url(), "redis://redis.example:6379");
    assert_eq!(shared.timeout, Duration::from_millis(20));
    assert_eq!(shared.tls, None);
    assert_eq!((&shared.username, &shared.password), (&None, &None));
    assert_eq!(
        shared.seal_keys[0].expose(),
        b"0123456789abcdef0123456789abcdef"
    );
    assert_eq!(dir().config(MINIMAL).shared, None);
}

#[test]
fn a_store_has_all_of_it_and_shows_no_secret() {
    let text = with(
        "url = \"rediss://[::1]:7000/3\"\nusername = \"gateway\"\npassword_file = \"password\"\n\
         tls = { ca = \"ca.pem\", server_name = \"redis.example\" }\ntimeout = \"5ms\"\n\
         seal_key_file = [\"seal\", \"seal-2\"]",
    );
    let config = dir().config(&text);
    let shared = config.shared.as_ref().unwrap();
    assert_eq!(shared.url(), "rediss://[::1]:7000/3");
    assert_eq!(shared.password.as_ref().unwrap().expose(), b"pass-word");
    assert_eq!(shared.seal_keys.len(), 2);
    let tls = shared.tls.as_ref().unwrap();
    assert!(tls.client.alpn_protocols.is_empty() && !tls.insecure);
    let shown = format!("{config:?} {}", config.redacted());
    for secret in ["pass-word", "0123456789abcdef", "fedcba"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    for file in ["seal", "seal-2", "password"] {
        assert!(config.files.keys().any(|it| it.ends_with(file)), "{file}");
    }
}

#[test]
fn another_key_makes_another_store() {
    let dir = dir();
    let store = |keys: &str| {
        let text = with(&format!("url = \"redis://h\"\nseal_key_file = {keys}"));
        dir.config(&text).shared
    };
    assert_eq!(store("\"seal\""), store("[\"seal\"]"));
    assert_ne!(store("\"seal\""), store("\"seal-2\""));
    assert_ne!(
        store("[\"seal\", \"seal-2\"]"),
        store("[\"seal-2\", \"seal\"]")
    );
}

#[test]
fn mistakes_are_reported_with_what_would_be_right() {
    let seal = "seal_key_file = \"seal\"";
    for (table, message) in [
        ("", "a store without a url"),
        (
            "url = \"redis://h\"",
            "a shared store without an encryption key",
        ),
        (
            "url = \"http://h\"",
            "must be redis://host:port or rediss://host:port",
        ),
        (
            "url = \"redis://user@h\"",
            "must hold no user: that is username",
        ),
        ("url = \"redis://:pw@h\"", "is a URL with a password"),
        (
            "url = \"redis://h\"\ntls = { ca = \"ca.pem\" }",
            "needs a url that begins with rediss://",
        ),
        (
            "url = \"rediss://h\"\ntls = { ca = \"sk\" }",
            "no certificate in this file",
        ),
        (
            "url = \"redis://h\"\nusername = \"u\"",
            "a user without a password",
        ),
        (
            "url = \"redis://h\"\npassword_file = \"empty\"",
            "no password in this file",
        ),
        (
            "url = \"redis://h\"\npassword_file = \"gone/x\"",
            "cannot read gone/x",
        ),
        (
            "url = \"redis://h\"\ntimeout = \"0s\"",
            "must be longer than \"0s\"",
        ),
        ("url = \"redis://h\"\ntimeout = 20", "timeout"),
        ("url = \"redis://h\"\nurI = \"x\"", "did you mean `url`?"),
    ] {
        let table = if table == "url = \"redis://h\"" {
            table.to_owned()
        } else {
            format!("{table}\n{seal}")
        };
        let diagnosis = dir().error_text(&with(&table));
        assert!(diagnosis.contains(message), "{table}:\n{diagnosis}");
        assert!(!diagnosis.contains(":pw@"), "{diagnosis}");
    }
}

#[test]
fn a_key_has_a_length_and_an_owner() {
    let url = "url = \"redis://h\"";
    for (keys, message) in [
        ("\"short\"", "the encryption key has 31 bytes"),
        ("[\"seal\", \"seal\"]", "the same key twice"),
        ("\"none/such\"", "cannot read none/such"),
        (
            "\"fedcba9876543210\"",
            "the secret itself does not belong here",
        ),
    ] {
        let diagnosis = dir().error_text(&with(&format!("{url}\nseal_key_file = {keys}")));
        assert!(diagnosis.contains(message), "{keys}:\n{diagnosis}");
        assert!(!diagnosis.contains("fedcba"), "{diagnosis}");
    }
    let dir = dir();
    dir.allow("seal", 0o644);
    let text = with(&format!("{url}\nseal_key_file = \"seal\""));
    let (_, warnings) = dir.parse(&text).unwrap();
    assert!(
        warnings[0].to_string().contains("can be read by others"),
        "{warnings:?}"
    );
}
