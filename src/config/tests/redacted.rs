//! The effective configuration as JSON, which `GET /config` shows: its keys and values are public.

use super::*;

#[test]
fn the_effective_configuration_has_its_documented_members() {
    let dir = TestDir::new();
    for (name, text) in [
        ("token", "token\n"),
        ("password", "password\n"),
        ("seal", "0123456789abcdef0123456789abcdef\n"),
    ] {
        dir.write(name, text);
    }
    std::fs::create_dir(dir.path("log")).unwrap();
    let config = dir.config(include_str!("cases/redacted.toml"));
    let shown = serde_json::to_string_pretty(&config.redacted()).unwrap();
    let shown = shown.replace(&format!("{}/", dir.directory.path().display()), "");
    assert_eq!(shown, include_str!("cases/redacted.json").trim_end());
}
