//! No message shows a secret, in any position and with any mistake around it.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// The planted secret.
const CANARY: &str = "CANARY6f1d2c";

#[track_caller]
fn assert_no_secret(dir: &TestDir, text: &str) {
    let diagnosis = dir.parse(text).map(|_| ()).unwrap_err();
    let shown = format!("{diagnosis}\n{diagnosis:?}");
    assert!(!shown.contains("CANARY"), "{shown}");
    for problem in diagnosis.problems() {
        assert!(
            !problem.one_line().contains("CANARY"),
            "{}",
            problem.one_line()
        );
    }
}

#[test]
fn in_the_configuration() {
    let dir = TestDir::new();
    for wrong in [
        "[access_keys.B]\nsecret_key = \"CANARY6f1d2c\"",
        "[access_keys.B]\nsecret_kye = \"CANARY6f1d2c\"",
        "[access_keys.B]\nsecret_key = [\"CANARY6f1d2c\", 5]",
        "[access_keys.B]\nsecret_key = { value = \"CANARY6f1d2c\" }",
        "[access_keys]\nB = { secret_key = \"CANARY6f1d2c\", unknown = 1, in_flight = 0 }",
        "[access_keys]\nB = \"x\"\nC = { secret_key = \"CANARY6f1d2c\", time_zone = \"nowhere\" }",
        "[access_keys.B]\nsecret_key_env = \"CANARY6f1d2c+/==\"",
        "[access_keys.B]\nsecret_key_env = \"CANARY6f1d2c0123456789ab\"",
        "[access_keys.B]\nsecret_key_file = \"CANARY6f1d2c\"",
        "[access_keys.B]\nsecret_key_file = [\"sk\", \"CANARY6f1d2c\"]",
        "[access_keys.B]\nsecret_key_file = \"CANARY6f1d2c/ab+c==\"",
        "[access_keys.B]\nsecret_key_file = \"sk\"\nsecret_key_file = \"CANARY6f1d2c\"",
        "[access_keys.B]\nsecret_key_env = \"SK\"\nsecret_key_env = \"CANARY6f1d2c\"",
        "[admin]\ntoken_file = \"CANARY6f1d2c\"",
        "[access_keys.B.secret_key]\nx = \"CANARY6f1d2c\"",
        "[access_keys.B]\nsecret_key = \"\"\"\nCANARY6f1d2c\n\"\"\"",
        "[access_key_defaults]\nsecret_key = \"CANARY6f1d2c\"",
        "[clusters.b]\nnodes = [\"https://user:CANARY6f1d2c@10.0.0.1:8443\"]",
        "[clusters.b]\nnodes = [{ url = \"https://user:CANARY6f1d2c@10.0.0.1:8443\" }]",
        "[clusters.b]\nnodes = [\"https://CANARY6f1d2c@10.0.0.1:8443\"]",
        "[clusters.b]\nbalance = \"https://user:CANARY6f1d2c@10.0.0.1:8443\"",
        "[shared]\nurl = \"redis://:CANARY6f1d2c@10.0.0.1:6379\"",
        "[shared]\nurl = \"redis://:CANARY6f1d2c@10.0.0.1:6379\", tls = 5",
        "[shared]\npassword = \"CANARY6f1d2c\"",
        "[telemetry]\notlp_endpoint = \"http://u:CANARY6f1d2c@h:1\"",
        "[admin]\ntoken = \"CANARY6f1d2c\"",
        "secret_key = \"CANARY6f1d2c",
        "secret_key = CANARY6f1d2c",
        "x = { secret_key = \"CANARY6f1d2c\" y }",
        "[x\nsecret_key = \"CANARY6f1d2c\" ]",
    ] {
        assert!(wrong.contains(CANARY));
        assert_no_secret(&dir, &format!("{MINIMAL}\n{wrong}\n"));
    }
}

#[test]
fn in_a_file_of_access_keys() {
    let dir = TestDir::new();
    let main = format!("access_keys_file = \"keys.toml\"\n{MINIMAL}");
    for wrong in [
        "[access_keys.B]\nsecret_key = \"CANARY6f1d2c\"\ntime_zone = \"nowhere\"",
        "[access_keys.B]\nsecret_kye = \"CANARY6f1d2c\"",
        "[access_keys]\nB = { secret_key = \"CANARY6f1d2c\", in_flight = 0 }",
        "[access_key.B]\nsecret_key = \"CANARY6f1d2c\"",
        "[access_keys.B]\nsecret_key = \"CANARY6f1d2c",
        "[access_keys.B]\nsecret = CANARY6f1d2c",
        "[access_keys.B]\nsk = \"CANARY6f1d2c\" \"x\"",
        "[access_keys.B]\nCANARY6f1d2c",
        "[access_keys.B]\nx = '''\nCANARY6f1d2c",
    ] {
        dir.write("keys.toml", wrong);
        assert_no_secret(&dir, &main);
    }
}

#[test]
fn in_the_effective_configuration() {
    let dir = TestDir::new();
    dir.write("sk", CANARY);
    dir.write("token", CANARY);
    let config = dir.config(&format!("{MINIMAL}\n[admin]\ntoken_file = \"token\""));
    let shown = format!("{} {config:?}", config.redacted());
    assert!(!shown.contains(CANARY), "{shown}");
    assert_eq!(
        config.redacted()["access_keys"]["AK"]["secret_key"][0],
        "(secret)"
    );
}

#[test]
fn the_line_stays_readable_around_a_secret() {
    let message = TestDir::new().error_text(&format!(
        "{MINIMAL}\n[access_keys]\nB = {{ secret_key_file = \"sk\", secret_kei = \"CANARY\", time_zone = \"GMT+99\" }}"
    ));
    assert!(
        message.contains(
            "B = { secret_key_file = \"sk\", secret_kei = ********, time_zone = \"GMT+99\" }"
        ),
        "{message}"
    );
}

/// Secrets of the form and length of those of Huawei Cloud.
const SECRET: &str = "CANARY4f1d2c7b9a3e5d6f8a1b2c3d4e5f607182";

/// How a file can begin the table of an access key.
const HEADERS: [&str; 14] = [
    "[access_keys.B]",
    "[access_keys.\"B\"]",
    "[ access_keys . 'B' ]",
    "[[access_keys.B]]",
    "[access_keys.B",
    "access_keys.B]",
    "[access_keys]",
    "[access_keys.B] # CANARY",
    "[access_key_defaults]",
    "[acces_keys.B]",
    "access_keys:\n  B:",
    "{\"access_keys\": {\"B\": {",
    "access_keys = {\nB = {",
    "\u{feff}[access_keys.B]",
];

/// Names of a secret.
const NAMES: [&str; 16] = [
    "sk",
    "SK",
    "secret",
    "secret_key",
    "\"secret_key\"",
    "secretKey",
    "key",
    "password",
    "'app secret'",
    "\"sk\"",
    "in_flight",
    "a.b.sk",
    "access_keys.B.sk",
    "secret_key_file",
    "secret_key_env",
    "rate_limit",
];

const ASSIGNMENTS: [&str; 11] = [
    " = ", "=", ": ", ":", " ", "\t", " => ", " := ", "\t=\t", " == ", "\n=",
];

/// Values that hold the secret, which stands for `X`.
const VALUES: [&str; 24] = [
    "X",
    "\"X\"",
    "'X'",
    "\u{201c}X\u{201d}",
    "\"X",
    "'X",
    "X\"",
    "\"\"\"X\"\"\"",
    "\"\"\"\nX\n\"\"\"",
    "\"\"\"\n[limits]\nbind = X\n\"\"\"",
    "'''\nX",
    "[\"X\"]",
    "[\n  \"X\",\n  \"X\"\n]",
    "[\"a/b\", \"X\"]",
    "[X",
    "{ sk = \"X\" }",
    "{ value: X, b: 5 }",
    "\"X\" # X",
    "5 # X",
    "X=",
    "\"X/+==\"",
    "\"a\\qX\"",
    "true\nX",
    "\"-----BEGIN X-----\"",
];

/// Further mistakes before or after it.
const MISTAKES: [&str; 14] = [
    "",
    "x =",
    "[limits",
    "[limits]\nmax_in_flight = 5 5",
    "bind = ",
    "\"\"\"",
    "'''",
    "= 5",
    "nodes = [",
    "}",
    "]",
    "in_flight = 0",
    "[limits]\nunknown = 1",
    "\u{7f}",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_damage_shows_a_secret(
        header in select(&HEADERS[..]),
        name in select(&NAMES[..]),
        assignment in select(&ASSIGNMENTS[..]),
        value in select(&VALUES[..]),
        mistakes in (select(&MISTAKES[..]), select(&MISTAKES[..])),
        line_end in select(&["\n", "\r\n", "\r"][..]),
        place in select(&["main", "keys file", "directory"][..]),
    ) {
        let value = value.replace('X', SECRET);
        let (before, after) = mistakes;
        let text = format!("{before}\n{header}\n{name}{assignment}{value}\n{after}\n");
        let text = text.replace('\n', line_end);
        DIR.with(|dir| match place {
            "keys file" => {
                dir.write("keys.toml", &text);
                assert_shows_none(dir, &format!("access_keys_file = \"keys.toml\"\n{MINIMAL}"), &text);
            }
            "directory" => {
                let _ = std::fs::create_dir(dir.path("keys.d"));
                dir.write("keys.d/bad.toml", &text);
                dir.write("keys.d/good.toml", "[access_keys.G]\nsecret_key = \"g\"\ntime_zone = \"UTC\"");
                let main = format!("access_keys_dir = \"keys.d\"\n{MINIMAL}");
                assert_shows_none(dir, &main, &text);
                assert_refusal_shows_none(dir, &main, &text);
            }
            _ => {
                assert_shows_none(dir, &format!("{MINIMAL}\n{text}"), &text);
                assert_shows_none(dir, &format!("{text}\n{MINIMAL}"), &text);
            }
        });
    }
}

/// A valid text is fine too: then neither its warnings nor the effective configuration show anything.
#[track_caller]
fn assert_shows_none(dir: &TestDir, text: &str, planted: &str) {
    let shown = match dir.parse(text) {
        Ok((config, warnings)) => format!("{}{config:?}{warnings:?}", config.redacted()),
        Err(error) => {
            let lines: Vec<_> = error.problems().iter().map(Problem::one_line).collect();
            format!("{error}\n{error:?}\n{lines:?}")
        }
    };
    assert!(
        !shown.contains("CANARY"),
        "{planted}\n-- is shown as\n{shown}"
    );
}

/// What a running gateway says of a refused file of the directory, at the start and after a change.
#[track_caller]
fn assert_refusal_shows_none(dir: &TestDir, main: &str, planted: &str) {
    dir.write("gateway.toml", main);
    let (config, warnings) = Config::load_to_serve(&dir.path("gateway.toml")).unwrap();
    let changes = KeyChanges {
        changed: vec!["bad.toml".into()],
        ..KeyChanges::default()
    };
    let next = config.after_key_changes(&changes);
    let shown = format!("{}{config:?}{next:?}{warnings:?}", config.redacted());
    assert!(
        !shown.contains("CANARY"),
        "{planted}\n-- is shown as\n{shown}"
    );
}

thread_local! {
    static DIR: TestDir = TestDir::new();
}
