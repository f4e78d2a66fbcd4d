//! Validation by JSON Schema.

use boon::{Compiler, Schemas, ValidationError};
use serde_json::Value;

/// Returns what is wrong with `value` by `schema`, a line each.
pub(crate) fn violations(schema: &Value, value: &Value) -> Vec<String> {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource(NAME, schema.clone()).unwrap();
    let index = compiler.compile(NAME, &mut schemas).unwrap();
    let mut all = Vec::new();
    if let Err(error) = schemas.validate(value, index) {
        collect(&error, &mut all);
    }
    all
}

fn collect(error: &ValidationError<'_, '_>, all: &mut Vec<String>) {
    if error.causes.is_empty() {
        all.push(format!("{}: {}", error.instance_location, error.kind));
    }
    for cause in &error.causes {
        collect(cause, all);
    }
}

const NAME: &str = "schema.json";
