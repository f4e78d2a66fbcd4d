//! The rules of single parameters, from the error code table of CC-FS. Written independently of the
//! gateway's rules, so that tests can compare the two.

use jiff::civil::DateTime;
use serde_json::{Map, Value};

/// One parameter of an interface.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    /// Maximum length in characters.
    pub(super) max_length: usize,
    pub(super) required: bool,
    /// Whether the value is a `yyyy-MM-dd HH:mm:ss` time.
    pub(super) is_time: bool,
}

impl Parameter {
    pub(super) const fn text(name: &'static str, longest: usize) -> Self {
        Self {
            name,
            max_length: longest,
            required: true,
            is_time: false,
        }
    }

    pub(super) const fn time(name: &'static str) -> Self {
        Self {
            is_time: true,
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

/// A parameter error of CC-FS: sent with HTTP 200, a result code, and a text that names the parameter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ParameterError {
    pub(super) code: &'static str,
    pub(super) text: String,
}

impl ParameterError {
    pub(super) fn new(code: &'static str, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }
}

/// Validates parameters: each rule for all parameters, in the order of the result codes.
pub(super) fn validate(
    parameters: &Map<String, Value>,
    fields: &[Parameter],
) -> Result<(), ParameterError> {
    let value = |field: &Parameter| parameters.get(field.name).filter(|value| !value.is_null());
    let text = |field: &Parameter| value(field).and_then(Value::as_str);
    for field in fields.iter().filter(|field| field.required) {
        if value(field).is_none() {
            return Err(ParameterError::new(
                "0300001",
                format!("{} is null", field.name),
            ));
        }
    }
    for field in fields.iter().filter(|field| field.required) {
        if text(field) == Some("") {
            return Err(ParameterError::new(
                "0300002",
                format!("{} is empty", field.name),
            ));
        }
    }
    for field in fields.iter().filter(|field| !field.is_time) {
        if text(field).is_some_and(|text| text.chars().count() > field.max_length) {
            return Err(ParameterError::new(
                "0300003",
                format!("{} is too long", field.name),
            ));
        }
    }
    for field in fields {
        let Some(value) = value(field) else { continue };
        let has_format = value
            .as_str()
            .is_some_and(|text| !field.is_time || parse_time(text).is_some());
        if !has_format {
            let text = format!("the format of {} is incorrect", field.name);
            return Err(ParameterError::new("0300004", text));
        }
    }
    check_time_window(
        text(&Parameter::time("beginTime")),
        text(&Parameter::time("endTime")),
    )
}

/// Parses exactly `yyyy-MM-dd HH:mm:ss`.
pub(super) fn parse_time(text: &str) -> Option<DateTime> {
    let has_format = b"dddd-dd-dd dd:dd:dd";
    let fits = |(parameters, wanted): (u8, &u8)| match wanted {
        b'd' => parameters.is_ascii_digit(),
        _ => parameters == *wanted,
    };
    if text.len() != has_format.len()
        || !text.bytes().zip(has_format).all(fits)
        || text.ends_with("60")
    {
        return None;
    }
    text.parse().ok()
}

/// Checks that the window is at most three days, plus the hour that the end of daylight saving time
/// repeats.
fn check_time_window(begin: Option<&str>, end: Option<&str>) -> Result<(), ParameterError> {
    let (Some(begin), Some(end)) = (begin.and_then(parse_time), end.and_then(parse_time)) else {
        return Ok(());
    };
    if begin > end {
        return Err(ParameterError::new(
            "0300013",
            "beginTime is later than endTime",
        ));
    }
    if end.duration_since(begin).as_hours() > 73 {
        return Err(ParameterError::new(
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
    fn a_time_has_exactly_one_format() {
        assert!(parse_time("2021-11-24 08:25:00").is_some());
        for wrong in [
            "2021-11-24T08:25:00",
            "2021-11-24 8:25:00",
            "2021-02-30 08:25:00",
            "2021-11-24 24:00:00",
            "2021-11-24 08:25:60",
            "2021-11-24 08:25:00Z",
            "",
        ] {
            assert!(parse_time(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn each_rule_has_its_result_code() {
        const FIELDS: [Parameter; 3] = [
            Parameter::text("callId", 3),
            Parameter::time("beginTime"),
            Parameter::time("endTime").optional(),
        ];
        let (early, late) = ("2021-11-24 08:25:00", "2021-11-27 08:25:00");
        for (parameters, code) in [
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
            let result = validate(parameters.as_object().unwrap(), &FIELDS);
            assert_eq!(
                result.err().map_or("", |error| error.code),
                code,
                "{parameters}"
            );
        }
    }
}
