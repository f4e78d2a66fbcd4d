//! Judges a parsed file against the form of its schema: unknown keys, wrong types, values out of
//! range, all at once. What is wrong is reported and taken out, so that the rest can be read and
//! judged further.

mod schema_node;

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

pub(super) use schema_node::SchemaNode;
use schema_node::{TableKeys, TextRule};

use super::nearest::suggest;
use super::report::Diagnostics;
use super::secrets;
use super::units::{ByteSize, ConfigDuration};

/// Takes everything out of `table` that `form` does not allow, and reports it. Unless
/// `secrets_inline`, nobody is advised to write a secret.
pub(super) fn prune(
    table: &mut DeTable<'_>,
    form: &SchemaNode,
    secrets_inline: bool,
    report: &mut Diagnostics,
) {
    let mut walk = Validator {
        report,
        secrets_inline,
    };
    if let SchemaNode::Table(keys) = form {
        walk.check_table(table, keys, &KeyPath::Root);
    }
}

struct Validator<'a> {
    report: &'a mut Diagnostics,
    secrets_inline: bool,
}

/// The keys down to a value; written out only when something is wrong there.
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
}

impl Validator<'_> {
    fn check_table(&mut self, table: &mut DeTable<'_>, keys: &TableKeys, trail: &KeyPath<'_>) {
        let mut out = Vec::new();
        for (key, value) in table.iter_mut() {
            let name: &str = key.get_ref();
            if secrets::is_secret_key(name) {
                self.redact(value, &key.span());
            }
            let Some(below) = keys.get(name) else {
                // It may be a mistyped `secret_key`.
                self.redact(value, &key.span());
                self.report_unknown_key(name, &key.span(), keys, trail);
                out.push(name.to_owned());
                continue;
            };
            let trail = KeyPath::Child(trail, name);
            if !self.check_value(value, below, &key.span(), &trail) {
                self.report.already_reported.insert(trail.dotted());
                out.push(name.to_owned());
            }
        }
        for name in out {
            table.remove(name.as_str());
        }
    }

    /// The value is never shown. A `[table]` stands at its key; what is below it is not shown anyway.
    fn redact(&mut self, value: &Spanned<DeValue<'_>>, key: &Range<usize>) {
        let span = value.span();
        if !span.contains(&key.start) {
            self.report.secret_spans.push(span);
        }
    }

    fn report_unknown_key(
        &mut self,
        name: &str,
        span: &Range<usize>,
        keys: &TableKeys,
        trail: &KeyPath<'_>,
    ) {
        let advised = |key: &str| self.secrets_inline || !secrets::is_secret_key(key);
        let help = match suggest(name, keys.names()) {
            Some(meant) => {
                self.report
                    .already_reported
                    .insert(KeyPath::Child(trail, meant).dotted());
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
        self.report
            .error(span.clone(), format!("unknown key `{name}`"), help);
    }

    /// Does the value fit? If not, that was reported.
    fn check_value(
        &mut self,
        value: &mut Spanned<DeValue<'_>>,
        form: &SchemaNode,
        key: &Range<usize>,
        trail: &KeyPath<'_>,
    ) -> bool {
        let Some(meant) = form.matching(value.get_ref()) else {
            self.report_wrong_type(value, form, key, trail);
            return false;
        };
        let span = value.span();
        match (value.get_mut(), meant) {
            (DeValue::Table(table), SchemaNode::Table(keys)) => {
                self.check_table(table, keys, trail);
                true
            }
            (DeValue::Array(array), SchemaNode::List { .. }) => {
                self.check_array(array, meant, &span, trail)
            }
            (DeValue::String(text), SchemaNode::Text(allowed)) => {
                let fault = self.check_text(text, allowed, &span, trail);
                self.report_mismatch(fault, meant, span)
            }
            (DeValue::Integer(number), SchemaNode::Number { .. }) => {
                let number = i64::from_str_radix(number.as_str(), number.radix()).ok();
                let fault = check_range(number.map(|number| number as f64), meant, trail);
                self.report_mismatch(fault, meant, span)
            }
            (DeValue::Float(number), SchemaNode::Number { .. }) => {
                let fault = check_range(number.as_str().parse().ok(), meant, trail);
                self.report_mismatch(fault, meant, span)
            }
            _ => true,
        }
    }

    /// Every item is judged; a single wrong one makes the list unreadable.
    fn check_array(
        &mut self,
        array: &mut DeArray<'_>,
        form: &SchemaNode,
        span: &Range<usize>,
        trail: &KeyPath<'_>,
    ) -> bool {
        let SchemaNode::List { items, least, most } = form else {
            return true;
        };
        let count = array.len() as u64;
        if count < *least || count > *most {
            let message = format!("{} has {count} values", trail.dotted());
            self.report
                .error(span.clone(), message, format!("must be {form}"));
            return false;
        }
        let mut all_fit = true;
        for item in array.iter_mut() {
            let place = item.span();
            all_fit &= self.check_value(item, items, &place, trail);
        }
        all_fit
    }

    /// What is wrong with a text, and what would be right if its form does not say it.
    fn check_text(
        &mut self,
        text: &str,
        allowed: &TextRule,
        span: &Range<usize>,
        trail: &KeyPath<'_>,
    ) -> Option<Mismatch> {
        if secrets::has_url_password(text) {
            self.report.secret_spans.push(span.clone());
            return Some(Mismatch {
                message: format!("{} is a URL with a password", trail.dotted()),
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
        };
        (!fits).then(|| Mismatch {
            message: format!("{message} {}", trail.dotted()),
            help: allowed
                .suggestion(text)
                .map(|meant| format!("did you mean \"{meant}\"?")),
        })
    }

    /// Reports a fault, if there is one.
    fn report_mismatch(
        &mut self,
        fault: Option<Mismatch>,
        form: &SchemaNode,
        span: Range<usize>,
    ) -> bool {
        let Some(fault) = fault else {
            return true;
        };
        let help = fault.help.unwrap_or_else(|| format!("must be {form}"));
        self.report.error(span, fault.message, help);
        false
    }

    fn report_wrong_type(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        form: &SchemaNode,
        key: &Range<usize>,
        trail: &KeyPath<'_>,
    ) {
        let found = value.get_ref();
        let place = match found {
            // Could span lines, and hold anything.
            DeValue::Table(_) | DeValue::Array(_) => {
                self.redact(value, key);
                key.clone()
            }
            _ => value.span(),
        };
        let message = format!("{} cannot be {}", trail.dotted(), type_name(found));
        self.report.error(place, message, format!("must be {form}"));
    }
}

struct Mismatch {
    message: String,
    /// Without it: what the form says.
    help: Option<String>,
}

/// No number is one that is too large to read.
fn check_range(number: Option<f64>, form: &SchemaNode, trail: &KeyPath<'_>) -> Option<Mismatch> {
    let SchemaNode::Number { least, most, .. } = form else {
        return None;
    };
    let fits = number.is_some_and(|number| (*least..=*most).contains(&number));
    (!fits).then(|| Mismatch {
        message: format!("{} is out of range", trail.dotted()),
        help: None,
    })
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::Table(_) => "a table",
        DeValue::Array(_) => "a list",
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
    }
}
