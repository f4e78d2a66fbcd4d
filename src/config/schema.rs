//! The JSON Schema of the file, derived from its types, for editors and for the structure check.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Map, Value, json};

use super::file::{AccessKeysFile, File};
use super::structure::SchemaNode;

/// Returns the JSON Schema (draft 7) of the configuration file as pretty-printed JSON.
pub fn schema() -> String {
    let mut schema = generate::<File>();
    schema["title"] = json!("ccfs-gateway configuration");
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

/// The schema of the configuration file.
pub(super) static MAIN_FILE: LazyLock<SchemaNode> =
    LazyLock::new(|| SchemaNode::from_schema(&generate::<File>()));

/// The schema of the file of access keys.
pub(super) static ACCESS_KEYS_FILE: LazyLock<SchemaNode> =
    LazyLock::new(|| SchemaNode::from_schema(&generate::<AccessKeysFile>()));

/// The known keys of all tables.
pub(super) static KNOWN_KEYS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let mut keys = BTreeSet::new();
    MAIN_FILE.collect_keys(&mut keys);
    keys
});

fn generate<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.inline_subschemas = true;
    });
    settings
        .with_transform(RecursiveTransform(adapt_to_toml))
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}

/// Adapts a generated schema to TOML, which has no null: an optional key is absent. Also removes the
/// line breaks of the source from descriptions.
fn adapt_to_toml(schema: &mut schemars::Schema) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    object.remove("format");
    if let Some(Value::String(description)) = object.get_mut("description") {
        *description = description
            .replace("\n\n", "\0")
            .replace('\n', " ")
            .replace('\0', "\n\n");
    }
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(allowed)) = object.get_mut("enum") {
        allowed.retain(|value| !value.is_null());
    }
    let Some(Value::Array(branches)) = object.get_mut("anyOf") else {
        return;
    };
    branches.retain(|branch| branch["type"] != "null");
    if branches.len() == 1
        && let Some(Value::Object(only)) = branches.pop()
    {
        object.remove("anyOf");
        merge_missing(object, only);
    }
}

/// Adds the members of `below` that `object` does not have.
fn merge_missing(object: &mut Map<String, Value>, below: Map<String, Value>) {
    for (key, value) in below {
        object.entry(key).or_insert(value);
    }
}
