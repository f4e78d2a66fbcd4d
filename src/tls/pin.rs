//! Pins of public keys (`tls.pins`).

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::public_key::PublicKey;

/// The SHA-256 of a certificate's SubjectPublicKeyInfo (RFC 7469, 2.4). It stays the same when a
/// certificate is renewed with the same key.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Pin([u8; 32]);

impl Pin {
    /// Returns the pin of a certificate's key; `None` if the certificate cannot be read that far.
    pub(crate) fn of(certificate: &[u8]) -> Option<Self> {
        Some(Self::of_key(&PublicKey::of(certificate)?))
    }

    pub(super) fn of_key(key: &PublicKey<'_>) -> Self {
        let mut pin = [0; 32];
        pin.copy_from_slice(digest::digest(&digest::SHA256, key.spki()).as_ref());
        Self(pin)
    }
}

/// Accepts `sha256/BASE64`, and `sha256//BASE64` as curl's `--pinnedpubkey` takes it.
impl FromStr for Pin {
    type Err = NotAPin;

    fn from_str(text: &str) -> Result<Self, NotAPin> {
        let code = text.strip_prefix("sha256/").ok_or(NotAPin)?;
        // The code itself can begin with a slash.
        let code = match code.strip_prefix('/') {
            Some(rest) if code.len() > CODE_LENGTH => rest,
            _ => code,
        };
        let bytes = STANDARD.decode(code).map_err(|_| NotAPin)?;
        Ok(Self(bytes.try_into().map_err(|_| NotAPin)?))
    }
}

/// A text that is no pin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotAPin;

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256/{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The length of 32 bytes in base64.
const CODE_LENGTH: usize = 44;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_reads_as_it_is_written() {
        // The second code begins with a slash.
        for bytes in [[7; 32], [0xff; 32]] {
            let pin = Pin(bytes);
            let text = pin.to_string();
            assert_eq!(text.parse(), Ok(pin), "{text}");
            let as_curl = text.replacen("sha256/", "sha256//", 1);
            assert_eq!(as_curl.parse(), Ok(pin), "{as_curl}");
        }
        for wrong in [
            "",
            "sha256/",
            "sha256/AAAA",
            "sha1/AAAA",
            "AAAA",
            "sha256/?",
        ] {
            assert_eq!(wrong.parse::<Pin>(), Err(NotAPin), "{wrong}");
        }
    }
}
