//! Files without mistakes: defaults, alternative syntax, merging, secrets.

use std::time::Duration;

use super::*;
use crate::cluster::{HostPolicy, NodeAddress, Policy};
use crate::tls::Validity;

#[test]
fn a_minimal_file_is_enough() {
    let dir = TestDir::new();
    let (config, warnings) = dir.parse(MINIMAL).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let listener = &config.listeners["ccfs"];
    assert_eq!(listener.routes, [("/".to_owned(), "ccfs".into())]);
    assert_eq!(listener.tls.certificates.len(), 1);
    let cluster = &config.clusters["ccfs"];
    assert_eq!(
        (cluster.balance, cluster.host),
        (Policy::LeastRequest, HostPolicy::Preserve)
    );
    assert!(!cluster.insecure_skip_verify);
    assert_eq!(cluster.tls.alpn_protocols, [b"http/1.1"]);
    let account = config.access_keys.get("AK").unwrap();
    assert_eq!(account.in_flight, 256);
    assert_eq!((account.rate_limit, account.ceiling), (None, None));
    assert_eq!(config.limits.clock_window, Some(Duration::from_secs(900)));
    assert_eq!(config.admin.bind, Some("127.0.0.1:9901".parse().unwrap()));
    assert!(config.server.workers >= 1);
    let names: Vec<_> = config
        .files
        .iter()
        .map(|(path, _)| path.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(names, ["ca.pem", "gateway.key", "gateway.pem", "sk"]);
}

#[test]
fn a_failed_node_is_detected_in_time() {
    let config = TestDir::new().config(MINIMAL);
    let check = config.clusters["ccfs"].health_check.as_ref().unwrap();
    // Jittered by a tenth; a node that hangs costs the whole timeout each time.
    let one_check = check.interval.mul_f64(1.1) + check.timeout;
    assert!(one_check * check.unhealthy_after < Duration::from_secs(5));
    assert!(check.interval.mul_f64(1.1) * check.healthy_after < Duration::from_secs(5));
}

#[test]
fn routes_are_longest_first() {
    let text = MINIMAL.replace(
        "cluster = \"ccfs\"",
        "routes = { \"/\" = \"ccfs\", \"/CCFS/resource/\" = \"ccfs\", \"/CCFS/\" = \"ccfs\" }",
    );
    let config = TestDir::new().config(&text);
    let prefixes: Vec<_> = config.listeners["ccfs"]
        .routes
        .iter()
        .map(|(prefix, _)| prefix.as_str())
        .collect();
    assert_eq!(prefixes, ["/CCFS/resource/", "/CCFS/", "/"]);
}

#[test]
fn nodes_have_addresses_and_weights() {
    let text = MINIMAL.replace(
        "\"https://10.0.0.1:8443\"",
        "\"https://Node.example:8443/\", { url = \"https://[fd00::1]:1\", weight = 3 }, \"https://plain\"",
    );
    let config = TestDir::new().config(&text);
    let nodes: Vec<_> = config.clusters["ccfs"]
        .nodes
        .iter()
        .map(|node| (node.address.clone(), node.weight))
        .collect();
    let address = |host: &str, port| NodeAddress {
        host: host.into(),
        port,
    };
    let expected = [
        (address("node.example", 8443), 1),
        (address("fd00::1", 1), 3),
        (address("plain", 443), 1),
    ];
    assert_eq!(nodes, expected);
}

#[test]
fn an_expired_or_future_certificate_is_a_warning() {
    let dir = TestDir::new();
    for (from, to, message) in [
        (1990, 1991, "expired at 1991"),
        (2900, 2901, "not yet valid: it begins at 2900"),
    ] {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        dir.write("gateway.pem", &params.self_signed(&key).unwrap().pem());
        dir.write("gateway.key", &key.serialize_pem());
        let (_, warnings) = dir.parse(MINIMAL).unwrap();
        let [warning] = warnings.as_slice() else {
            panic!("{warnings:?}");
        };
        assert_eq!(warning.severity(), Severity::Warning);
        assert!(warning.message().contains(message), "{warning}");
    }
}

#[test]
fn a_certificate_that_expires_soon_is_a_warning() {
    let certificate = Validity {
        not_before: "2026-01-01T00:00:00Z".parse().unwrap(),
        not_after: "2026-03-31T00:00:00Z".parse().unwrap(),
    };
    let message = |now: &str| {
        let now: Timestamp = now.parse().unwrap();
        certificate.warning_at(now.into())
    };
    assert_eq!(message("2026-03-16T23:59:59Z"), None);
    let soon = message("2026-03-17T00:00:01Z").unwrap();
    assert!(soon.contains("expires at 2026-03-31"), "{soon}");
    let over = message("2026-03-31T00:00:01Z").unwrap();
    assert!(over.contains("expired at"), "{over}");
}

#[test]
fn deadlines_that_are_not_written_give_way() {
    let dir = TestDir::new();
    for (written, message) in [
        ("per_try = \"200ms\"", ["200ms", "200ms", "9s", "1m"]),
        ("per_try = \"9500ms\"", ["1s", "9500ms", "9500ms", "1m"]),
        ("overall = \"5s\"", ["1s", "5s", "5s", "1m"]),
        ("overall = \"2m\"", ["1s", "8s", "2m", "2m"]),
        ("fetch = \"5s\"", ["1s", "5s", "5s", "5s"]),
        ("connect = \"9s\"", ["9s", "9s", "9s", "1m"]),
        ("overall = \"500ms\"", ["500ms", "500ms", "500ms", "1m"]),
    ] {
        let timeouts = format!("timeouts = {{ {written} }}\nnodes =");
        let config = dir.config(&MINIMAL.replace("nodes =", &timeouts));
        let shown = &config.redacted()["clusters"]["ccfs"]["timeouts"];
        let shown = ["connect", "per_try", "overall", "fetch"].map(|key| &shown[key]);
        assert_eq!(shown, message, "{written}");
    }
}

#[test]
fn risks_are_warnings() {
    let dir = TestDir::new();
    let another = "[clusters.other]\nnodes = [\"https://h:1\"]\ntls = { ca = \"ca.pem\" }\n";
    let (keyless, _) = MINIMAL.split_once("[access_keys.AK]").unwrap();
    for (text, marked, help) in [
        (
            MINIMAL.replace("Asia/Shanghai", "Etc/GMT+8"),
            "Etc/GMT+8 is UTC-8",
            "\"GMT+8\"",
        ),
        (format!("{another}{MINIMAL}"), "no listener uses", "route"),
        (keyless.to_owned(), "no access keys", "[access_keys.AK]"),
        (
            MINIMAL.replace("127.0.0.1:0", "10.0.0.1:8443"),
            "is listener ccfs of this gateway",
            "loop-detected",
        ),
    ] {
        let (_, warnings) = dir.parse(&text).unwrap();
        let [warning] = warnings.as_slice() else {
            panic!("{warnings:?}");
        };
        assert_eq!(warning.severity(), Severity::Warning);
        assert!(warning.message().contains(marked), "{warning}");
        assert!(warning.help().contains(help), "{warning}");
    }
}

#[test]
fn skipping_verification_is_a_warning() {
    let text = MINIMAL.replace("ca = \"ca.pem\"", "insecure_skip_verify = true");
    let (config, warnings) = TestDir::new().parse(&text).unwrap();
    assert!(config.clusters["ccfs"].insecure_skip_verify);
    assert!(
        warnings[0].message().contains("not verified"),
        "{warnings:?}"
    );
}

#[test]
fn several_certificates_and_client_certificates() {
    let text = MINIMAL.replace(
        "tls = { certificate = \"gateway.pem\", private_key = \"gateway.key\" }",
        "tls = { certificates = [{ certificate = \"gateway.pem\", private_key = \"gateway.key\" }, { certificate = \"gateway.pem\", private_key = \"gateway.key\" }], client_ca = \"ca.pem\" }\nproxy_protocol = { trusted = [\"10.0.0.0/8\", \"192.0.2.1\"] }",
    );
    let config = TestDir::new().config(&text);
    let listener = &config.listeners["ccfs"];
    assert_eq!(
        (
            listener.tls.certificates.len(),
            listener.tls.certificate_files.len()
        ),
        (2, 2)
    );
    assert!(listener.tls.client_ca.is_some());
    assert_eq!(listener.tls.client_auth, ClientAuth::Required);
    assert_eq!(listener.proxy_protocol[1].to_string(), "192.0.2.1/32");
}

#[test]
fn zero_or_false_turns_a_setting_off() {
    let text = format!(
        "{MINIMAL}\n[clusters.ccfs.health_check]\nenabled = false\n[limits]\nclock_window = \"0s\"\n[cache]\nmax_size = \"0B\"\nnegative_ttl = \"0s\"\n[admin]\nbind = \"off\""
    );
    let config = TestDir::new().config(&text);
    assert!(config.clusters["ccfs"].health_check.is_none());
    assert_eq!(config.limits.clock_window, None);
    assert_eq!(config.cache.max_size, 0);
    assert!(config.cache.negative_ttl.is_zero());
    assert_eq!(config.admin.bind, None);
}

#[test]
fn the_ceiling_follows_the_rate() {
    let rate = |per_second, burst| Some(Rate::per_second(per_second, burst));
    for (written, rate_limit, ceiling) in [
        (
            "rate_limit = { per_second = 10 }",
            rate(10, 10),
            rate(1_000, 1_000),
        ),
        (
            "rate_limit = { per_second = 100, burst = 300 }",
            rate(100, 300),
            rate(2_000, 2_000),
        ),
        (
            "rate_limit = { per_minute = 6_000, burst = 3 }",
            Some(Rate {
                requests: 6_000,
                period: Period::Minute,
                burst: 3,
            }),
            rate(2_000, 2_000),
        ),
        (
            "rate_limit = { per_hour = 500 }",
            Some(Rate::with_default_burst(500, Period::Hour)),
            rate(1_000, 1_000),
        ),
        ("ceiling = { per_second = 5, burst = 6 }", None, rate(5, 6)),
    ] {
        let config = TestDir::new().config(&format!("{MINIMAL}\n{written}"));
        let account = config.access_keys.get("AK").unwrap();
        assert_eq!(
            (account.rate_limit, account.ceiling),
            (rate_limit, ceiling),
            "{written}"
        );
    }
}

#[test]
fn a_table_overrides_the_defaults_key_by_key() {
    let text = format!(
        "{MINIMAL}\nin_flight = 7\n[access_keys.B]\nsecret_key_file = \"sk\"\n[access_key_defaults]\ntime_zone = \"GMT+8\"\nin_flight = 3\nenabled = false\nrate_limit = {{ per_second = 9 }}"
    );
    let config = TestDir::new().config(&text);
    let (a, b) = (
        config.access_keys.get("AK").unwrap(),
        config.access_keys.get("B").unwrap(),
    );
    assert_eq!((a.in_flight, b.in_flight), (7, 3));
    assert_eq!(a.tenant.zone.iana_name(), Some("Asia/Shanghai"));
    assert_eq!(b.tenant.zone.iana_name(), None);
    assert!(!a.credential.enabled() && !b.credential.enabled());
    assert_eq!(b.rate_limit, Some(Rate::per_second(9, 9)));
}

#[test]
fn secrets_come_from_files_or_the_environment() {
    let dir = TestDir::new();
    dir.write("crlf", "one\r\n");
    dir.write("two", "two\n\n");
    let secret = |text: &str| crate::auth::Secret::new(text.into());
    for (written, secrets) in [
        ("secret_key_file = \"sk\"", vec![secret("secret")]),
        (
            "secret_key_file = [\"crlf\", \"two\"]",
            vec![secret("one"), secret("two\n")],
        ),
        (
            "secret_key_env = \"CARGO_PKG_NAME\"",
            vec![secret("ccfs-gateway")],
        ),
    ] {
        let config = dir.config(&MINIMAL.replace("secret_key_file = \"sk\"", written));
        assert_eq!(
            config.access_keys.get("AK").unwrap().credential.secrets(),
            secrets,
            "{written}"
        );
    }
}

#[test]
fn a_secret_that_others_can_read_is_a_warning() {
    let dir = TestDir::new();
    dir.allow("sk", 0o640);
    let (_, warnings) = dir.parse(MINIMAL).unwrap();
    assert!(
        warnings[0]
            .message()
            .contains("can be read by others (mode 640)"),
        "{warnings:?}"
    );
}

#[test]
fn white_space_around_a_secret_is_a_warning() {
    let dir = TestDir::new();
    for secret in [" one\n", "one \r\n", "one\n\n"] {
        dir.write("sk", secret);
        let (_, warnings) = dir.parse(MINIMAL).unwrap();
        let warned = warnings[0].message().contains("white space");
        assert!(warned, "{secret:?}: {warnings:?}");
    }
}

#[test]
fn an_empty_secret_is_refused() {
    let dir = TestDir::new();
    dir.write("sk", "\n");
    assert!(dir.error_text(MINIMAL).contains("the secret is empty"));
}

#[test]
fn access_keys_may_have_a_file_of_their_own() {
    let dir = TestDir::new();
    let main = format!("access_keys_file = \"keys/all.toml\"\n{MINIMAL}");
    std::fs::create_dir(dir.path("keys")).unwrap();
    // A relative path is relative to the file that names it.
    dir.write("keys/sk2", "two");
    dir.write(
        "keys/all.toml",
        "[access_keys.B]\nsecret_key = [\"inline\", \"old\"]\ntime_zone = \"GMT+8\"\n[access_keys.C]\nsecret_key_file = \"sk2\"\ntime_zone = \"UTC\"",
    );
    let config = dir.config(&main);
    assert_eq!(
        config
            .access_keys
            .get("B")
            .unwrap()
            .credential
            .secrets()
            .len(),
        2
    );
    assert_eq!(
        config.access_keys.get("C").unwrap().credential.secrets(),
        [crate::auth::Secret::new(b"two".to_vec())]
    );

    for mode in [0o602, 0o604, 0o620, 0o644, 0o660, 0o666] {
        dir.allow("keys/all.toml", mode);
        assert!(dir.error_text(&main).contains("with mode 600"), "{mode:o}");
    }
    // What Kubernetes makes with `fsGroup`: the group is one of the process.
    for mode in [0o440, 0o640] {
        dir.allow("keys/all.toml", mode);
        assert!(dir.parse(&main).is_ok(), "{mode:o}");
    }
    dir.write(
        "keys/all.toml",
        "[access_keys.AK]\nsecret_key = \"x\"\ntime_zone = \"Mars\"",
    );
    let message = dir.error_text(&main);
    assert!(
        message.contains("keys/all.toml:1:14") && message.contains("in the other file too"),
        "{message}"
    );
    assert!(
        message.contains("keys/all.toml:3:13") && message.contains("unknown time zone"),
        "{message}"
    );
}

#[test]
fn traces_go_nowhere_unless_there_is_a_collector() {
    let dir = TestDir::new();
    let telemetry = dir.config(MINIMAL).telemetry;
    assert_eq!((telemetry.otlp_endpoint, telemetry.sample), (None, 0.01));
    for endpoint in [
        "http://127.0.0.1:4317",
        "https://[::1]:4317/",
        "http://collector",
    ] {
        let keys = format!("[telemetry]\notlp_endpoint = {endpoint:?}\nsample = 1.0");
        let written = format!("{MINIMAL}\n{keys}\n");
        if cfg!(feature = "otlp") {
            let telemetry = dir.config(&written).telemetry;
            assert_eq!(telemetry.otlp_endpoint.as_deref(), Some(endpoint));
            assert!((telemetry.sample - 1.0).abs() < f64::EPSILON);
        } else {
            let message = dir.error_text(&written);
            assert!(
                message.contains("built without the feature otlp"),
                "{message}"
            );
        }
    }
}

#[test]
fn a_byte_order_mark_is_skipped_in_every_file() {
    let dir = TestDir::new();
    let mark = |name: &str| {
        let text = std::fs::read_to_string(dir.path(name)).unwrap();
        dir.write(name, &format!("\u{feff}{text}"));
    };
    dir.write("token", "token");
    dir.write(
        "keys.toml",
        "[access_keys.B]\nsecret_key = \"b\"\ntime_zone = \"UTC\"",
    );
    for name in ["gateway.pem", "gateway.key", "ca.pem", "token", "keys.toml"] {
        mark(name);
    }
    let text = format!(
        "\u{feff}access_keys_file = \"keys.toml\"\n{MINIMAL}\n[admin]\ntoken_file = \"token\""
    );
    let (config, warnings) = dir.parse(&text).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert!(config.admin.token.unwrap().matches(b"token"));
    assert!(config.access_keys.contains_key("B"));
    dir.write("gateway.toml", &text);
    assert!(Config::load(&dir.path("gateway.toml")).is_ok());
    // Columns are those that an editor shows.
    let error = dir.error_text("\u{feff}unknown = 1");
    assert!(error.contains("gateway.toml:1:1"), "{error}");
}

#[test]
fn other_encodings_are_named() {
    let dir = TestDir::new();
    let utf16 = |text: &str| -> Vec<u8> {
        let units = text.encode_utf16().flat_map(u16::to_le_bytes);
        [0xff, 0xfe].into_iter().chain(units).collect()
    };
    let main = format!("access_keys_file = \"keys.toml\"\n{MINIMAL}");
    dir.write("keys.toml", "");
    for name in ["gateway.pem", "gateway.key", "ca.pem", "keys.toml", "sk"] {
        let good = std::fs::read(dir.path(name)).unwrap();
        std::fs::write(dir.path(name), utf16(&String::from_utf8_lossy(&good))).unwrap();
        let error = dir.error_text(&main);
        assert!(error.contains("UTF-16"), "{name}: {error}");
        std::fs::write(dir.path(name), good).unwrap();
    }
    std::fs::write(dir.path("keys.toml"), b"\n# \xd7\xf8\xcf\xaf\n").unwrap();
    let error = dir.error_text(&main);
    assert!(error.contains("line 2 is not UTF-8, but GBK"), "{error}");
    std::fs::write(dir.path("gateway.toml"), utf16(MINIMAL)).unwrap();
    let error = Config::load(&dir.path("gateway.toml"))
        .map(|_| ())
        .unwrap_err();
    assert!(error.to_string().contains("UTF-16"), "{error}");
}

/// Returns the secret and the messages of an access key whose secret holds `bytes`, from a file and
/// from the file of access keys.
fn secret_of(dir: &TestDir, text: &str) -> [(Option<crate::auth::Secret>, String); 2] {
    std::fs::write(dir.path("sk"), text).unwrap();
    let inline = serde_json::to_string(text)
        .unwrap()
        .replace("\u{feff}", "\\ufeff");
    dir.write(
        "keys.toml",
        &format!("[access_keys.B]\ntime_zone = \"UTC\"\nsecret_key = {inline}\n"),
    );
    let (without, _) = MINIMAL.split_once("[access_keys.AK]").unwrap();
    [
        MINIMAL.to_owned(),
        format!("access_keys_file = \"keys.toml\"\n{without}"),
    ]
    .map(|text| match dir.parse(&text) {
        Ok((config, warnings)) => {
            let account = config.access_keys.values().next().unwrap();
            let messages: Vec<_> = warnings.iter().map(Problem::message).collect();
            (
                account.credential.secrets().first().cloned(),
                messages.join(", "),
            )
        }
        Err(error) => (None, error.to_string()),
    })
}

#[test]
fn a_secret_is_the_same_from_every_source() {
    let dir = TestDir::new();
    let secret = |text: &str| Some(crate::auth::Secret::new(text.into()));
    for (text, expected, message) in [
        ("abc", secret("abc"), ""),
        ("abc\n", secret("abc"), ""),
        ("abc\r\n", secret("abc"), ""),
        ("\u{feff}abc\n", secret("abc"), "byte-order mark"),
        ("abc\n\n", secret("abc\n"), "white space"),
        (" \t\n", None, "the secret is only white space"),
        ("\n", None, "the secret is empty"),
        ("\u{feff}\n", None, "the secret is empty"),
        ("a\0bc", None, "the secret holds a NUL byte"),
        ("a\0b\0c\0d\0", None, "the secret is UTF-16 text"),
    ] {
        for (found, messages) in secret_of(&dir, text) {
            assert_eq!(found, expected, "{text:?}: {messages}");
            assert!(messages.contains(message), "{text:?}: {messages}");
            assert_eq!(
                message.is_empty(),
                messages.is_empty(),
                "{text:?}: {messages}"
            );
        }
    }
}

#[test]
fn a_default_gives_way_to_what_is_written() {
    let dir = TestDir::new();
    for (written, section, effective) in [
        (
            "[cache]\nexpiry_margin = \"30s\"",
            "cache",
            [("expiry_margin", "30s"), ("minimum_life", "30s")],
        ),
        (
            "[cache]\nminimum_life = \"20m\"",
            "cache",
            [("expiry_margin", "20m"), ("minimum_life", "20m")],
        ),
        (
            "[limits]\nmax_buffered = \"1MiB\"",
            "limits",
            [("max_upload_size", "1MiB"), ("max_body_size", "64KiB")],
        ),
        (
            "[limits]\nmax_buffered = \"1KiB\"",
            "limits",
            [("max_upload_size", "1KiB"), ("max_body_size", "1KiB")],
        ),
        (
            "[limits]\nmax_upload_size = \"1GiB\"",
            "limits",
            [("max_buffered", "1GiB"), ("max_body_size", "64KiB")],
        ),
        (
            "[limits]\nmax_body_size = \"1GiB\"",
            "limits",
            [("max_buffered", "1GiB"), ("max_upload_size", "8MiB")],
        ),
    ] {
        let shown = dir.config(&format!("{MINIMAL}\n{written}\n")).redacted();
        for (key, value) in effective {
            assert_eq!(shown[section][key], value, "{written}");
        }
    }
    for (written, base, max) in [
        ("base_time = \"2m\"", "2m", "2m"),
        ("max_time = \"2s\"", "2s", "2s"),
        ("max_time = \"2m\"", "5s", "2m"),
    ] {
        let ejection = format!("ejection = {{ {written} }}\nnodes =");
        let shown = dir
            .config(&MINIMAL.replace("nodes =", &ejection))
            .redacted();
        let shown = &shown["clusters"]["ccfs"]["ejection"];
        assert_eq!(
            [&shown["base_time"], &shown["max_time"]],
            [base, max],
            "{written}"
        );
    }
}

#[test]
fn a_secret_that_others_can_write_is_an_error() {
    let dir = TestDir::new();
    for (mode, message) in [
        (0o602, "can be written by others (mode 602)"),
        (0o666, "can be read and written by others (mode 666)"),
    ] {
        dir.allow("sk", mode);
        let error = dir.error_text(MINIMAL);
        assert!(error.contains(message), "{error}");
    }
    dir.allow("sk", 0o660);
    let (_, warnings) = dir.parse(MINIMAL).unwrap();
    assert!(
        warnings[0].message().contains("read and written"),
        "{warnings:?}"
    );
}
