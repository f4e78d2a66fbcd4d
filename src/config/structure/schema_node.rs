//! The JSON Schema, parsed once into the structure that the check needs.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;
use toml::de::DeValue;

use crate::config::suggestion::suggest;
use crate::config::units::{ByteSize, ConfigDuration};

/// The values that the schema allows.
#[derive(Debug)]
pub(in crate::config) enum SchemaNode {
    /// Any of several alternatives.
    AnyOf(Vec<Self>),
    Boolean,
    List {
        items: Box<Self>,
        min: u64,
        max: u64,
    },
    Number {
        whole: bool,
        min: f64,
        max: f64,
    },
    Table(TableKeys),
    Text(TextRule),
}

/// The keys that a table may hold.
#[derive(Debug)]
pub(in crate::config) struct TableKeys {
    /// In the order of the file's types. Searched linearly: the largest table has about thirty.
    known: Vec<(String, SchemaNode)>,
    /// The node of any other key; `None` if other keys are unknown.
    additional: Option<Box<SchemaNode>>,
    /// An example in the notation of the file.
    example: Option<String>,
}

/// The strings that the schema allows.
#[derive(Debug)]
pub(in crate::config) enum TextRule {
    Any,
    OneOf(Vec<String>),
    Size,
    Duration,
}

impl SchemaNode {
    /// Parses a schema without references.
    pub(in crate::config) fn from_schema(schema: &Value) -> Self {
        if let Some(branches) = schema["anyOf"].as_array() {
            return Self::AnyOf(branches.iter().map(Self::from_schema).collect());
        }
        match schema["type"].as_str() {
            Some("array") => Self::List {
                items: Box::new(Self::from_schema(&schema["items"])),
                min: schema["minItems"].as_u64().unwrap_or(0),
                max: schema["maxItems"].as_u64().unwrap_or(u64::MAX),
            },
            Some("boolean") => Self::Boolean,
            Some(number @ ("integer" | "number")) => Self::Number {
                whole: number == "integer",
                min: schema["minimum"].as_f64().unwrap_or(f64::NEG_INFINITY),
                max: schema["maximum"].as_f64().unwrap_or(f64::INFINITY),
            },
            Some("object") => Self::Table(TableKeys::from_schema(schema)),
            _ => Self::Text(TextRule::from_schema(schema)),
        }
    }

    /// Returns the alternative that has the type of the value, if any.
    pub(super) fn matching(&self, value: &DeValue<'_>) -> Option<&Self> {
        let fits = match (self, value) {
            (Self::AnyOf(nodes), _) => return nodes.iter().find_map(|node| node.matching(value)),
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

    /// Adds the known keys of all tables below this node.
    pub(in crate::config) fn collect_keys(&self, keys: &mut BTreeSet<String>) {
        match self {
            Self::AnyOf(nodes) => nodes.iter().for_each(|node| node.collect_keys(keys)),
            Self::List { items, .. } => items.collect_keys(keys),
            Self::Table(table) => {
                for (key, node) in &table.known {
                    keys.insert(key.clone());
                    node.collect_keys(keys);
                }
                if let Some(node) = &table.additional {
                    node.collect_keys(keys);
                }
            }
            Self::Boolean | Self::Number { .. } | Self::Text(_) => {}
        }
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
            example: schema["examples"][0].as_object().map(|example| {
                let pairs = example
                    .iter()
                    .map(|(key, value)| format!("{key} = {value}"));
                format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
            }),
        }
    }

    /// Returns the node of a key.
    pub(super) fn get(&self, key: &str) -> Option<&SchemaNode> {
        let known = self.known.iter().find(|(known, _)| known == key);
        known.map(|(_, node)| node).or(self.additional.as_deref())
    }

    /// Returns the known keys.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.known.iter().map(|(key, _)| key.as_str())
    }
}

impl TextRule {
    /// Returns the value of an enumeration that a mistyped one is close to.
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

/// Returns the values of an enumeration, or of one branch of it.
fn enum_values(schema: &Value) -> impl Iterator<Item = String> {
    let several = schema["enum"].as_array().into_iter().flatten();
    let all = several.chain([&schema["const"]]);
    all.filter_map(Value::as_str).map(str::to_owned)
}

/// Describes what is allowed, in words.
impl fmt::Display for SchemaNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyOf(nodes) => write_alternatives(nodes, f),
            Self::Boolean => f.write_str("true or false"),
            Self::List { max: u64::MAX, .. } => f.write_str("a list"),
            Self::List { min, max, .. } => write!(f, "a list of {min} to {max}"),
            Self::Number { whole, min, max } => {
                f.write_str(if *whole { "a whole number" } else { "a number" })?;
                write!(f, " from {min} to {max}")
            }
            Self::Table(keys) => {
                f.write_str("a table")?;
                if let Some(example) = &keys.example {
                    return write!(f, " such as {example}");
                }
                // A short table is shown: `rate_limit = 50` is a common guess.
                match (&keys.known[..], &keys.additional) {
                    ([(one, _)], None) => write!(f, " {{ {one} = … }}"),
                    ([(one, _), (two, _)], None) => write!(f, " {{ {one} = …, {two} = … }}"),
                    _ => Ok(()),
                }
            }
            Self::Text(TextRule::Any) => f.write_str("a string in quotes"),
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
