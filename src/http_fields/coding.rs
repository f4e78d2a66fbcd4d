//! Content codings (RFC 9110, 8.4 and 12.5.3).

use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderName};

/// Whether a response has a content coding (RFC 9110, 8.4).
pub fn is_encoded(response: &HeaderMap) -> bool {
    codings(response).next().is_some()
}

/// Whether a request accepts every content coding of a response (RFC 9110, 12.5.3). One without
/// `Accept-Encoding` accepts none: many clients that do not send it cannot decode.
pub fn accepts_codings(request: &HeaderMap, response: &HeaderMap) -> bool {
    codings(response).all(|coding| {
        accepts_coding(request, coding)
            .or_else(|| accepts_coding(request, "*"))
            .unwrap_or(false)
    })
}

/// Returns the codings of a response but `identity`, which is none.
fn codings(response: &HeaderMap) -> impl Iterator<Item = &str> {
    list_items(response, &CONTENT_ENCODING)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"))
}

/// Returns whether `Accept-Encoding` accepts `wanted`; `None` if it does not name it.
fn accepts_coding(request: &HeaderMap, wanted: &str) -> Option<bool> {
    list_items(request, &ACCEPT_ENCODING).find_map(|item| {
        let mut parts = item.split(';').map(str::trim);
        let is_wanted = parts.next()?.eq_ignore_ascii_case(wanted);
        let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        let is_positive = |text: &str| text.parse::<f32>().is_ok_and(|weight| weight > 0.0);
        is_wanted.then(|| weight.is_none_or(is_positive))
    })
}

/// Returns the items of a comma-separated field; a value that is not ASCII counts as one unknown item.
fn list_items<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or("?").split(','))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings_are_accepted_by_name_or_wildcard_with_a_weight() {
        let map = |name: &HeaderName, values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(name, value.parse().unwrap());
            }
            headers
        };
        for (accepted, coding, expected) in [
            (&[][..], &["gzip"][..], false),
            (&[], &[], true),
            (&[], &["identity"], true),
            (&["gzip"], &["GZIP"], true),
            (&["br", "deflate, gzip;q=0.5"], &["gzip"], true),
            (&["gzip;q=0"], &["gzip"], false),
            (&["gzip; Q=0.0, *"], &["gzip"], false),
            (&["*;q=0.1"], &["zstd"], true),
            (&["*;q=0, gzip"], &["br"], false),
            (&["gzip"], &["gzip, br"], false),
            (&["gzip;q=x"], &["gzip"], false),
            (&["gzip"], &["identity", "gzip"], true),
        ] {
            let request = map(&ACCEPT_ENCODING, accepted);
            let response = map(&CONTENT_ENCODING, coding);
            assert_eq!(
                accepts_codings(&request, &response),
                expected,
                "{accepted:?} {coding:?}"
            );
        }
        assert!(!is_encoded(&map(&CONTENT_ENCODING, &["identity"])));
        assert!(is_encoded(&map(&CONTENT_ENCODING, &["identity", "br"])));
    }
}
