//! Values on the command line.

use std::time::Duration;

use jiff::SignedDuration;

/// Reads `200ms`, `30s`, `8h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let expected = "a duration is written like 200ms, 30s, 15m or 8h";
    let duration: SignedDuration = text.parse().map_err(|_| expected)?;
    Duration::try_from(duration).map_err(|_| expected.to_owned())
}

/// Like [`duration`], without zero.
pub(super) fn wait(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be longer than 0s".to_owned()),
        wait => Ok(wait),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_and_no_sign() {
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(duration("8h"), Ok(Duration::from_secs(8 * 3600)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for wrong in ["5", "-5s", "", "x"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(wait("0s").is_err() && wait("1ms").is_ok());
    }
}
