//! `[callers.NAME] sdk_hmac`: the app of a caller, and every mistake.

use super::*;

const QA: &str = "[callers.qa]\naccess_key = \"AK\"\nsdk_hmac = { app_key = \"qa\", app_secret_file = \"./app\" }\n";

#[test]
fn an_app_is_read_and_its_secret_is_not_shown() {
    let dir = TestDir::new();
    dir.write("app", "CANARY-of-an-app\n");
    let config = dir.config(&format!("{MINIMAL}\n{QA}"));
    let app = config.callers["qa"].sdk_hmac.as_ref().unwrap();
    assert_eq!(app.app_key, "qa");
    assert_eq!(
        app.app_secret,
        crate::auth::Secret::new(b"CANARY-of-an-app".to_vec())
    );
    assert!(config.files.contains_key(&dir.path("./app")));
    let shown = config.redacted();
    assert_eq!(shown["callers"]["qa"]["sdk_hmac"]["app_secret"], "(secret)");
    assert!(!format!("{config:?}{shown}").contains("CANARY"));
}

#[test]
fn mistakes_are_named_and_show_no_secret() {
    let dir = TestDir::new();
    dir.write("app", "CANARY-of-an-app\n");
    dir.write("short", "CANARY\n");
    dir.write("empty", "\n");
    let second = QA.replace("callers.qa", "callers.qb");
    for (text, message) in [
        (QA.replace("app_key = \"qa\", ", ""), "no app_key"),
        (
            QA.replace(", app_secret_file = \"./app\"", ""),
            "no app_secret_file",
        ),
        (QA.replace("\"qa\"", "\"\""), "not an app key"),
        (QA.replace("\"qa\"", "\"CANARY, qa\""), "not an app key"),
        (QA.replace("./app", "./missing"), "cannot read"),
        (QA.replace("./app", "./short"), "less than 8 characters"),
        (QA.replace("./app", "./empty"), "the secret is empty"),
        (
            QA.replace("./app", "CANARY0123456789"),
            "no file of this name",
        ),
        (
            QA.replace("app_secret_file = \"./app\"", "app_secret = \"CANARY\""),
            "unknown key",
        ),
        (format!("{QA}{second}"), "caller qa has this app key too"),
    ] {
        assert!(dir.parse(&format!("{MINIMAL}\n{text}")).is_err(), "{text}");
        let shown = dir.error_text(&format!("{MINIMAL}\n{text}"));
        assert!(shown.contains(message), "{message}\n{shown}");
        assert!(!shown.contains("CANARY"), "{shown}");
    }
}
