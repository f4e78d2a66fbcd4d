//! Judges a parsed file against the form of its schema: unknown keys, wrong types, values out of
//! range, all at once. What is wrong is reported and taken out, so that the rest can be read and
//! judged further.

mod schema_node;

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

pub(super) use schema_node::Form;
use schema_node::{Keys, Text};

use super::nearest::nearest;
use super::report::Report;
use super::secrets;
use super::units::{Size, Time};

/// Takes everything out of `table` that `form` does not allow, and reports it. Unless
/// `secrets_inline`, nobody is advised to write a secret.
pub(super) fn prune(
    table: &mut DeTable<'_>,
    form: &Form,
    secrets_inline: bool,
    report: &mut Report,
) {
    let mut walk = Walk {
        report,
        secrets_inline,
    };
    if let Form::Table(keys) = form {
        walk.table(table, keys, &Trail::Root);
    }
}

struct Walk<'a> {
    report: &'a mut Report,
    secrets_inline: bool,
}

/// The keys down to a value; written out only when something is wrong there.
enum Trail<'a> {
    Root,
    Below(&'a Self, &'a str),
}

impl Trail<'_> {
    fn path(&self) -> String {
        match self {
            Self::Root => String::new(),
            Self::Below(Trail::Root, key) => (*key).to_owned(),
            Self::Below(above, key) => format!("{}.{key}", above.path()),
        }
    }
}

impl Walk<'_> {
    fn table(&mut self, table: &mut DeTable<'_>, keys: &Keys, trail: &Trail<'_>) {
        let mut out = Vec::new();
        for (key, value) in table.iter_mut() {
            let name: &str = key.get_ref();
            if secrets::is_secret(name) {
                self.hide(value, &key.span());
            }
            let Some(below) = keys.below(name) else {
                // It may be a mistyped `secret_key`.
                self.hide(value, &key.span());
                self.unknown(name, &key.span(), keys, trail);
                out.push(name.to_owned());
                continue;
            };
            let trail = Trail::Below(trail, name);
            if !self.value(value, below, &key.span(), &trail) {
                self.report.judged.insert(trail.path());
                out.push(name.to_owned());
            }
        }
        for name in out {
            table.remove(name.as_str());
        }
    }

    /// The value is never shown. A `[table]` stands at its key; what is below it is not shown anyway.
    fn hide(&mut self, value: &Spanned<DeValue<'_>>, key: &Range<usize>) {
        let span = value.span();
        if !span.contains(&key.start) {
            self.report.hidden.push(span);
        }
    }

    fn unknown(&mut self, name: &str, span: &Range<usize>, keys: &Keys, trail: &Trail<'_>) {
        let advised = |key: &str| self.secrets_inline || !secrets::is_secret(key);
        let help = match nearest(name, keys.names()) {
            Some(meant) => {
                self.report.judged.insert(Trail::Below(trail, meant).path());
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
    fn value(
        &mut self,
        value: &mut Spanned<DeValue<'_>>,
        form: &Form,
        key: &Range<usize>,
        trail: &Trail<'_>,
    ) -> bool {
        let Some(meant) = form.meant_by(value.get_ref()) else {
            self.wrong_type(value, form, key, trail);
            return false;
        };
        let span = value.span();
        match (value.get_mut(), meant) {
            (DeValue::Table(table), Form::Table(keys)) => {
                self.table(table, keys, trail);
                true
            }
            (DeValue::Array(array), Form::List { .. }) => self.array(array, meant, &span, trail),
            (DeValue::String(text), Form::Text(allowed)) => {
                let fault = self.text_fault(text, allowed, &span, trail);
                self.fits(fault, meant, span)
            }
            (DeValue::Integer(number), Form::Number { .. }) => {
                let number = i64::from_str_radix(number.as_str(), number.radix()).ok();
                let fault = out_of_range(number.map(|number| number as f64), meant, trail);
                self.fits(fault, meant, span)
            }
            (DeValue::Float(number), Form::Number { .. }) => {
                let fault = out_of_range(number.as_str().parse().ok(), meant, trail);
                self.fits(fault, meant, span)
            }
            _ => true,
        }
    }

    /// Every item is judged; a single wrong one makes the list unreadable.
    fn array(
        &mut self,
        array: &mut DeArray<'_>,
        form: &Form,
        span: &Range<usize>,
        trail: &Trail<'_>,
    ) -> bool {
        let Form::List { items, least, most } = form else {
            return true;
        };
        let count = array.len() as u64;
        if count < *least || count > *most {
            let message = format!("{} has {count} values", trail.path());
            self.report
                .error(span.clone(), message, format!("must be {form}"));
            return false;
        }
        let mut all_fit = true;
        for item in array.iter_mut() {
            let place = item.span();
            all_fit &= self.value(item, items, &place, trail);
        }
        all_fit
    }

    /// What is wrong with a text, and what would be right if its form does not say it.
    fn text_fault(
        &mut self,
        text: &str,
        allowed: &Text,
        span: &Range<usize>,
        trail: &Trail<'_>,
    ) -> Option<Fault> {
        if secrets::password_in_url(text) {
            self.report.hidden.push(span.clone());
            return Some(Fault {
                message: format!("{} is a URL with a password", trail.path()),
                help: Some(
                    "must hold no password: secrets stand in files or in the environment".into(),
                ),
            });
        }
        let (fits, message) = match allowed {
            Text::Any => return None,
            Text::OneOf(values) => (values.iter().any(|value| value == text), "unknown value of"),
            Text::Size => (Size::parse(text).is_some(), "cannot read"),
            Text::Time => (Time::parse(text).is_some(), "cannot read"),
        };
        (!fits).then(|| Fault {
            message: format!("{message} {}", trail.path()),
            help: allowed
                .meant(text)
                .map(|meant| format!("did you mean \"{meant}\"?")),
        })
    }

    /// Reports a fault, if there is one.
    fn fits(&mut self, fault: Option<Fault>, form: &Form, span: Range<usize>) -> bool {
        let Some(fault) = fault else {
            return true;
        };
        let help = fault.help.unwrap_or_else(|| format!("must be {form}"));
        self.report.error(span, fault.message, help);
        false
    }

    fn wrong_type(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        form: &Form,
        key: &Range<usize>,
        trail: &Trail<'_>,
    ) {
        let found = value.get_ref();
        let place = match found {
            // Could span lines, and hold anything.
            DeValue::Table(_) | DeValue::Array(_) => {
                self.hide(value, key);
                key.clone()
            }
            _ => value.span(),
        };
        let message = format!("{} cannot be {}", trail.path(), name_of_type(found));
        self.report.error(place, message, format!("must be {form}"));
    }
}

struct Fault {
    message: String,
    /// Without it: what the form says.
    help: Option<String>,
}

/// No number is one that is too large to read.
fn out_of_range(number: Option<f64>, form: &Form, trail: &Trail<'_>) -> Option<Fault> {
    let Form::Number { least, most, .. } = form else {
        return None;
    };
    let fits = number.is_some_and(|number| (*least..=*most).contains(&number));
    (!fits).then(|| Fault {
        message: format!("{} is out of range", trail.path()),
        help: None,
    })
}

fn name_of_type(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::Table(_) => "a table",
        DeValue::Array(_) => "a list",
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
    }
}
