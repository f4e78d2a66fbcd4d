//! The shipped files agree with the program.

use serde_json::Value;

use super::*;

/// The directory `config/` with the files whose creation README.md describes.
fn shipped() -> TestDir {
    let dir = TestDir::new();
    for directory in ["tls", "secrets"] {
        std::fs::create_dir(dir.path(directory)).unwrap();
    }
    for (from, to) in [
        ("gateway.pem", "tls/gateway.pem"),
        ("gateway.key", "tls/gateway.key"),
        ("ca.pem", "tls/ccfs-ca.pem"),
        ("sk", "secrets/279a08bbd8d949a0"),
        ("sk", "secrets/5c1f0f7d2a6e4b3c"),
    ] {
        std::fs::copy(dir.path(from), dir.path(to)).unwrap();
        dir.allow(to, 0o600);
    }
    dir
}

/// The reference with all commented-out keys.
fn whole_reference() -> toml::Value {
    let is_key = |line: &str| {
        line.starts_with("#[")
            || line
                .split_once(" = ")
                .is_some_and(|(key, _)| key.starts_with('#') && !key.contains(' '))
    };
    let text: Vec<_> = REFERENCE
        .lines()
        .map(|line| if is_key(line) { &line[1..] } else { line })
        .collect();
    toml::from_str(&text.join("\n")).unwrap()
}

#[test]
fn the_example_is_valid() {
    let (config, warnings) = shipped().parse(EXAMPLE).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(config.clusters["ccfs"].nodes.len(), 3);
}

#[test]
fn the_reference_states_the_defaults() {
    let dir = shipped();
    let silent = r#"
        [listeners.ccfs]
        bind = "0.0.0.0:28443"
        cluster = "ccfs"
        tls = { certificate = "tls/gateway.pem", private_key = "tls/gateway.key" }
        [clusters.ccfs]
        nodes = ["https://10.0.0.1:8443", "https://10.0.0.2:8443"]
        tls = { ca = "tls/ccfs-ca.pem" }
        [access_keys.279a08bbd8d949a0]
        secret_key_file = "secrets/279a08bbd8d949a0"
        time_zone = "Asia/Shanghai"
    "#;
    assert_eq!(
        dir.config(REFERENCE).redacted(),
        dir.config(silent).redacted()
    );
}

#[test]
fn the_reference_shows_every_key() {
    let reference = serde_json::to_value(whole_reference()).unwrap();
    let mut missing = Vec::new();
    let schema = serde_json::from_str(SCHEMA).unwrap();
    missing_keys(&schema, &reference, "", &mut missing);
    assert!(
        missing.is_empty(),
        "not in config/reference.toml: {missing:?}"
    );
}

/// Collects every key of `schema` that is missing in `shown`, below every table.
fn missing_keys(schema: &Value, shown: &Value, path: &str, missing: &mut Vec<String>) {
    let branches = schema["anyOf"]
        .as_array()
        .map_or(std::slice::from_ref(schema), Vec::as_slice);
    let Some(schema) = branches.iter().find(|branch| branch["type"] == "object") else {
        return;
    };
    for (key, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}{key}");
        // Shown once, for clusters and listeners.
        let shown_elsewhere = path == "shared.tls" || path == "admin.tls";
        // Secrets are no defaults.
        let refused = path.starts_with("access_key_defaults.secret_key")
            || path == "access_key_defaults.name";
        // Instead of `per_second`; in words at the first rate.
        let excluded = key == "per_minute" || key == "per_hour";
        match shown.get(key) {
            Some(_) if shown_elsewhere => {}
            Some(shown) => missing_keys(below, shown, &format!("{path}."), missing),
            None if refused || excluded => {}
            None => missing.push(path),
        }
    }
    if schema["additionalProperties"].is_object() {
        for (name, below) in shown.as_object().into_iter().flatten() {
            missing_keys(
                &schema["additionalProperties"],
                below,
                &format!("{path}{name}."),
                missing,
            );
        }
    }
}

#[test]
fn the_schema_is_up_to_date() {
    let same = schema() == SCHEMA;
    assert!(
        same,
        "run `ccfs-gateway schema > config/config.schema.json`"
    );
}

/// Returns what is wrong with a configuration by the published schema.
fn violations(config: &Value) -> Option<String> {
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    let name = "config.schema.json";
    let schema = serde_json::from_str(SCHEMA).unwrap();
    compiler.add_resource(name, schema).unwrap();
    let index = compiler.compile(name, &mut schemas).unwrap();
    let result = schemas.validate(config, index);
    result.err().map(|error| error.to_string())
}

#[test]
fn the_shipped_files_satisfy_the_schema() {
    let example: toml::Value = toml::from_str(EXAMPLE).unwrap();
    for file in [example, whole_reference()] {
        let file = serde_json::to_value(file).unwrap();
        assert_eq!(violations(&file), None);
    }
}

#[test]
fn the_schema_refuses_what_the_gateway_refuses() {
    for text in [
        "unknown = 1",
        "[limits]\nbody_timeout = 10",
        "[limits]\nbody_timeout = \"10\"",
        "[limits]\nmax_in_flight = 0",
        "[listeners.x]\nvalidation = \"on\"",
        "[clusters.x]\nnodes = [{ url = \"https://h\", weight = 0 }]",
        "[access_keys.x]\nsecret_key_env = [\"A\", \"B\", \"C\"]",
    ] {
        let file: toml::Value = toml::from_str(text).unwrap();
        let file = serde_json::to_value(file).unwrap();
        assert!(violations(&file).is_some(), "{text}");
    }
}

const EXAMPLE: &str = include_str!("../../../config/gateway.toml");
const REFERENCE: &str = include_str!("../../../config/reference.toml");
const SCHEMA: &str = include_str!("../../../config/config.schema.json");
