//! No message shows a secret, in any position and with any mistake around it.

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
