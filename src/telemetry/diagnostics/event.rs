//! One event, and its two formats.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write as _;

use jiff::Timestamp;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use crate::escape;

/// The format of diagnostics.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Lines for people.
    Text,
}

impl LogFormat {
    /// Returns the name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Text => "text",
        }
    }
}

/// A recorded event of `tracing`.
#[derive(Clone, Debug)]
pub(super) struct DiagnosticEvent {
    time: Timestamp,
    level: Level,
    target: Cow<'static, str>,
    callsite: Option<Identifier>,
    message: String,
    fields: Vec<(&'static str, Value)>,
}

#[derive(Clone, Debug)]
enum Value {
    /// A number or bool, as it is in JSON.
    Literal(String),
    /// A string field; text quotes it.
    Quoted(String),
    /// A `Display` or `Debug` field; text does not quote it.
    Plain(String),
}

impl DiagnosticEvent {
    /// Records an event that happens now.
    pub(super) fn record(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        let mut recorded = Self {
            time: now(),
            level: *metadata.level(),
            target: metadata.target().into(),
            callsite: Some(metadata.callsite()),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut recorded);
        recorded
    }

    /// An event of the writer thread, which does not go through `tracing`.
    pub(super) fn loss(message: &str, lines: u64) -> Self {
        Self {
            time: now(),
            level: Level::WARN,
            target: module_path!().into(),
            callsite: None,
            message: message.to_owned(),
            fields: vec![("lines", Value::Literal(lines.to_string()))],
        }
    }

    pub(super) fn level(&self) -> Level {
        self.level
    }

    /// Returns a hash of what the event is about: its place in the code alone, and that with its message and
    /// [`SUBJECT_FIELDS`].
    pub(super) fn subject(&self) -> (u64, u64) {
        let mut hasher = DefaultHasher::new();
        self.callsite.hash(&mut hasher);
        let callsite = hasher.finish();
        self.message.hash(&mut hasher);
        for (name, value) in &self.fields {
            if SUBJECT_FIELDS.contains(name) {
                name.hash(&mut hasher);
                value.text().hash(&mut hasher);
            }
        }
        (callsite, hasher.finish())
    }

    /// Returns `time LEVEL message field=value …` and a line feed. The message keeps its line breaks:
    /// mistakes of a configuration are shown with their lines.
    pub(super) fn to_text(&self, repeated: u64, is_terminal: bool) -> Vec<u8> {
        let mut line = format!("{:.6} ", self.time);
        let color = match self.level {
            _ if !is_terminal => None,
            Level::ERROR => Some("31"),
            Level::WARN => Some("33"),
            Level::INFO => Some("32"),
            _ => Some("34"),
        };
        // Writing to a `String` cannot fail.
        let _ = match color {
            Some(color) => write!(line, "\u{1b}[{color}m{:>5}\u{1b}[0m", self.level.as_str()),
            None => write!(line, "{:>5}", self.level.as_str()),
        };
        for (index, part) in self.message.split('\n').enumerate() {
            line.push(if index == 0 { ' ' } else { '\n' });
            line.push_str(&escape::escaped(part));
        }
        for (name, value) in &self.fields {
            let _ = match value {
                Value::Quoted(text) => {
                    write!(line, " {name}={}", escape::escaped(&format!("{text:?}")))
                }
                _ => write!(line, " {name}={}", escape::escaped(value.text())),
            };
        }
        if repeated > 0 {
            let _ = write!(line, " repeated={repeated}");
        }
        line.push('\n');
        line.into_bytes()
    }

    /// Returns one JSON object and a line feed.
    pub(super) fn to_json(&self, repeated: u64) -> Vec<u8> {
        // Writing to a `Vec` cannot fail.
        let mut line = Vec::with_capacity(256);
        let level = self.level.as_str();
        let _ = write!(
            line,
            "{{\"time\":\"{:.6}\",\"level\":\"{level}\",\"target\":",
            self.time
        );
        escape::write_json_string(&mut line, &self.target);
        line.extend_from_slice(b",\"message\":");
        escape::write_json_string(&mut line, &self.message);
        for (name, value) in &self.fields {
            // A field must not repeat a member of the envelope.
            let prefix = if ENVELOPE.contains(name) {
                "field."
            } else {
                ""
            };
            let _ = write!(line, ",\"{prefix}{name}\":");
            match value {
                Value::Literal(literal) => line.extend_from_slice(literal.as_bytes()),
                _ => escape::write_json_string(&mut line, value.text()),
            }
        }
        if repeated > 0 {
            let _ = write!(line, ",\"repeated\":{repeated}");
        }
        line.extend_from_slice(b"}\n");
        line
    }

    fn add(&mut self, field: &Field, value: Value) {
        match field.name() {
            "message" => self.message = value.text().to_owned(),
            // The crate `log` passes the origin of its records in fields.
            "log.target" => self.target = value.text().to_owned().into(),
            name if name.starts_with("log.") => {}
            name => self.fields.push((name, value)),
        }
    }
}

impl Value {
    fn text(&self) -> &str {
        let (Self::Literal(text) | Self::Quoted(text) | Self::Plain(text)) = self;
        text
    }
}

impl Visit for DiagnosticEvent {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, Value::Plain(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, Value::Quoted(value.to_owned()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::Literal(value.to_string()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::Literal(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::Literal(value.to_string()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        let text = value.to_string();
        // JSON has no infinities.
        self.add(
            field,
            if value.is_finite() {
                Value::Literal(text)
            } else {
                Value::Plain(text)
            },
        );
    }
}

#[expect(clippy::disallowed_methods, reason = "the time of an event")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// Members of every JSON line.
const ENVELOPE: &[&str] = &["time", "level", "target", "message", "repeated"];

/// Fields that tell apart what a WARN or ERROR is about.
const SUBJECT_FIELDS: &[&str] = &[
    "access_key",
    "address",
    "cluster",
    "listener",
    "location",
    "name",
    "node",
    "store",
    "worker",
];
