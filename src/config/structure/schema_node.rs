//! What the schema allows, read once into the shape that the check needs.

use std::fmt;

use serde_json::Value;
use toml::de::DeValue;

use crate::config::nearest::nearest;
use crate::config::units::{Size, Time};

/// What a value may be.
#[derive(Debug)]
pub(in crate::config) enum Form {
    /// One of several.
    AnyOf(Vec<Self>),
    Flag,
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
    Table(Keys),
    Text(Text),
}

/// What a table may hold.
#[derive(Debug)]
pub(in crate::config) struct Keys {
    /// In the order of the file's types. A table has so few that they are found by looking at each.
    known: Vec<(String, Form)>,
    /// The form below any other key; without it other keys are unknown.
    others: Option<Box<Form>>,
}

/// What a text may be.
#[derive(Debug)]
pub(in crate::config) enum Text {
    Any,
    OneOf(Vec<String>),
    Size,
    Time,
}

impl Form {
    /// Reads a schema without references.
    pub(in crate::config) fn of(schema: &Value) -> Self {
        if let Some(branches) = schema["anyOf"].as_array() {
            return Self::AnyOf(branches.iter().map(Self::of).collect());
        }
        match schema["type"].as_str() {
            Some("array") => Self::List {
                items: Box::new(Self::of(&schema["items"])),
                least: schema["minItems"].as_u64().unwrap_or(0),
                most: schema["maxItems"].as_u64().unwrap_or(u64::MAX),
            },
            Some("boolean") => Self::Flag,
            Some(number @ ("integer" | "number")) => Self::Number {
                whole: number == "integer",
                least: schema["minimum"].as_f64().unwrap_or(f64::NEG_INFINITY),
                most: schema["maximum"].as_f64().unwrap_or(f64::INFINITY),
            },
            Some("object") => Self::Table(Keys::of(schema)),
            _ => Self::Text(Text::of(schema)),
        }
    }

    /// The form that is meant by a value of this type, if any is.
    pub(super) fn meant_by(&self, value: &DeValue<'_>) -> Option<&Self> {
        let fits = match (self, value) {
            (Self::AnyOf(forms), _) => return forms.iter().find_map(|form| form.meant_by(value)),
            (Self::Flag, DeValue::Boolean(_))
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

impl Keys {
    fn of(schema: &Value) -> Self {
        let known = schema["properties"].as_object().into_iter().flatten();
        let others = &schema["additionalProperties"];
        Self {
            known: known
                .map(|(key, below)| (key.clone(), Form::of(below)))
                .collect(),
            others: others.is_object().then(|| Box::new(Form::of(others))),
        }
    }

    /// The form below a key.
    pub(super) fn below(&self, key: &str) -> Option<&Form> {
        let known = self.known.iter().find(|(known, _)| known == key);
        known.map(|(_, form)| form).or(self.others.as_deref())
    }

    /// The known keys.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.known.iter().map(|(key, _)| key.as_str())
    }
}

impl Text {
    /// The value of a closed set that a mistyped one is near to.
    pub(super) fn meant(&self, typed: &str) -> Option<&str> {
        match self {
            Self::OneOf(values) => nearest(typed, values.iter().map(String::as_str)),
            Self::Any | Self::Size | Self::Time => None,
        }
    }

    fn of(schema: &Value) -> Self {
        let title = schema["title"].as_str().unwrap_or_default();
        let described = schema["oneOf"].as_array().into_iter().flatten();
        let values: Vec<_> = described.chain([schema]).flat_map(listed).collect();
        match title {
            Time::FORM => Self::Time,
            Size::FORM => Self::Size,
            _ if values.is_empty() => Self::Any,
            _ => Self::OneOf(values),
        }
    }
}

/// The values of a closed set, or of one branch of it.
fn listed(schema: &Value) -> impl Iterator<Item = String> {
    let several = schema["enum"].as_array().into_iter().flatten();
    let all = several.chain([&schema["const"]]);
    all.filter_map(Value::as_str).map(str::to_owned)
}

/// What is asked for, in words.
impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyOf(forms) => alternatives(forms, f),
            Self::Flag => f.write_str("true or false"),
            Self::List { most: u64::MAX, .. } => f.write_str("a list"),
            Self::List { least, most, .. } => write!(f, "a list of {least} to {most}"),
            Self::Number { whole, least, most } => {
                f.write_str(if *whole { "a whole number" } else { "a number" })?;
                write!(f, " from {least} to {most}")
            }
            Self::Table(keys) => {
                f.write_str("a table")?;
                // A short one is shown: `rate_limit = 50` is a natural guess.
                match (&keys.known[..], &keys.others) {
                    ([(one, _)], None) => write!(f, " {{ {one} = … }}"),
                    ([(one, _), (two, _)], None) => write!(f, " {{ {one} = …, {two} = … }}"),
                    _ => Ok(()),
                }
            }
            Self::Text(Text::Any) => f.write_str("a text in quotes"),
            Self::Text(Text::OneOf(values)) => {
                let quoted: Vec<_> = values.iter().map(|value| format!("\"{value}\"")).collect();
                alternatives(&quoted, f)
            }
            Self::Text(Text::Size) => f.write_str(Size::FORM),
            Self::Text(Text::Time) => f.write_str(Time::FORM),
        }
    }
}

fn alternatives(all: &[impl fmt::Display], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (at, one) in all.iter().enumerate() {
        let or = if at == 0 { "" } else { " or " };
        write!(f, "{or}{one}")?;
    }
    Ok(())
}
