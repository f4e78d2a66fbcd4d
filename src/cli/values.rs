//! Parsers of command-line values.

use std::time::Duration;

use jiff::SignedDuration;

/// Parses `200ms`, `30s`, `8h`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = "a duration is written like 200ms, 30s, 15m or 8h";
    let duration: SignedDuration = text.parse().map_err(|_| expected)?;
    Duration::try_from(duration).map_err(|_| expected.to_owned())
}

/// Parses a duration like [`parse_duration`], but rejects zero.
pub(super) fn parse_timeout(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("must be longer than 0s".to_owned()),
        timeout => Ok(timeout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_and_no_sign() {
        assert_eq!(parse_duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(parse_duration("8h"), Ok(Duration::from_secs(8 * 3600)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        for wrong in ["5", "-5s", "", "x"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        assert!(parse_timeout("0s").is_err() && parse_timeout("1ms").is_ok());
    }
}
