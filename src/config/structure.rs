//! Judges a parsed file against its schema: unknown keys, wrong types, values out of range, all at
//! once. What is wrong is reported and taken out, so that the rest can be read and judged further.

use std::ops::Range;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::nearest::nearest;
use super::report::Report;
use super::secrets;
use super::units::{Size, Time};

/// Takes everything out of `table` that `schema` does not allow, and reports it.
pub(super) fn prune(table: &mut DeTable<'_>, schema: &Value, report: &mut Report) {
    Walk { report }.table(table, schema, &Trail::Root);
}

struct Walk<'a> {
    report: &'a mut Report,
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
    fn table(&mut self, table: &mut DeTable<'_>, schema: &Value, trail: &Trail<'_>) {
        let properties = &schema["properties"];
        let others = &schema["additionalProperties"];
        let mut out = Vec::new();
        for (key, value) in table.iter_mut() {
            let name: &str = key.get_ref();
            if secrets::is_secret(name) {
                self.hide(value, &key.span());
            }
            let below = match properties.get(name) {
                Some(property) => property,
                None if others.is_object() => others,
                None => {
                    self.unknown(name, &key.span(), value, properties);
                    out.push(name.to_owned());
                    continue;
                }
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

    fn unknown(
        &mut self,
        name: &str,
        span: &Range<usize>,
        value: &Spanned<DeValue<'_>>,
        properties: &Value,
    ) {
        // It may be a mistyped `secret_key`.
        self.hide(value, span);
        let known = || {
            properties
                .as_object()
                .into_iter()
                .flat_map(|keys| keys.keys().map(String::as_str))
        };
        let help = match nearest(name, known()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("known here: {}", known().collect::<Vec<_>>().join(", ")),
        };
        self.report.error(
            span.clone(),
            format!("unknown key `{}`", name.escape_debug()),
            help,
        );
    }

    /// Does the value fit? If not, that was reported.
    fn value(
        &mut self,
        value: &mut Spanned<DeValue<'_>>,
        schema: &Value,
        key: &Range<usize>,
        trail: &Trail<'_>,
    ) -> bool {
        let branches = schema["anyOf"]
            .as_array()
            .map_or(std::slice::from_ref(schema), Vec::as_slice);
        let Some(schema) = branches
            .iter()
            .find(|branch| same_type(value.get_ref(), branch))
        else {
            self.wrong_type(value, branches, key, trail);
            return false;
        };
        let span = value.span();
        match value.get_mut() {
            DeValue::Table(table) => {
                self.table(table, schema, trail);
                true
            }
            DeValue::Array(array) => self.array(array, schema, &span, trail),
            DeValue::String(text) => self.text(text, schema, &span, trail),
            DeValue::Integer(number) => {
                let number = i64::from_str_radix(number.as_str(), number.radix()).ok();
                self.range(number.map(|number| number as f64), schema, &span, trail)
            }
            DeValue::Float(number) => {
                self.range(number.as_str().parse().ok(), schema, &span, trail)
            }
            DeValue::Boolean(_) | DeValue::Datetime(_) => true,
        }
    }

    fn array(
        &mut self,
        array: &mut DeArray<'_>,
        schema: &Value,
        span: &Range<usize>,
        trail: &Trail<'_>,
    ) -> bool {
        let most = schema["maxItems"].as_u64().unwrap_or(u64::MAX);
        let least = schema["minItems"].as_u64().unwrap_or(0);
        let count = array.len() as u64;
        if count < least || count > most {
            self.report.error(
                span.clone(),
                format!("{} has {count} values", trail.path()),
                format!("must be a list of {least} to {most}"),
            );
            return false;
        }
        let mut all_fit = true;
        for item in array.iter_mut() {
            let place = item.span();
            all_fit &= self.value(item, &schema["items"], &place, trail);
        }
        // One wrong item makes the list unreadable, but its tables were judged all the same.
        all_fit
    }

    fn text(&mut self, text: &str, schema: &Value, span: &Range<usize>, trail: &Trail<'_>) -> bool {
        if secrets::password_in_url(text) {
            self.report.hidden.push(span.clone());
            self.report.error(
                span.clone(),
                "a URL with a password",
                "must not hold a password; secrets stand in files or in the environment",
            );
            return false;
        }
        if let Some(allowed) = allowed(schema)
            && !allowed.contains(&text)
        {
            let help = match nearest(text, allowed.iter().copied()) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => format!("must be {}", describe(schema)),
            };
            self.report.error(
                span.clone(),
                format!("unknown value of {}", trail.path()),
                help,
            );
            return false;
        }
        let form = schema["title"].as_str().unwrap_or_default();
        let readable = match form {
            Time::FORM => Time::parse(text).is_some(),
            Size::FORM => Size::parse(text).is_some(),
            _ => true,
        };
        if !readable {
            self.report.error(
                span.clone(),
                format!("{} cannot be read", trail.path()),
                format!("must be {form}"),
            );
        }
        readable
    }

    fn range(
        &mut self,
        number: Option<f64>,
        schema: &Value,
        span: &Range<usize>,
        trail: &Trail<'_>,
    ) -> bool {
        let least = schema["minimum"].as_f64().unwrap_or(f64::NEG_INFINITY);
        let most = schema["maximum"].as_f64().unwrap_or(f64::INFINITY);
        let fits = number.is_some_and(|number| (least..=most).contains(&number));
        if !fits {
            self.report.error(
                span.clone(),
                format!("{} is out of range", trail.path()),
                format!("must be {}", describe(schema)),
            );
        }
        fits
    }

    fn wrong_type(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        branches: &[Value],
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
        let expected: Vec<_> = branches.iter().map(describe).collect();
        let message = format!("{} cannot be {}", trail.path(), name_of_type(found));
        self.report
            .error(place, message, format!("must be {}", expected.join(" or ")));
    }
}

fn same_type(value: &DeValue<'_>, schema: &Value) -> bool {
    let type_of_schema = match schema["type"].as_str() {
        None if allowed(schema).is_some() => "string",
        found => found.unwrap_or_default(),
    };
    match value {
        DeValue::Table(_) => type_of_schema == "object",
        DeValue::Array(_) => type_of_schema == "array",
        DeValue::String(_) => type_of_schema == "string",
        DeValue::Integer(_) => matches!(type_of_schema, "integer" | "number"),
        DeValue::Float(_) => type_of_schema == "number",
        DeValue::Boolean(_) => type_of_schema == "boolean",
        DeValue::Datetime(_) => false,
    }
}

/// The values of a closed set: `enum`, or one described branch for each value.
fn allowed(schema: &Value) -> Option<Vec<&str>> {
    let values: Vec<_> = match schema["oneOf"].as_array() {
        Some(branches) => branches.iter().flat_map(listed).collect(),
        None => listed(schema).collect(),
    };
    (!values.is_empty()).then_some(values)
}

fn listed(schema: &Value) -> impl Iterator<Item = &str> {
    let several = schema["enum"].as_array().into_iter().flatten();
    several.chain([&schema["const"]]).filter_map(Value::as_str)
}

/// What a schema asks for, in words.
fn describe(schema: &Value) -> String {
    if let Some(values) = allowed(schema) {
        let quoted: Vec<_> = values.iter().map(|value| format!("\"{value}\"")).collect();
        return quoted.join(" or ");
    }
    let title = schema["title"].as_str();
    let range = match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
        (Some(least), Some(most)) => format!(" from {least} to {most}"),
        _ => String::new(),
    };
    match schema["type"].as_str().unwrap_or_default() {
        "string" => title.unwrap_or("a text in quotes").to_owned(),
        "integer" => format!("a whole number{range}"),
        "number" => format!("a number{range}"),
        "boolean" => "true or false".to_owned(),
        "array" => "a list".to_owned(),
        _ => "a table".to_owned(),
    }
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
