//! The rules of single parameters, as the error code table of CC-FS states them. Written without a
//! look at the gateway's own rules, so that the two can be held against each other.

use jiff::civil::DateTime;
use serde_json::{Map, Value};

/// One parameter of an interface.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    /// In characters.
    pub(super) longest: usize,
    pub(super) required: bool,
    /// Is it a `yyyy-MM-dd HH:mm:ss`?
    pub(super) time: bool,
}

impl Field {
    pub(super) const fn text(name: &'static str, longest: usize) -> Self {
        Self {
            name,
            longest,
            required: true,
            time: false,
        }
    }

    pub(super) const fn time(name: &'static str) -> Self {
        Self {
            time: true,
            ..Self::text(name, 19)
        }
    }

    pub(super) const fn optional(self) -> Self {
        Self {
            required: false,
            ..self
        }
    }
}

/// What CC-FS refuses: with HTTP 200, a code of its own, and a text that names the parameter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Refusal {
    pub(super) code: &'static str,
    pub(super) text: String,
}

impl Refusal {
    pub(super) fn new(code: &'static str, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }
}

/// Checks parameters: for each rule all of them, in the order of the codes.
pub(super) fn check(given: &Map<String, Value>, fields: &[Field]) -> Result<(), Refusal> {
    let value = |field: &Field| given.get(field.name).filter(|value| !value.is_null());
    let text = |field: &Field| value(field).and_then(Value::as_str);
    for field in fields.iter().filter(|field| field.required) {
        if value(field).is_none() {
            return Err(Refusal::new("0300001", format!("{} is null", field.name)));
        }
    }
    for field in fields.iter().filter(|field| field.required) {
        if text(field) == Some("") {
            return Err(Refusal::new("0300002", format!("{} is empty", field.name)));
        }
    }
    for field in fields.iter().filter(|field| !field.time) {
        if text(field).is_some_and(|text| text.chars().count() > field.longest) {
            return Err(Refusal::new(
                "0300003",
                format!("{} is too long", field.name),
            ));
        }
    }
    for field in fields {
        let Some(value) = value(field) else { continue };
        let form = value
            .as_str()
            .is_some_and(|text| !field.time || time(text).is_some());
        if !form {
            let text = format!("the format of {} is incorrect", field.name);
            return Err(Refusal::new("0300004", text));
        }
    }
    window(
        text(&Field::time("beginTime")),
        text(&Field::time("endTime")),
    )
}

/// Reads exactly `yyyy-MM-dd HH:mm:ss`.
pub(super) fn time(text: &str) -> Option<DateTime> {
    let form = b"dddd-dd-dd dd:dd:dd";
    let fits = |(given, wanted): (u8, &u8)| match wanted {
        b'd' => given.is_ascii_digit(),
        _ => given == *wanted,
    };
    if text.len() != form.len() || !text.bytes().zip(form).all(fits) || text.ends_with("60") {
        return None;
    }
    text.parse().ok()
}

/// At most three days; an hour more may be the one that autumn repeats.
fn window(begin: Option<&str>, end: Option<&str>) -> Result<(), Refusal> {
    let (Some(begin), Some(end)) = (begin.and_then(time), end.and_then(time)) else {
        return Ok(());
    };
    if begin > end {
        return Err(Refusal::new("0300013", "beginTime is later than endTime"));
    }
    if end.duration_since(begin).as_hours() > 73 {
        return Err(Refusal::new(
            "0300004",
            "the time window exceeds three days",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_time_has_exactly_one_form() {
        assert!(time("2021-11-24 08:25:00").is_some());
        for wrong in [
            "2021-11-24T08:25:00",
            "2021-11-24 8:25:00",
            "2021-02-30 08:25:00",
            "2021-11-24 24:00:00",
            "2021-11-24 08:25:60",
            "2021-11-24 08:25:00Z",
            "",
        ] {
            assert!(time(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn each_rule_has_its_code() {
        const FIELDS: [Field; 3] = [
            Field::text("callId", 3),
            Field::time("beginTime"),
            Field::time("endTime").optional(),
        ];
        let (early, late) = ("2021-11-24 08:25:00", "2021-11-27 08:25:00");
        for (given, code) in [
            (
                json!({"callId": "1", "beginTime": early, "endTime": late}),
                "",
            ),
            (json!({"callId": "", "beginTime": null}), "0300001"),
            (json!({"callId": "", "beginTime": "x"}), "0300002"),
            (json!({"callId": "1234", "beginTime": "x"}), "0300003"),
            (json!({"callId": 1, "beginTime": early}), "0300004"),
            (
                json!({"callId": "1", "beginTime": late, "endTime": early}),
                "0300013",
            ),
        ] {
            let result = check(given.as_object().unwrap(), &FIELDS);
            assert_eq!(
                result.err().map_or("", |refusal| refusal.code),
                code,
                "{given}"
            );
        }
    }
}
