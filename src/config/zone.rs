//! Time zones by name.
// Replace by `crate::ccfs::parse_zone` once that is there.

use jiff::tz::{Offset, TimeZone};

/// An IANA zone, or `GMT+8`, `UTC-03:30`.
pub(super) fn parse_zone(text: &str) -> Option<TimeZone> {
    let offset = text
        .strip_prefix("GMT")
        .or_else(|| text.strip_prefix("UTC"));
    match offset {
        Some(offset) if offset.starts_with(['+', '-']) => fixed(offset),
        _ => TimeZone::get(text).ok(),
    }
}

fn fixed(text: &str) -> Option<TimeZone> {
    let (sign, rest) = text.split_at_checked(1)?;
    let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "00"));
    let digits = |text: &str, most| {
        text.len() <= most && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !digits(hours, 2) || !digits(minutes, 2) || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    if hours > 14 || minutes > 59 {
        return None;
    }
    let seconds = hours * 3_600 + minutes * 60;
    let seconds = if sign == "-" { -seconds } else { seconds };
    Offset::from_seconds(seconds).ok().map(TimeZone::fixed)
}
