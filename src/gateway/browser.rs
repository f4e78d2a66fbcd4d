//! What a browser may send in the name of a client certificate. A browser presents a certificate unasked, also for
//! a page of another site, so that such a request must prove that it is none.

use http::header::{CONTENT_TYPE, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method};

use super::content_type;
use super::rejection::Rejection;

/// Rejects what a page of another site can make a browser send, for a client that is identified by its
/// certificate alone.
///
/// # Errors
/// The request comes from another site, or can come from a form of one.
pub(super) fn check(head: &Parts) -> Result<(), Rejection> {
    // Fetch Metadata (W3C): a browser of the last years says where a request comes from.
    let mut sites = head.headers.get_all(SEC_FETCH_SITE).iter();
    let is_own =
        |site: &HeaderValue| [&b"same-origin"[..], b"none", b""].contains(&site.as_bytes());
    if !sites.all(is_own) {
        return Err(Rejection::Forbidden("the request comes from another site"));
    }
    let host = head.headers.get(HOST);
    let mut origins = head.headers.get_all(ORIGIN).iter();
    if !origins.all(|origin| host.is_some_and(|host| is_origin_of(origin, host))) {
        return Err(Rejection::Forbidden("the request has another origin"));
    }
    // Forms send other types, and a script of another site would need CORS, which is not granted.
    if head.method == Method::POST && !head.headers.contains_key(CONTENT_TYPE) {
        return Err(Rejection::UnsupportedMediaType(
            "Content-Type must be application/json;charset=UTF-8",
        ));
    }
    if head.method == Method::POST {
        content_type::check_json(&head.headers).map_err(Rejection::UnsupportedMediaType)?;
    }
    Ok(())
}

/// Whether an origin is `https`, with this host and port.
fn is_origin_of(origin: &HeaderValue, host: &HeaderValue) -> bool {
    let (Ok(origin), Ok(host)) = (origin.to_str(), host.to_str()) else {
        return false;
    };
    let with_port = |authority: &str| {
        // A colon inside brackets is a part of an IPv6 address.
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.contains(']'));
        let port = if has_port { "" } else { ":443" };
        format!("{authority}{port}").to_ascii_lowercase()
    };
    origin
        .strip_prefix("https://")
        .is_some_and(|authority| with_port(authority) == with_port(host))
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn status(fields: &[(&'static str, &'static str)]) -> u16 {
        let request = Request::post("/").header("host", "gw.example.com:28443");
        let request = fields.iter().fold(request, |request, (name, value)| {
            request.header(*name, *value)
        });
        let (head, ()) = request.body(()).unwrap().into_parts();
        match check(&head) {
            Ok(()) => 200,
            Err(rejection) => rejection.error_response().status.as_u16(),
        }
    }

    #[test]
    fn only_the_own_site_and_no_site_pass() {
        let json = ("content-type", "application/json");
        assert_eq!(status(&[json]), 200);
        for (site, expected) in [
            ("same-origin", 200),
            ("none", 200),
            ("", 200),
            ("same-site", 403),
            ("cross-site", 403),
            ("None", 403),
            ("same-origin, none", 403),
            ("x", 403),
        ] {
            assert_eq!(
                status(&[json, ("sec-fetch-site", site)]),
                expected,
                "{site}"
            );
        }
        let two = [
            json,
            ("sec-fetch-site", "none"),
            ("sec-fetch-site", "cross-site"),
        ];
        assert_eq!(status(&two), 403);
    }

    #[test]
    fn an_origin_is_the_own_one() {
        let json = ("content-type", "application/json");
        for (origin, expected) in [
            ("https://gw.example.com:28443", 200),
            ("https://GW.example.com:28443", 200),
            ("https://gw.example.com", 403),
            ("http://gw.example.com:28443", 403),
            ("https://gw.example.com:28443/", 403),
            ("https://gw.example.com:28443.evil.example", 403),
            ("https://evil.example", 403),
            ("null", 403),
            ("", 403),
        ] {
            assert_eq!(status(&[json, ("origin", origin)]), expected, "{origin}");
        }
    }

    #[test]
    fn the_default_port_may_be_left_out() {
        let same = |origin: &'static str, host: &'static str| {
            is_origin_of(
                &HeaderValue::from_static(origin),
                &HeaderValue::from_static(host),
            )
        };
        assert!(same("https://a", "a") && same("https://a", "a:443"));
        assert!(same("https://[::1]", "[::1]:443") && same("https://[::1]:1", "[::1]:1"));
        assert!(!same("https://a", "a:28443") && !same("https://[::1]", "[::2]"));
    }

    #[test]
    fn a_form_has_another_type() {
        for (kind, expected) in [
            ("application/json;charset=UTF-8", 200),
            ("text/plain", 415),
            ("application/x-www-form-urlencoded", 415),
            ("text/plain;application/json", 415),
        ] {
            assert_eq!(status(&[("content-type", kind)]), expected, "{kind}");
        }
        assert_eq!(status(&[]), 415);
        let foreign = [
            ("content-type", "text/plain"),
            ("sec-fetch-site", "cross-site"),
        ];
        assert_eq!(status(&foreign), 403);
    }
}
