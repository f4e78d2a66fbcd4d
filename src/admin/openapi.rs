//! `/openapi.json`: OpenAPI 3.1 of the CC-FS interfaces, which follow from their table, and of the admin
//! interface, which `openapi/admin.json` describes.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::STATUS_SCHEMA;
use crate::ccfs::{BodyKind, ENDPOINTS, Endpoint, PREFIX, ResponseKind};

/// Returns the description.
pub(super) fn description() -> &'static Value {
    static DESCRIPTION: LazyLock<Value> = LazyLock::new(build);
    &DESCRIPTION
}

fn build() -> Value {
    // A test reads the file; were it broken, the CC-FS interfaces would still be described.
    let mut description: Value = serde_json::from_str(ADMIN).unwrap_or_default();
    description["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    add_status(&mut description["components"]["schemas"]);
    for endpoint in ENDPOINTS {
        let method = endpoint.method.as_str().to_ascii_lowercase();
        let path = format!("{PREFIX}{}", endpoint.name);
        description["paths"][path][method] = operation(endpoint);
    }
    description
}

/// Adds the schema of `/status`, and what it refers to, beside the others.
fn add_status(schemas: &mut Value) {
    let text = STATUS_SCHEMA.replace("#/$defs/", "#/components/schemas/");
    let mut status: Value = serde_json::from_str(&text).unwrap_or_default();
    if let Some(members) = status.as_object_mut() {
        members.remove("$schema");
        if let Some(Value::Object(parts)) = members.remove("$defs") {
            for (name, part) in parts {
                schemas[name] = part;
            }
        }
    }
    schemas["Status"] = status;
}

fn operation(endpoint: &Endpoint) -> Value {
    let answer = match endpoint.response {
        ResponseKind::SignedUrl => json!({ "application/json": { "schema": schema("Link") } }),
        ResponseKind::Json => json!({ "application/json": { "schema": schema("Answer") } }),
        // Failure is JSON, with the same status.
        ResponseKind::File => json!({
            "application/octet-stream": {},
            "application/json": { "schema": schema("Answer") },
        }),
    };
    let mut operation = json!({
        "tags": ["ccfs"],
        "operationId": endpoint.name.replace('/', "_"),
        "responses": {
            "200": { "description": "The answer of CC-FS; `resultCode` tells success", "content": answer },
            "default": { "$ref": "#/components/responses/Error" },
        },
        "security": [],
    });
    if endpoint.authenticated {
        operation["security"] = json!([{ "signature": [] }]);
    }
    let body = match endpoint.body {
        BodyKind::Flat => "RecordingQuery",
        BodyKind::Envelope => "Envelope",
        BodyKind::Opaque => return with_play_parameters(operation),
    };
    operation["requestBody"] = json!({
        "required": true,
        "content": { "application/json": { "schema": schema(body) } },
    });
    if endpoint.response == ResponseKind::SignedUrl {
        operation["parameters"] = json!([{
            "name": "Prefer",
            "in": "header",
            "description": "`wait=N`: seconds to wait for a recording that is not there yet (RFC 7240)",
            "schema": { "type": "string" },
        }]);
    }
    operation
}

/// Adds the query of `playVoice`, the only interface without a body.
fn with_play_parameters(mut operation: Value) -> Value {
    let query = |name: &str, description: &str| {
        json!({
            "name": name,
            "in": "query",
            "required": true,
            "description": description,
            "schema": { "type": "string" },
        })
    };
    operation["parameters"] = json!([
        query("t", "A time stamp or number that makes the URL unique"),
        query("version", "`2.0`"),
        query("st", "The token of requestPlayVoice"),
    ]);
    operation
}

fn schema(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

const ADMIN: &str = include_str!("openapi/admin.json");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interface_is_described_as_the_table_has_it() {
        let paths = description()["paths"].as_object().unwrap();
        let ours: Vec<_> = paths
            .keys()
            .filter(|path| path.starts_with("/CCFS/"))
            .collect();
        assert_eq!(ours.len(), ENDPOINTS.len());
        for endpoint in ENDPOINTS {
            let path = &paths[&format!("{PREFIX}{}", endpoint.name)];
            let methods: Vec<_> = path.as_object().unwrap().keys().collect();
            assert_eq!(methods, [&endpoint.method.as_str().to_ascii_lowercase()]);
            let operation = &path[methods[0]];
            let is_signed = operation["security"][0]["signature"].is_array();
            assert_eq!(is_signed, endpoint.authenticated, "{}", endpoint.name);
            let is_file =
                operation["responses"]["200"]["content"]["application/octet-stream"].is_object();
            assert_eq!(is_file, endpoint.response == ResponseKind::File);
            assert_eq!(
                operation["requestBody"].is_null(),
                endpoint.body == BodyKind::Opaque
            );
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
            match value {
                Value::Object(members) => {
                    found.extend(members.get("$ref").and_then(Value::as_str));
                    members.values().for_each(|value| references(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        references(description(), &mut found);
        assert!(found.len() > 30, "{found:?}");
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(description().pointer(pointer).is_some(), "{reference}");
        }
    }
}
