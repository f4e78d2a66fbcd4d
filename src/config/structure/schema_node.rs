//! What the schema allows, read once into the shape that the check needs.

use std::fmt;

use serde_json::Value;
use toml::de::DeValue;

use crate::config::nearest::suggest;
use crate::config::units::{ByteSize, ConfigDuration};

/// What a value may be.
#[derive(Debug)]
pub(in crate::config) enum SchemaNode {
    /// One of several.
    AnyOf(Vec<Self>),
    Boolean,
    List {
        items: Box<Self>,
        least: u64,
        most: u64,
    },
    Number {
        whole: bool,
        least: f64,
        most: f64,
    },
    Table(TableKeys),
    Text(TextRule),
}

/// What a table may hold.
#[derive(Debug)]
pub(in crate::config) struct TableKeys {
    /// In the order of the file's types. A table has so few that they are found by looking at each.
    known: Vec<(String, SchemaNode)>,
    /// The form below any other key; without it other keys are unknown.
    additional: Option<Box<SchemaNode>>,
}

/// What a text may be.
#[derive(Debug)]
pub(in crate::config) enum TextRule {
    Any,
    OneOf(Vec<String>),
    Size,
    Duration,
}

impl SchemaNode {
    /// Reads a schema without references.
    pub(in crate::config) fn from_schema(schema: &Value) -> Self {
        if let Some(branches) = schema["anyOf"].as_array() {
            return Self::AnyOf(branches.iter().map(Self::from_schema).collect());
        }
        match schema["type"].as_str() {
            Some("array") => Self::List {
                items: Box::new(Self::from_schema(&schema["items"])),
                least: schema["minItems"].as_u64().unwrap_or(0),
                most: schema["maxItems"].as_u64().unwrap_or(u64::MAX),
            },
            Some("boolean") => Self::Boolean,
            Some(number @ ("integer" | "number")) => Self::Number {
                whole: number == "integer",
                least: schema["minimum"].as_f64().unwrap_or(f64::NEG_INFINITY),
                most: schema["maximum"].as_f64().unwrap_or(f64::INFINITY),
            },
            Some("object") => Self::Table(TableKeys::from_schema(schema)),
            _ => Self::Text(TextRule::from_schema(schema)),
        }
    }

    /// The form that is meant by a value of this type, if any is.
    pub(super) fn matching(&self, value: &DeValue<'_>) -> Option<&Self> {
        let fits = match (self, value) {
            (Self::AnyOf(forms), _) => return forms.iter().find_map(|form| form.matching(value)),
            (Self::Boolean, DeValue::Boolean(_))
            | (Self::List { .. }, DeValue::Array(_))
            | (Self::Number { .. }, DeValue::Integer(_))
            | (Self::Number { whole: false, .. }, DeValue::Float(_))
            | (Self::Table(_), DeValue::Table(_))
            | (Self::Text(_), DeValue::String(_)) => true,
            _ => false,
        };
        fits.then_some(self)
    }
}

impl TableKeys {
    fn from_schema(schema: &Value) -> Self {
        let known = schema["properties"].as_object().into_iter().flatten();
        let others = &schema["additionalProperties"];
        Self {
            known: known
                .map(|(key, below)| (key.clone(), SchemaNode::from_schema(below)))
                .collect(),
            additional: others
                .is_object()
                .then(|| Box::new(SchemaNode::from_schema(others))),
        }
    }

    /// The form below a key.
    pub(super) fn get(&self, key: &str) -> Option<&SchemaNode> {
        let known = self.known.iter().find(|(known, _)| known == key);
        known.map(|(_, form)| form).or(self.additional.as_deref())
    }

    /// The known keys.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.known.iter().map(|(key, _)| key.as_str())
    }
}

impl TextRule {
    /// The value of a closed set that a mistyped one is near to.
    pub(super) fn suggestion(&self, typed: &str) -> Option<&str> {
        match self {
            Self::OneOf(values) => suggest(typed, values.iter().map(String::as_str)),
            Self::Any | Self::Size | Self::Duration => None,
        }
    }

    fn from_schema(schema: &Value) -> Self {
        let title = schema["title"].as_str().unwrap_or_default();
        let described = schema["oneOf"].as_array().into_iter().flatten();
        let values: Vec<_> = described.chain([schema]).flat_map(enum_values).collect();
        match title {
            ConfigDuration::SYNTAX => Self::Duration,
            ByteSize::SYNTAX => Self::Size,
            _ if values.is_empty() => Self::Any,
            _ => Self::OneOf(values),
        }
    }
}

/// The values of a closed set, or of one branch of it.
fn enum_values(schema: &Value) -> impl Iterator<Item = String> {
    let several = schema["enum"].as_array().into_iter().flatten();
    let all = several.chain([&schema["const"]]);
    all.filter_map(Value::as_str).map(str::to_owned)
}

/// What is asked for, in words.
impl fmt::Display for SchemaNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyOf(forms) => write_alternatives(forms, f),
            Self::Boolean => f.write_str("true or false"),
            Self::List { most: u64::MAX, .. } => f.write_str("a list"),
            Self::List { least, most, .. } => write!(f, "a list of {least} to {most}"),
            Self::Number { whole, least, most } => {
                f.write_str(if *whole { "a whole number" } else { "a number" })?;
                write!(f, " from {least} to {most}")
            }
            Self::Table(keys) => {
                f.write_str("a table")?;
                // A short one is shown: `rate_limit = 50` is a natural guess.
                match (&keys.known[..], &keys.additional) {
                    ([(one, _)], None) => write!(f, " {{ {one} = … }}"),
                    ([(one, _), (two, _)], None) => write!(f, " {{ {one} = …, {two} = … }}"),
                    _ => Ok(()),
                }
            }
            Self::Text(TextRule::Any) => f.write_str("a text in quotes"),
            Self::Text(TextRule::OneOf(values)) => {
                let quoted: Vec<_> = values.iter().map(|value| format!("\"{value}\"")).collect();
                write_alternatives(&quoted, f)
            }
            Self::Text(TextRule::Size) => f.write_str(ByteSize::SYNTAX),
            Self::Text(TextRule::Duration) => f.write_str(ConfigDuration::SYNTAX),
        }
    }
}

fn write_alternatives(all: &[impl fmt::Display], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (at, one) in all.iter().enumerate() {
        let or = if at == 0 { "" } else { " or " };
        write!(f, "{or}{one}")?;
    }
    Ok(())
}
