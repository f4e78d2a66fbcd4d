//! Play tokens: a file name and an expiry, authenticated with an HMAC, so that any stand-in of a cluster
//! accepts the token of another one.

use data_encoding::HEXLOWER;
use jiff::Timestamp;

use super::presign::hmac_hex;

/// Issues a token for `file_name` that is valid for 30 minutes.
pub(super) fn issue(file_name: &str, now: Timestamp) -> String {
    let expires = now.as_second().saturating_add(LIFETIME_SECONDS);
    let name = HEXLOWER.encode(file_name.as_bytes());
    let mac = truncated_mac(&format!("{expires}.{name}"));
    format!("{expires}.{name}.{mac}")
}

/// Returns the file name of a token; `None` if it is invalid or expired.
pub(super) fn verify(token: &str, now: Timestamp) -> Option<String> {
    let (content, mac) = token.rsplit_once('.')?;
    let (expires, name) = content.split_once('.')?;
    if mac != truncated_mac(content) || expires.parse::<i64>().ok()? < now.as_second() {
        return None;
    }
    String::from_utf8(HEXLOWER.decode(name.as_bytes()).ok()?).ok()
}

/// Returns the first 64 bits of the MAC, in hex.
fn truncated_mac(text: &str) -> String {
    let mut mac = hmac_hex(text);
    mac.truncate(16);
    mac
}

/// Lifetime in seconds, as documented by CC-FS.
const LIFETIME_SECONDS: i64 = 30 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_valid_for_half_an_hour_and_cannot_be_changed() {
        let now = Timestamp::UNIX_EPOCH;
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let token = issue("ä/size-9.wav", now);
        assert_eq!(verify(&token, at(1800)).as_deref(), Some("ä/size-9.wav"));
        assert_eq!(verify(&token, at(1801)), None);
        assert_eq!(verify(&token.replacen("1800", "9999", 1), now), None);
        assert_eq!(verify("", now), None);
    }
}
