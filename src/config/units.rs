//! Durations (`"30s"`) and sizes (`"64KiB"`) of the file: one whole number and one unit.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// A duration, at most one year.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "Cow<'_, str>")]
pub(super) struct ConfigDuration(pub(super) Duration);

/// A size in bytes, at most one pebibyte.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "Cow<'_, str>")]
pub(super) struct ByteSize(pub(super) u64);

impl ConfigDuration {
    /// Description of the syntax, for messages and the schema.
    pub(super) const SYNTAX: &str = r#"a duration such as "250ms", "30s", "15m" or "8h""#;

    /// Parses `"250ms"`; `None` for any other syntax and above one year.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (count, unit) = split_unit(text)?;
        let millis_per_unit = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        let millis = count.checked_mul(millis_per_unit)?;
        (millis <= MAX_MILLIS).then_some(Self(Duration::from_millis(millis)))
    }

    /// Returns what a text in another notation means: `"10 min"` is `"10m"`.
    pub(super) fn suggestion(text: &str) -> Option<String> {
        let (count, unit) = split_loosely(text)?;
        let unit = match unit.to_ascii_lowercase().as_str() {
            "ms" | "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => "ms",
            "" | "s" | "sec" | "secs" | "second" | "seconds" => "s",
            "m" | "min" | "mins" | "minute" | "minutes" => "m",
            "h" | "hr" | "hrs" | "hour" | "hours" => "h",
            "d" | "day" | "days" => {
                return Self::parse(&format!("{}h", count.checked_mul(24)?))
                    .map(|_| format!("{}h", count * 24));
            }
            _ => return None,
        };
        let meant = format!("{count}{unit}");
        Self::parse(&meant).map(|_| meant)
    }

    /// Returns the shortest text that [`ConfigDuration::parse`] reads back.
    pub(super) fn format(duration: Duration) -> String {
        let millis = duration.as_millis();
        match millis {
            0 => "0s".into(),
            _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
            _ if millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
            _ if millis.is_multiple_of(1_000) => format!("{}s", millis / 1_000),
            _ => format!("{millis}ms"),
        }
    }
}

impl ByteSize {
    /// Description of the syntax, for messages and the schema.
    pub(super) const SYNTAX: &str = r#"a size such as "512B", "64KiB", "8MiB" or "1GiB""#;

    /// Parses `"64KiB"`; `None` for any other syntax and above one pebibyte.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (count, unit) = split_unit(text)?;
        let bytes_per_unit = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        let bytes = count.checked_mul(bytes_per_unit)?;
        (bytes <= MAX_BYTES).then_some(Self(bytes))
    }

    /// Returns what a text in another notation means: `"64KB"` is `"64KiB"`.
    pub(super) fn suggestion(text: &str) -> Option<String> {
        let (count, unit) = split_loosely(text)?;
        let unit = match unit.to_ascii_lowercase().as_str() {
            "" | "b" | "byte" | "bytes" => "B",
            "k" | "kb" | "kib" => "KiB",
            "m" | "mb" | "mib" => "MiB",
            "g" | "gb" | "gib" => "GiB",
            _ => return None,
        };
        let meant = format!("{count}{unit}");
        Self::parse(&meant).map(|_| meant)
    }

    /// Returns the shortest text that [`ByteSize::parse`] reads back.
    pub(super) fn format(bytes: u64) -> String {
        match bytes {
            _ if bytes == 0 || !bytes.is_multiple_of(1 << 10) => format!("{bytes}B"),
            _ if bytes.is_multiple_of(1 << 30) => format!("{}GiB", bytes >> 30),
            _ if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
            _ => format!("{}KiB", bytes >> 10),
        }
    }
}

/// Splits `"30s"` into `(30, "s")`.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at(digits);
    Some((count.parse().ok()?, unit))
}

/// Like [`split_unit`], with white space around number and unit.
fn split_loosely(text: &str) -> Option<(u64, &str)> {
    let (count, unit) = split_unit(text.trim())?;
    Some((count, unit.trim()))
}

/// One year. Timers add a duration to the current time; the limit keeps the sum from overflowing.
const MAX_MILLIS: u64 = 365 * 24 * 3_600_000;

/// One pebibyte, above any memory; sums of sizes do not overflow.
const MAX_BYTES: u64 = 1 << 50;

impl TryFrom<Cow<'_, str>> for ConfigDuration {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("expected {}", Self::SYNTAX))
    }
}

/// A point in time: a TOML date-time with an offset, or the same in quotes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "Cow<'_, str>")]
pub(super) struct ConfigTime(pub(super) Timestamp);

impl ConfigTime {
    /// Description of the syntax, for messages and the schema.
    pub(super) const SYNTAX: &str =
        r#"a date-time with an offset such as 2026-12-31T23:59:59+08:00"#;

    /// Parses RFC 3339; `None` without an offset.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_rfc_3339 = text.as_bytes().get(4) == Some(&b'-') && !text.contains('[');
        let time = text.parse().ok()?;
        is_rfc_3339.then_some(Self(time))
    }
}

impl TryFrom<Cow<'_, str>> for ConfigTime {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("expected {}", Self::SYNTAX))
    }
}

impl JsonSchema for ConfigTime {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "DateTime".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "title": Self::SYNTAX })
    }
}

impl TryFrom<Cow<'_, str>> for ByteSize {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("expected {}", Self::SYNTAX))
    }
}

impl JsonSchema for ConfigDuration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "title": Self::SYNTAX, "pattern": "^[0-9]+(ms|s|m|h)$" })
    }
}

impl JsonSchema for ByteSize {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "title": Self::SYNTAX, "pattern": "^[0-9]+(B|KiB|MiB|GiB)$" })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_have_an_offset() {
        for text in ["2026-12-31T23:59:59+08:00", "2026-12-31 15:59:59Z"] {
            let time = ConfigTime::parse(text).unwrap();
            assert_eq!(time.0.to_string(), "2026-12-31T15:59:59Z", "{text}");
        }
        for text in [
            "",
            "2026-12-31",
            "2026-12-31T23:59:59",
            "23:59:59Z",
            "tomorrow",
        ] {
            assert_eq!(ConfigTime::parse(text), None, "{text}");
        }
    }

    #[test]
    fn other_notations_are_understood_for_a_suggestion() {
        for (typed, meant) in [
            ("10 min", Some("10m")),
            ("30", Some("30s")),
            (" 5 Seconds ", Some("5s")),
            ("1d", Some("24h")),
            ("250 msec", Some("250ms")),
            ("99999999999999999999s", None),
            ("9999999d", None),
            ("1.5s", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(
                ConfigDuration::suggestion(typed).as_deref(),
                meant,
                "{typed}"
            );
        }
        for (typed, meant) in [
            ("64KB", Some("64KiB")),
            ("64", Some("64B")),
            ("8 mb", Some("8MiB")),
            ("1G", Some("1GiB")),
            ("1TB", None),
            ("64Kib/s", None),
        ] {
            assert_eq!(ByteSize::suggestion(typed).as_deref(), meant, "{typed}");
        }
    }

    #[test]
    fn durations_are_one_number_and_one_unit() {
        for (text, millis) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("15m", 900_000),
            ("8h", 28_800_000),
            ("0s", 0),
        ] {
            assert_eq!(
                ConfigDuration::parse(text),
                Some(ConfigDuration(Duration::from_millis(millis))),
                "{text}"
            );
        }
        for text in [
            "",
            "30",
            "s",
            "1.5s",
            "-1s",
            "1 s",
            "1d",
            "1h30m",
            "30S",
            "8761h",
            "99999999999999999999s",
        ] {
            assert_eq!(ConfigDuration::parse(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_one_number_and_one_unit() {
        for (text, bytes) in [
            ("0B", 0),
            ("512B", 512),
            ("64KiB", 65_536),
            ("8MiB", 8 << 20),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(ByteSize::parse(text), Some(ByteSize(bytes)), "{text}");
        }
        for text in [
            "",
            "64",
            "64KB",
            "64k",
            "64 KiB",
            "KiB",
            "1.5MiB",
            "-1B",
            "18446744073709551615GiB",
        ] {
            assert_eq!(ByteSize::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_formatted_value_parses_back(millis in 0..=MAX_MILLIS, bytes in 0..=MAX_BYTES) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(ConfigDuration::parse(&ConfigDuration::format(duration)), Some(ConfigDuration(duration)));
            prop_assert_eq!(ByteSize::parse(&ByteSize::format(bytes)), Some(ByteSize(bytes)));
        }
    }
}
