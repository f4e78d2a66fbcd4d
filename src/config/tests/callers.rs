//! `[callers.NAME]`: what is valid, and every mistake.

use super::*;

/// The minimal file with a listener that verifies client certificates, and these tables.
fn with_callers(tables: &str) -> String {
    let ca = "{ client_ca = \"ca.pem\", certificate";
    format!("{}\n{tables}", MINIMAL.replacen("{ certificate", ca, 1))
}

const QA: &str = "[callers.qa]\naccess_key = \"AK\"\nclient_certificate = [\"CN=qa\"]\n";

#[test]
fn a_caller_has_defaults() {
    let config = TestDir::new().config(&with_callers(QA));
    let caller = &config.callers["qa"];
    assert_eq!(caller.interfaces, ["getRecordFileUrlFromObs"]);
    assert!(caller.listeners.contains("ccfs") && caller.enabled);
    assert_eq!(
        (caller.rate_limit, caller.ceiling, caller.in_flight),
        (None, None, None)
    );
    let shown = &config.redacted()["callers"]["qa"];
    assert_eq!(shown["client_certificate"][0], "CN=qa");
    let limited = with_callers(&format!("{QA}rate_limit = {{ per_second = 100 }}"));
    let config = TestDir::new().config(&limited);
    assert_eq!(
        config.callers["qa"].ceiling,
        Some(Rate::per_second(2_000, 2_000))
    );
}

#[test]
fn api_keys_are_read_and_not_shown() {
    let dir = TestDir::new();
    dir.write("key", "0123456789abcdef0123456789abcdef\n");
    dir.write("key-2", "fedcba9876543210fedcba9876543210");
    let caller = "[callers.qa]\naccess_key = \"AK\"\napi_key_file = [\"./key\", \"./key-2\"]";
    let config = dir.config(&format!("{MINIMAL}\n{caller}"));
    assert_eq!(config.callers["qa"].api_keys.len(), 2);
    assert!(config.files.contains_key(&dir.path("key")));
    assert!(!format!("{config:?}{}", config.redacted()).contains("0123456789abcdef"));
    let other = "[callers.qb]\naccess_key = \"AK\"\napi_key_file = \"./key-2\"";
    for (text, message) in [
        (
            format!("{caller}\n{other}"),
            "caller qa has the same API key",
        ),
        (caller.replace("./key-2", "./sk"), "not an API key"),
        (caller.replace("./key-2", "./none"), "cannot read"),
        (
            caller.replace("./key-2", "CANARY0123456789"),
            "no file of this name",
        ),
        (
            caller.replace(
                "api_key_file = [\"./key\", \"./key-2\"]",
                "api_key = \"CANARY\"",
            ),
            "unknown key",
        ),
    ] {
        let Err(diagnosis) = dir.parse(&format!("{MINIMAL}\n{text}")) else {
            panic!("no mistake is found in\n{text}");
        };
        let shown = diagnosis.to_string();
        assert!(
            shown.contains(message) && !shown.contains("CANARY"),
            "{text}\n{shown}"
        );
    }
    dir.write("jwt", "0123456789abcdef.0123456789abcdef.0123456789");
    let form = dir.parse(&format!(
        "{MINIMAL}\n{}",
        caller.replace("./key-2", "./jwt")
    ));
    assert!(form.unwrap_err().to_string().contains("three parts"));
}

#[test]
fn an_api_key_in_another_place_is_not_shown() {
    let dir = TestDir::new();
    let key = "APIKEYCANARYinline0123456789abcdef0123";
    let blank = "APIKEYCANARYinline 0123456789abcdef0123";
    for text in [
        QA.replace("CN=qa", key),
        QA.replace("\"AK\"", &format!("\"{key}\"")),
        format!("{QA}interfaces = [\"{key}\"]"),
        format!("{QA}listeners = [\"{key}\"]"),
        format!("{QA}not_after = \"{key}\""),
        format!("{QA}{key} = 1"),
        QA.replace("callers.qa", &format!("callers.\"{blank}\"")),
        QA.replace("callers.qa", &format!("callers.\"{blank}\"")) + "in_flight = \"x\"",
        QA.replace("callers.qa", &format!("callers.\"{blank}\"")) + "in_flight = 0",
        QA.replace("callers.qa", &format!("callers.\"{blank}\"")) + "listeners = []",
        QA.replace("callers.qa", &format!("callers.{key}")) + "interfaces = [\"x\"]\nin_flight = 0",
        format!("[callers]\n{key} = 1"),
        format!("[callers.{key}]"),
        format!("[callers.{key}.jwt]\nissuer = 1"),
    ] {
        let Err(diagnosis) = dir.parse(&with_callers(&text)) else {
            panic!("no mistake is found in\n{text}");
        };
        let lines: Vec<_> = diagnosis.problems().iter().map(Problem::one_line).collect();
        let shown = format!("{diagnosis}{lines:?}");
        assert!(!shown.contains("CANARY"), "{text}\n{shown}");
    }
}

#[test]
fn mistakes_in_who_it_is_and_where_it_may_ask_are_named() {
    assert_mistakes(&[
        (
            "[callers.\"q a\"]\naccess_key = \"AK\"\nclient_certificate = [\"CN=q\"]",
            "not a name of a caller",
            "letters",
        ),
        (
            "[callers.qa]\nclient_certificate = [\"CN=qa\"]",
            "no access_key",
            "the account",
        ),
        (
            "[callers.qa]\naccess_key = \"AK\"",
            "nothing identifies",
            "client_certificate",
        ),
        (
            &QA.replace("\"AK\"", "\"AX\""),
            "unknown access key",
            "did you mean \"AK\"?",
        ),
        (
            &QA.replace("CN=", "cn="),
            "not a name of a certificate",
            "CN=",
        ),
        (&QA.replace("[\"CN=qa\"]", "[]"), "has 0 values", "1 to 64"),
        (
            &format!("{QA}listeners = [\"ccf\"]"),
            "unknown listener",
            "did you mean \"ccfs\"?",
        ),
        (
            &format!("{QA}interfaces = [\"downloadRecords\"]"),
            "unknown interface",
            "did you mean \"downloadRecord\"?",
        ),
        (
            &format!("{QA}interfaces = [\"playVoice\"]"),
            "open to all",
            "left out",
        ),
    ]);
}

#[test]
fn mistakes_in_what_it_may_do_are_named() {
    let two = "[callers.qb]\naccess_key = \"AK\"\nclient_certificate = [\"CN=qa\"]";
    assert_mistakes(&[
        (&format!("{QA}interfaces = []"), "has 0 values", "1 to 64"),
        (&format!("{QA}in_flight = 0"), "out of range", "1 to"),
        (
            &format!("{QA}not_before = 2026-01-02T00:00:00Z\nnot_after = 2026-01-01T00:00:00Z"),
            "not after not_before",
            "later",
        ),
        (
            &format!("{QA}rate_limit = {{ burst = 1 }}"),
            "a rate without",
            "per_second",
        ),
        (&format!("{QA}secret_key = \"x\""), "unknown key", ""),
        (
            &format!("{QA}{two}"),
            "caller qa has this certificate too",
            "one caller",
        ),
    ]);
}

/// Asserts that each of these tables has one mistake, with this message and help.
fn assert_mistakes(cases: &[(&str, &str, &str)]) {
    for (tables, message, help) in cases {
        let dir = TestDir::new();
        let signs = [rcgen::KeyUsagePurpose::KeyCertSign];
        dir.write("ca.pem", &authority("clients", &signs, &[]));
        let Err(diagnosis) = dir.parse(&with_callers(tables)) else {
            panic!("no mistake is found in\n{tables}");
        };
        let [problem] = diagnosis.problems() else {
            panic!("{tables}\n{diagnosis}");
        };
        assert!(problem.message().contains(message), "{tables}\n{problem}");
        assert!(problem.help().contains(help), "{tables}\n{problem}");
    }
}

#[test]
fn certificates_need_an_authority_and_one_that_is_the_same_everywhere() {
    let dir = TestDir::new();
    let Err(diagnosis) = dir.parse(&format!("{MINIMAL}\n{QA}")) else {
        panic!("no mistake is found");
    };
    assert!(
        diagnosis
            .to_string()
            .contains("none of its listeners has a client_ca"),
        "{diagnosis}"
    );
    let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
    dir.write("other.pem", &other.cert.pem());
    let second = |ca: &str| {
        format!(
            "[listeners.two]\nbind = \"127.0.0.2:0\"\ncluster = \"ccfs\"\n\
             tls = {{ {ca} certificate = \"gateway.pem\", private_key = \"gateway.key\" }}\n"
        )
    };
    for (ca, listeners, is_valid) in [
        ("client_ca = \"ca.pem\",", "", true),
        ("", "", true),
        ("client_ca = \"other.pem\",", "", false),
        ("client_ca = \"other.pem\",", "listeners = [\"two\"]", true),
        (
            "client_ca = \"other.pem\",",
            "listeners = [\"ccfs\", \"two\"]",
            true,
        ),
        ("", "listeners = [\"two\"]", false),
    ] {
        let text = with_callers(&format!("{}{QA}{listeners}", second(ca)));
        assert_eq!(dir.parse(&text).is_ok(), is_valid, "{ca} {listeners}");
    }
}

#[test]
fn an_access_key_of_the_directory_may_be_missing_while_the_gateway_serves() {
    let dir = TestDir::new();
    std::fs::create_dir(dir.path("keys")).unwrap();
    dir.allow("keys", 0o700);
    let text = format!(
        "access_keys_dir = \"keys\"\n{}",
        with_callers(&QA.replace("AK", "gone"))
    );
    dir.write("gateway.toml", &text);
    assert!(Config::load(&dir.path("gateway.toml")).is_err());
    let (config, warnings) = Config::load_to_serve(&dir.path("gateway.toml")).unwrap();
    assert!(config.callers.contains_key("qa"));
    assert!(
        warnings
            .iter()
            .any(|it| it.message().contains("no such access key"))
    );
}

/// A self-signed certificate of an authority with these usages and alternative names, as PEM.
fn authority(name: &str, usages: &[rcgen::KeyUsagePurpose], names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|it| (*it).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = usages.to_vec();
    let key = rcgen::KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().pem()
}

#[test]
fn certificates_of_clients_that_may_give_names_beside_authorities_are_warned_of() {
    let signs = [rcgen::KeyUsagePurpose::KeyCertSign];
    let other = [rcgen::KeyUsagePurpose::DigitalSignature];
    let [one, two] = ["one", "two"].map(|name| authority(name, &signs, &[]));
    let [bare, second_bare] = ["bare", "bare 2"].map(|name| authority(name, &[], &[]));
    let for_use = authority("for-use", &signs, &["partner.example.com"]);
    let none = authority("none", &other, &[]);
    let looks = "may give its clients the name of any caller";
    let no_issuer = "no certificate here may give callers their names";
    for (certificates, expected) in [
        (vec![&one], &[][..]),
        (vec![&one, &two], &[]),
        // Whatever made them made both alike.
        (vec![&bare, &second_bare], &[]),
        (vec![&bare], &[]),
        (vec![&for_use], &[]),
        (vec![&one, &none], &[]),
        (vec![&one, &bare], &["CN=bare"]),
        (vec![&one, &two, &for_use], &["CN=for-use"]),
        (vec![&none], &[no_issuer]),
    ] {
        let dir = TestDir::new();
        let ca: String = certificates.iter().map(|it| it.as_str()).collect();
        dir.write("ca.pem", &ca);
        let (_, warnings) = dir.parse(&with_callers(QA)).unwrap();
        let messages = warnings.iter().map(|it| it.message());
        let messages: Vec<_> = messages
            .filter(|it| it.contains(looks) || it.contains(no_issuer))
            .collect();
        assert_eq!(messages.len(), expected.len(), "{messages:?}");
        for (message, start) in messages.iter().zip(expected) {
            assert!(message.starts_with(start), "{message}");
        }
        // A caller that is known by its key needs no authority.
        let pinned = QA.replace(
            "CN=qa",
            "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        );
        let (_, warnings) = dir.parse(&with_callers(&pinned)).unwrap();
        let mut messages = warnings.iter().map(|it| it.message());
        assert!(!messages.any(|it| it.contains(looks) || it.contains(no_issuer)));
    }
}
