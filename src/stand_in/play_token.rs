//! Play tokens. They hold what they stand for, sealed, so that any stand-in of a cluster plays what
//! another one promised.

use jiff::Timestamp;

use super::presign::hmac_hex;

/// A token for `file_name`, good for 30 minutes.
pub(super) fn issue(file_name: &str, now: Timestamp) -> String {
    let expires = now.as_second().saturating_add(LIFETIME_SECONDS);
    let name: String = file_name
        .bytes()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let seal = truncated_mac(&format!("{expires}.{name}"));
    format!("{expires}.{name}.{seal}")
}

/// What a token plays; `None` if it is no token, or no longer one.
pub(super) fn verify(token: &str, now: Timestamp) -> Option<String> {
    let (sealed, given) = token.rsplit_once('.')?;
    let (expires, name) = sealed.split_once('.')?;
    if given != truncated_mac(sealed) || expires.parse::<i64>().ok()? < now.as_second() {
        return None;
    }
    let digits: Option<Vec<u8>> = name.chars().map(|c| c.to_digit(16).map(low_byte)).collect();
    let bytes = digits?
        .chunks_exact(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect();
    String::from_utf8(bytes).ok()
}

fn low_byte(digit: u32) -> u8 {
    digit.to_le_bytes()[0]
}

fn truncated_mac(text: &str) -> String {
    let mut seal = hmac_hex(text);
    seal.truncate(16);
    seal
}

/// Seconds; what the documentation says.
const LIFETIME_SECONDS: i64 = 30 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_half_an_hour_and_cannot_be_changed() {
        let now = Timestamp::UNIX_EPOCH;
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let made = issue("ä/size-9.wav", now);
        assert_eq!(verify(&made, at(1800)).as_deref(), Some("ä/size-9.wav"));
        assert_eq!(verify(&made, at(1801)), None);
        assert_eq!(verify(&made.replacen("1800", "9999", 1), now), None);
        assert_eq!(verify("", now), None);
    }
}
