//! Files without mistakes: defaults, spellings, merging, secrets.

use std::time::Duration;

use super::*;
use crate::cluster::{HostPolicy, NodeAddress, Policy};
use crate::tls::Validity;

#[test]
fn a_minimal_file_is_enough() {
    let place = TestDir::new();
    let (config, warnings) = place.parse(MINIMAL).unwrap();
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
    let account = &config.access_keys["AK"];
    assert_eq!(account.in_flight, 256);
    assert_eq!((account.rate_limit, account.ceiling), (None, None));
    assert_eq!(config.limits.clock_window, Some(Duration::from_secs(900)));
    assert_eq!(config.admin.bind, Some("127.0.0.1:9901".parse().unwrap()));
    assert!(config.server.workers >= 1);
    let names: Vec<_> = config
        .files
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["ca.pem", "gateway.key", "gateway.pem", "gateway.toml", "sk"]
    );
}

#[test]
fn a_dead_node_is_known_in_time() {
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
fn a_certificate_that_is_over_or_to_come_is_a_warning() {
    let place = TestDir::new();
    for (from, to, told) in [
        (1990, 1991, "expired at 1991"),
        (2900, 2901, "not yet valid: it begins at 2900"),
    ] {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        place.write("gateway.pem", &params.self_signed(&key).unwrap().pem());
        place.write("gateway.key", &key.serialize_pem());
        let (_, warnings) = place.parse(MINIMAL).unwrap();
        let [warning] = warnings.as_slice() else {
            panic!("{warnings:?}");
        };
        assert_eq!(warning.severity(), Severity::Warning);
        assert!(warning.message().contains(told), "{warning}");
    }
}

#[test]
fn a_certificate_that_ends_soon_is_a_warning() {
    let certificate = Validity {
        not_before: "2026-01-01T00:00:00Z".parse().unwrap(),
        not_after: "2026-03-31T00:00:00Z".parse().unwrap(),
    };
    let told = |now: &str| {
        let now: Timestamp = now.parse().unwrap();
        certificate.warning_at(now.into())
    };
    assert_eq!(told("2026-03-16T23:59:59Z"), None);
    let soon = told("2026-03-17T00:00:01Z").unwrap();
    assert!(soon.contains("expires at 2026-03-31"), "{soon}");
    let over = told("2026-03-31T00:00:01Z").unwrap();
    assert!(over.contains("expired at"), "{over}");
}

#[test]
fn deadlines_that_are_not_written_give_way() {
    let place = TestDir::new();
    for (written, told) in [
        ("per_try = \"200ms\"", ["200ms", "200ms", "9s", "1m"]),
        ("per_try = \"9500ms\"", ["1s", "9500ms", "9500ms", "1m"]),
        ("overall = \"5s\"", ["1s", "5s", "5s", "1m"]),
        ("overall = \"2m\"", ["1s", "8s", "2m", "2m"]),
        ("fetch = \"5s\"", ["1s", "5s", "5s", "5s"]),
        ("connect = \"9s\"", ["9s", "9s", "9s", "1m"]),
        ("overall = \"500ms\"", ["500ms", "500ms", "500ms", "1m"]),
    ] {
        let timeouts = format!("timeouts = {{ {written} }}\nnodes =");
        let config = place.config(&MINIMAL.replace("nodes =", &timeouts));
        let shown = &config.redacted()["clusters"]["ccfs"]["timeouts"];
        let shown = ["connect", "per_try", "overall", "fetch"].map(|key| &shown[key]);
        assert_eq!(shown, told, "{written}");
    }
}

#[test]
fn risks_are_warnings() {
    let place = TestDir::new();
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
        let (_, warnings) = place.parse(&text).unwrap();
        let [warning] = warnings.as_slice() else {
            panic!("{warnings:?}");
        };
        assert_eq!(warning.severity(), Severity::Warning);
        assert!(warning.message().contains(marked), "{warning}");
        assert!(warning.help().contains(help), "{warning}");
    }
}

#[test]
fn skipping_verification_shouts() {
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
fn off_is_said_by_zero_or_false() {
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
    let rate = |per_second, burst| Some(Rate { per_second, burst });
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
        ("ceiling = { per_second = 5, burst = 6 }", None, rate(5, 6)),
    ] {
        let config = TestDir::new().config(&format!("{MINIMAL}\n{written}"));
        let account = &config.access_keys["AK"];
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
    let (a, b) = (&config.access_keys["AK"], &config.access_keys["B"]);
    assert_eq!((a.in_flight, b.in_flight), (7, 3));
    assert_eq!(a.tenant.zone.iana_name(), Some("Asia/Shanghai"));
    assert_eq!(b.tenant.zone.iana_name(), None);
    assert!(!a.credential.enabled() && !b.credential.enabled());
    assert_eq!(b.rate_limit.unwrap().per_second, 9);
}

#[test]
fn secrets_come_from_files_or_the_environment() {
    let place = TestDir::new();
    place.write("crlf", "one\r\n");
    place.write("two", "two\n\n");
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
        let config = place.config(&MINIMAL.replace("secret_key_file = \"sk\"", written));
        assert_eq!(
            config.access_keys["AK"].credential.secrets(),
            secrets,
            "{written}"
        );
    }
}

#[test]
fn a_secret_that_others_can_read_is_a_warning() {
    let place = TestDir::new();
    place.allow("sk", 0o640);
    let (_, warnings) = place.parse(MINIMAL).unwrap();
    assert!(
        warnings[0]
            .message()
            .contains("can be read by others (mode 640)"),
        "{warnings:?}"
    );
}

#[test]
fn white_space_around_a_secret_is_a_warning() {
    let place = TestDir::new();
    for secret in [" one\n", "one \r\n", "one\n\n"] {
        place.write("sk", secret);
        let (_, warnings) = place.parse(MINIMAL).unwrap();
        let warned = warnings[0].message().contains("white space");
        assert!(warned, "{secret:?}: {warnings:?}");
    }
}

#[test]
fn an_empty_secret_is_refused() {
    let place = TestDir::new();
    place.write("sk", "\n");
    assert!(place.error_text(MINIMAL).contains("the secret is empty"));
}

#[test]
fn access_keys_may_have_a_file_of_their_own() {
    let place = TestDir::new();
    let main = format!("access_keys_file = \"keys/all.toml\"\n{MINIMAL}");
    std::fs::create_dir(place.path("keys")).unwrap();
    // A relative path is relative to the file that names it.
    place.write("keys/sk2", "two");
    place.write(
        "keys/all.toml",
        "[access_keys.B]\nsecret_key = [\"inline\", \"old\"]\ntime_zone = \"GMT+8\"\n[access_keys.C]\nsecret_key_file = \"sk2\"\ntime_zone = \"UTC\"",
    );
    let config = place.config(&main);
    assert_eq!(config.access_keys["B"].credential.secrets().len(), 2);
    assert_eq!(
        config.access_keys["C"].credential.secrets(),
        [crate::auth::Secret::new(b"two".to_vec())]
    );

    for mode in [0o604, 0o640, 0o644] {
        place.allow("keys/all.toml", mode);
        assert!(place.error_text(&main).contains("chmod 600"), "{mode:o}");
    }
    place.write(
        "keys/all.toml",
        "[access_keys.AK]\nsecret_key = \"x\"\ntime_zone = \"Mars\"",
    );
    let told = place.error_text(&main);
    assert!(
        told.contains("keys/all.toml:1:14") && told.contains("in the other file too"),
        "{told}"
    );
    assert!(
        told.contains("keys/all.toml:3:13") && told.contains("unknown time zone"),
        "{told}"
    );
}

#[test]
fn traces_go_nowhere_unless_there_is_a_collector() {
    let place = TestDir::new();
    let telemetry = place.config(MINIMAL).telemetry;
    assert_eq!((telemetry.otlp_endpoint, telemetry.sample), (None, 0.01));
    for endpoint in [
        "http://127.0.0.1:4317",
        "https://[::1]:4317/",
        "http://collector",
    ] {
        let keys = format!("[telemetry]\notlp_endpoint = {endpoint:?}\nsample = 1.0");
        let written = format!("{MINIMAL}\n{keys}\n");
        if cfg!(feature = "otlp") {
            let telemetry = place.config(&written).telemetry;
            assert_eq!(telemetry.otlp_endpoint.as_deref(), Some(endpoint));
            assert!((telemetry.sample - 1.0).abs() < f64::EPSILON);
        } else {
            let told = place.error_text(&written);
            assert!(told.contains("built without the feature otlp"), "{told}");
        }
    }
}
