//! Numbers and names as people read them, for log lines, findings and commands.

use std::fmt::Write as _;

/// Formats seconds in the two largest units, as in `9 h 13 min`; the sign is dropped.
pub(crate) fn duration(seconds: i64) -> String {
    let seconds = seconds.unsigned_abs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let (large, small) = match seconds {
        0..60 => return format!("{seconds} s"),
        60..3600 => ((minutes, "min"), (seconds % 60, "s")),
        3600..86_400 => ((hours, "h"), (minutes % 60, "min")),
        _ => ((days, "d"), (hours % 24, "h")),
    };
    let mut text = format!("{} {}", large.0, large.1);
    if small.0 > 0 {
        // Writing to a `String` cannot fail.
        let _ = write!(text, " {} {}", small.0, small.1);
    }
    text
}

/// Formats a distance from a clock, as in `9 h 13 min too early`; negative is too early.
pub(crate) fn clock_error(seconds_ahead: i64) -> String {
    let direction = if seconds_ahead < 0 { "early" } else { "late" };
    format!("{} too {direction}", duration(seconds_ahead))
}

/// Formats a count with its noun, as in `1 node` and `3 nodes`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// Joins at most `limit` names with commas, and says how many more there are.
pub(crate) fn list<S: AsRef<str>>(names: &[S], limit: usize) -> String {
    let shown: Vec<_> = names.iter().take(limit).map(AsRef::as_ref).collect();
    let mut text = shown.join(", ");
    if names.len() > limit {
        // Writing to a `String` cannot fail.
        let _ = write!(text, " and {} more", names.len() - limit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_their_two_largest_units() {
        let cases = [
            (0, "0 s"),
            (-59, "59 s"),
            (60, "1 min"),
            (61, "1 min 1 s"),
            (-33_194, "9 h 13 min"),
            (7200, "2 h"),
            (86_400 * 13 + 3600, "13 d 1 h"),
            (i64::MIN, "106751991167300 d 15 h"),
        ];
        for (seconds, words) in cases {
            assert_eq!(duration(seconds), words);
        }
        assert_eq!(clock_error(-33_194), "9 h 13 min too early");
        assert_eq!(clock_error(90), "1 min 30 s too late");
    }

    #[test]
    fn counts_and_lists_are_short() {
        assert_eq!(
            (count(1, "node"), count(2, "node")),
            ("1 node".into(), "2 nodes".into())
        );
        assert_eq!(list(&["a", "b"], 2), "a, b");
        assert_eq!(list(&["a", "b", "c"], 1), "a and 2 more");
    }
}
