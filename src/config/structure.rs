//! Checks a parsed file against its schema: unknown keys, wrong types, values out of range, all in one
//! pass. Invalid values are reported and removed, so that serde can read the remainder.

mod schema_node;

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

pub(super) use schema_node::SchemaNode;
use schema_node::{TableKeys, TextRule};

use super::diagnostics::Diagnostics;
use super::secrets;
use super::suggestion::suggest;
use super::units::{ByteSize, ConfigDuration, ConfigTime};

/// Removes everything from `table` that `node` does not allow, and reports it. Without
/// `secrets_inline`, no help text suggests a key that holds a secret.
pub(super) fn prune(
    table: &mut DeTable<'_>,
    node: &SchemaNode,
    secrets_inline: bool,
    diagnostics: &mut Diagnostics,
) {
    let mut walk = Validator {
        diagnostics,
        secrets_inline,
    };
    if let SchemaNode::Table(keys) = node {
        walk.check_table(table, keys, &KeyPath::Root);
    }
}

struct Validator<'a> {
    diagnostics: &'a mut Diagnostics,
    secrets_inline: bool,
}

/// The keys from the root to a value. A linked list on the stack: the dotted text is only needed for a
/// diagnostic.
enum KeyPath<'a> {
    Root,
    Child(&'a Self, &'a str),
}

impl KeyPath<'_> {
    fn dotted(&self) -> String {
        match self {
            Self::Root => String::new(),
            Self::Child(KeyPath::Root, key) => (*key).to_owned(),
            Self::Child(above, key) => format!("{}.{key}", above.dotted()),
        }
    }

    /// Returns the keys as messages show them: without the name of a caller that may be a secret.
    fn shown(&self) -> String {
        match self {
            Self::Child(above @ Self::Child(KeyPath::Root, "callers"), name)
                if !secrets::is_shown_caller_name(name) =>
            {
                format!("{}.…", above.dotted())
            }
            Self::Child(above @ Self::Child(..), key) => format!("{}.{key}", above.shown()),
            path => path.dotted(),
        }
    }

    /// Whether the value stands below access keys.
    fn is_in_account_table(&self) -> bool {
        match self {
            Self::Root => false,
            Self::Child(KeyPath::Root, key) => secrets::ACCOUNT_TABLES.contains(key),
            Self::Child(above, _) => above.is_in_account_table(),
        }
    }
}

impl Validator<'_> {
    fn check_table(&mut self, table: &mut DeTable<'_>, keys: &TableKeys, path: &KeyPath<'_>) {
        let mut out = Vec::new();
        let holds_accounts = matches!(path, KeyPath::Child(KeyPath::Root, "access_keys"));
        let holds_callers = matches!(path, KeyPath::Child(KeyPath::Root, "callers"));
        for (key, value) in table.iter_mut() {
            let name: &str = key.get_ref();
            if holds_callers && !secrets::is_shown_caller_name(name) {
                self.diagnostics.secret_spans.push(key.span());
            }
            if secrets::is_secret_key(name) {
                self.redact(value, &key.span());
            }
            let Some(below) = keys.get(name) else {
                // The key may be a mistyped `secret_key`.
                self.redact(value, &key.span());
                self.report_unknown_key(name, &key.span(), keys, path);
                out.push(name.to_owned());
                continue;
            };
            if holds_accounts {
                self.diagnostics.access_key = Some(name.into());
            }
            let path = KeyPath::Child(path, name);
            if !self.check_value(value, below, &key.span(), &path) {
                self.diagnostics.already_reported.insert(path.dotted());
                out.push(name.to_owned());
            }
        }
        if holds_accounts {
            self.diagnostics.access_key = None;
        }
        for name in out {
            table.remove(name.as_str());
        }
    }

    /// Redacts a value and all values below it. The span of a `[table]` is its key's, which stays visible.
    fn redact(&mut self, value: &Spanned<DeValue<'_>>, key: &Range<usize>) {
        let span = value.span();
        if !span.contains(&key.start) {
            self.diagnostics.secret_spans.push(span);
        }
        match value.get_ref() {
            DeValue::Table(table) => {
                for (key, value) in table {
                    self.redact(value, &key.span());
                }
            }
            DeValue::Array(array) => array.iter().for_each(|item| self.redact(item, key)),
            _ => {}
        }
    }

    fn report_unknown_key(
        &mut self,
        name: &str,
        span: &Range<usize>,
        keys: &TableKeys,
        path: &KeyPath<'_>,
    ) {
        let advised = |key: &str| self.secrets_inline || !secrets::is_secret_key(key);
        let help = match suggest(name, keys.names()) {
            Some(meant) => {
                self.diagnostics
                    .already_reported
                    .insert(KeyPath::Child(path, meant).dotted());
                let meant = if advised(meant) {
                    meant
                } else {
                    "secret_key_file"
                };
                format!("did you mean `{meant}`?")
            }
            None => {
                let known: Vec<_> = keys.names().filter(|key| advised(key)).collect();
                format!("known here: {}", known.join(", "))
            }
        };
        let message = if secrets::looks_like_secret(name) {
            self.diagnostics.secret_spans.push(span.clone());
            "unknown key".to_owned()
        } else {
            format!("unknown key `{name}`")
        };
        self.diagnostics.error(span.clone(), message, help);
    }

    /// Returns whether the value is valid; if not, it has been reported.
    fn check_value(
        &mut self,
        value: &mut Spanned<DeValue<'_>>,
        node: &SchemaNode,
        key: &Range<usize>,
        path: &KeyPath<'_>,
    ) -> bool {
        let Some(meant) = node.matching(value.get_ref()) else {
            self.report_wrong_type(value, node, key, path);
            return false;
        };
        let span = value.span();
        match (value.get_mut(), meant) {
            (DeValue::Table(table), SchemaNode::Table(keys)) => {
                self.check_table(table, keys, path);
                true
            }
            (DeValue::Array(array), SchemaNode::List { .. }) => {
                self.check_array(array, meant, &span, path)
            }
            (DeValue::String(text), SchemaNode::Text(allowed)) => {
                let mismatch = self.check_text(text, allowed, &span, path);
                self.report_mismatch(mismatch, meant, span)
            }
            (DeValue::Datetime(date), SchemaNode::Text(rule)) => {
                let mismatch = self.check_text(&date.to_string(), rule, &span, path);
                self.report_mismatch(mismatch, meant, span)
            }
            (DeValue::Integer(number), SchemaNode::Number { .. }) => {
                let number = i64::from_str_radix(number.as_str(), number.radix()).ok();
                let mismatch = check_range(number.map(|number| number as f64), meant, path);
                self.report_mismatch(mismatch, meant, span)
            }
            (DeValue::Float(number), SchemaNode::Number { .. }) => {
                let mismatch = check_range(number.as_str().parse().ok(), meant, path);
                self.report_mismatch(mismatch, meant, span)
            }
            _ => true,
        }
    }

    /// Checks every item; one invalid item makes the whole list unreadable for serde.
    fn check_array(
        &mut self,
        array: &mut DeArray<'_>,
        node: &SchemaNode,
        span: &Range<usize>,
        path: &KeyPath<'_>,
    ) -> bool {
        let SchemaNode::List { items, min, max } = node else {
            return true;
        };
        let count = array.len() as u64;
        if count < *min || count > *max {
            let message = format!("{} has {count} values", path.shown());
            self.diagnostics
                .error(span.clone(), message, format!("must be {node}"));
            return false;
        }
        let mut all_fit = true;
        for item in array.iter_mut() {
            let span = item.span();
            all_fit &= self.check_value(item, items, &span, path);
        }
        all_fit
    }

    /// Returns what is wrong with a string, if anything is.
    fn check_text(
        &mut self,
        text: &str,
        allowed: &TextRule,
        span: &Range<usize>,
        path: &KeyPath<'_>,
    ) -> Option<Mismatch> {
        if secrets::has_url_password(text) {
            self.diagnostics.secret_spans.push(span.clone());
            return Some(Mismatch {
                message: format!("{} is a URL with a password", path.shown()),
                help: Some(
                    "must hold no password: secrets stand in files or in the environment".into(),
                ),
            });
        }
        let (fits, message) = match allowed {
            TextRule::Any => return None,
            TextRule::OneOf(values) => {
                (values.iter().any(|value| value == text), "unknown value of")
            }
            TextRule::Size => (ByteSize::parse(text).is_some(), "cannot read"),
            TextRule::Duration => (ConfigDuration::parse(text).is_some(), "cannot read"),
            TextRule::Time => (ConfigTime::parse(text).is_some(), "cannot read"),
        };
        if !fits && secrets::looks_like_api_key(text) {
            self.diagnostics.secret_spans.push(span.clone());
        }
        (!fits).then(|| Mismatch {
            message: format!("{message} {}", path.shown()),
            help: allowed
                .suggestion(text)
                .map(|meant| format!("did you mean \"{meant}\"?")),
        })
    }

    /// Reports a mismatch, if there is one. Returns whether there is none.
    fn report_mismatch(
        &mut self,
        mismatch: Option<Mismatch>,
        node: &SchemaNode,
        span: Range<usize>,
    ) -> bool {
        let Some(mismatch) = mismatch else {
            return true;
        };
        let help = mismatch.help.unwrap_or_else(|| format!("must be {node}"));
        self.diagnostics.error(span, mismatch.message, help);
        false
    }

    fn report_wrong_type(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        node: &SchemaNode,
        key: &Range<usize>,
        path: &KeyPath<'_>,
    ) {
        let found = value.get_ref();
        let span = match found {
            // It can span several lines and hold a secret.
            DeValue::Table(_) | DeValue::Array(_) => {
                self.redact(value, key);
                key.clone()
            }
            _ => value.span(),
        };
        if path.is_in_account_table() {
            self.redact(value, key);
        }
        let message = format!("{} cannot be {}", path.shown(), type_name(found));
        self.diagnostics
            .error(span, message, format!("must be {node}"));
    }
}

struct Mismatch {
    message: String,
    /// What would be right; `None` is the description of the schema node.
    help: Option<String>,
}

/// Returns a mismatch for a number out of range; `None` is a number that is too large to parse.
fn check_range(number: Option<f64>, node: &SchemaNode, path: &KeyPath<'_>) -> Option<Mismatch> {
    let SchemaNode::Number { min, max, .. } = node else {
        return None;
    };
    let fits = number.is_some_and(|number| (*min..=*max).contains(&number));
    (!fits).then(|| Mismatch {
        message: format!("{} is out of range", path.shown()),
        help: None,
    })
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::Table(_) => "a table",
        DeValue::Array(_) => "a list",
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
    }
}
