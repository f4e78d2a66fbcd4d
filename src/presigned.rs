//! When does this pre-signed URL expire? Pure; one small function per URL form. An unknown form or a
//! malformed URL is `None`, and `None` means "do not cache": a lifetime is never guessed.

use jiff::Timestamp;

/// The instant after which the object store refuses this URL, if the URL says so.
pub fn expires_at(url: &str) -> Option<Timestamp> {
    let _ = url;
    None
}
