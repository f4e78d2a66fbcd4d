//! The fields of a response as HTTP/2 sends them.

use http::header::{
    CONNECTION, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, DATE, HeaderName,
    LAST_MODIFIED, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue};
use memchr::memmem;

use crate::http_fields::{CACHE_STATUS, RATELIMIT, X_REQUEST_ID};
use crate::listener::date;

/// Removes the connection-specific fields (RFC 9113, 8.2.2), adds Date and Content-Length where they are missing,
/// and marks values that hardly recur as not to be indexed.
///
/// The encoder of `h2` indexes nearly every value, and compares each with all others that it has indexed of the
/// same name: fields with a new value in each response would fill its table, and take most of its time. The mark
/// is that of a sensitive value, a literal that is never indexed (RFC 7541, 6.2.3).
pub(super) fn complete(headers: &mut HeaderMap, content_length: Option<u64>) {
    let mut has_connection_specific = false;
    for (name, value) in headers.iter_mut() {
        has_connection_specific |= CONNECTION_SPECIFIC.contains(name);
        if HARDLY_RECURRING.contains(name) || (*name == CACHE_STATUS && has_ttl(value)) {
            value.set_sensitive(true);
        }
    }
    if has_connection_specific {
        for name in CONNECTION_SPECIFIC {
            headers.remove(name);
        }
    }
    headers.entry(DATE).or_insert_with(date::header_value);
    if let Some(length) = content_length {
        headers
            .entry(CONTENT_LENGTH)
            .or_insert_with(|| HeaderValue::from(length));
    }
}

/// Whether a `Cache-Status` tells the seconds that are left (RFC 9211, 2.4); the others are few.
fn has_ttl(value: &HeaderValue) -> bool {
    memmem::find(value.as_bytes(), b"ttl=").is_some()
}

/// RFC 9113, 8.2.2.
const CONNECTION_SPECIFIC: [HeaderName; 5] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Age, Content-Length, ETag, Location and Set-Cookie are those that `h2` does not index by itself.
const HARDLY_RECURRING: [HeaderName; 5] = [
    X_REQUEST_ID,
    RATELIMIT,
    CONTENT_DISPOSITION,
    CONTENT_RANGE,
    LAST_MODIFIED,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_specific_fields_are_removed_and_missing_ones_added() {
        let mut headers = HeaderMap::new();
        for name in CONNECTION_SPECIFIC {
            headers.append(name.clone(), HeaderValue::from_static("1"));
            headers.append(name, HeaderValue::from_static("2"));
        }
        complete(&mut headers, Some(7));
        assert_eq!(headers.remove(CONTENT_LENGTH).unwrap(), "7");
        assert!(headers.remove(DATE).is_some());
        assert!(headers.is_empty(), "{headers:?}");
    }

    #[test]
    fn a_lifetime_is_not_indexed_and_other_cache_states_are() {
        for (state, expected) in [
            ("ccfs-gateway; hit; ttl=27300", true),
            ("ccfs-gateway; fwd=uri-miss", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_STATUS, HeaderValue::from_static(state));
            complete(&mut headers, None);
            assert_eq!(headers[CACHE_STATUS].is_sensitive(), expected, "{state}");
        }
    }

    #[test]
    fn fields_that_are_there_stay() {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, HeaderValue::from_static("a date"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("8"));
        let before = headers.clone();
        complete(&mut headers, Some(7));
        assert_eq!(headers, before);
    }
}
