//! The answer to a link, made of the response to its recording-URL request.

use std::net::Ipv6Addr;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, REFERRER_POLICY, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;

use super::super::response::GatewayResponse;
use super::link::Link;
use crate::ccfs::{self, FILE_NOT_FOUND, NO_DATA};
use crate::http_fields::PREFER;

/// What the client of a link may choose of its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    /// Which of several recordings, from 1.
    number: u32,
    /// Whether it wants CC-FS's own answer.
    wants_json: bool,
    /// Whether a ticket opens the link.
    by_ticket: bool,
}

impl Choice {
    /// Reads the choice from the fields of a head. A ticket opens one recording for a client that is not known:
    /// that client can neither ask for all recordings, nor have a node asked anew, nor wait. Its fields that ask
    /// for this are removed.
    pub(super) fn of(link: &Link, headers: &mut HeaderMap) -> Self {
        let by_ticket = link.ticket.is_some();
        if by_ticket {
            for name in [ACCEPT, CACHE_CONTROL, PREFER] {
                headers.remove(name);
            }
        }
        Self {
            number: link.number(),
            wants_json: wants_json(headers),
            by_ticket,
        }
    }
}

/// Makes the answer to a link. The flag says that it gives the recording out.
pub(super) fn answer(
    response: GatewayResponse,
    (result_code, is_success): (Option<&str>, bool),
    choice: Choice,
) -> (GatewayResponse, bool) {
    let mut response = response.without_node_fields();
    let no_referrer = HeaderValue::from_static("no-referrer");
    response.headers.insert(REFERRER_POLICY, no_referrer);
    let Some(code) = result_code else {
        // Of a firewall before the node, for example.
        return (response.into_node_failure(), false);
    };
    if response.status != StatusCode::OK || !is_success {
        let status = failure_status(response.status, code);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let one_second = HeaderValue::from_static("1");
            response.headers.entry(RETRY_AFTER).or_insert(one_second);
        }
        let body = match response.body() {
            Some(body) if !choice.by_ticket => body.clone(),
            // It may hold anything, recordings too.
            _ => failure_body(status, code),
        };
        return (response.into_json(status, body), false);
    }
    let body = response.body().cloned().unwrap_or_default();
    if choice.wants_json {
        return (response.into_json(StatusCode::OK, body), true);
    }
    let urls = ccfs::all_recording_urls(&body).unwrap_or_default();
    match location(&urls, choice.number) {
        Ok(location) => (response.into_redirect(location), true),
        // CC-FS's own answer would give the other recordings out.
        Err(status) => {
            let body = failure_body(status, code);
            (response.into_json(status, body), false)
        }
    }
}

/// Makes the body of an answer without a recording, with the result code of CC-FS.
fn failure_body(status: StatusCode, result_code: &str) -> Bytes {
    let text = match status {
        StatusCode::NOT_FOUND => "there is no such recording",
        StatusCode::SERVICE_UNAVAILABLE => "too many requests",
        StatusCode::BAD_REQUEST => "CC-FS refuses the parameters of the link",
        _ => "the answer of CC-FS has no recording to which a client can be sent",
    };
    ccfs::envelope(result_code, text)
}

/// Returns the value of `Location`: the URL with this number, counted from 1.
fn location(urls: &[(String, Option<Timestamp>)], number: u32) -> Result<HeaderValue, StatusCode> {
    if urls.is_empty() {
        return Err(StatusCode::BAD_GATEWAY);
    }
    let index = usize::try_from(number).unwrap_or(usize::MAX) - 1;
    let (url, expiry) = urls.get(index).ok_or(StatusCode::NOT_FOUND)?;
    let location = HeaderValue::from_str(url).ok();
    let location = location.filter(|_| expiry.is_some() && is_redirectable(url));
    location.ok_or(StatusCode::BAD_GATEWAY)
}

/// Whether a client may be sent to a URL: absolute `https` with a plain host, without userinfo and fragment, of
/// characters of a URI alone (RFC 3986, 2).
fn is_redirectable(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let is_uri = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&byte);
    scheme.eq_ignore_ascii_case("https") && is_plain_authority(authority) && url.bytes().all(is_uri)
}

/// Whether an authority is a name or an IP address, and perhaps a port. No escape: what it stands for is a matter of
/// the client (WHATWG URL, 3.5).
fn is_plain_authority(authority: &str) -> bool {
    let is_in_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let (is_host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').unwrap_or_default();
            (address.parse::<Ipv6Addr>().is_ok(), port)
        }
        None => {
            let name = authority.split(':').next().unwrap_or_default();
            let is_name = !name.is_empty() && name.bytes().all(is_in_name);
            (is_name, &authority[name.len()..])
        }
    };
    let is_port =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    is_host && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

/// Returns the status of an answer without a recording.
fn failure_status(status: StatusCode, result_code: &str) -> StatusCode {
    if status != StatusCode::OK {
        return StatusCode::BAD_GATEWAY;
    }
    match result_code {
        NO_DATA | FILE_NOT_FOUND => StatusCode::NOT_FOUND,
        "0300008" | "0300009" => StatusCode::SERVICE_UNAVAILABLE,
        "0300001" | "0300002" | "0300003" | "0300004" | "0300005" | "0300006" | "0300007"
        | "0300010" | "0300013" => StatusCode::BAD_REQUEST,
        _ => StatusCode::BAD_GATEWAY,
    }
}

/// Whether a client wants CC-FS's own answer: `Accept` names `application/json`, and not below `*/*` (RFC 9110,
/// 12.5.1).
fn wants_json(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter();
    let ranges: Vec<(&str, f32)> = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(range_with_weight)
        .collect();
    let weight = |wanted: &str| {
        let mut weights = ranges
            .iter()
            .filter(|(range, _)| range.eq_ignore_ascii_case(wanted));
        weights.next().map(|(_, weight)| *weight)
    };
    let all = weight("*/*").unwrap_or_default();
    weight("application/json").is_some_and(|json| json > 0.0 && json >= all)
}

fn range_with_weight(item: &str) -> Option<(&str, f32)> {
    let mut parts = item.split(';').map(str::trim);
    let range = parts.next()?;
    let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
    let weight = weight.map_or(Some(1.0), |weight| weight.parse::<f32>().ok())?;
    (0.0..=1.0).contains(&weight).then_some((range, weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_wanted_by_name_alone() {
        for (accept, expected) in [
            (&[][..], false),
            (&["*/*"], false),
            (&["application/*"], false),
            (&["text/html, application/json"], true),
            (&["application/json;q=0"], false),
            (&["application/json;q=0.5, */*;q=0.8"], false),
            (&["application/json;q=0.8, */*;q=0.8"], true),
            (&["application/json, */*"], true),
            (&["Application/JSON ; q=0.1"], true),
            (&["application/json;q=x"], false),
            (&["application/json;q=2"], false),
            (&["text/html", "application/json"], true),
            (&["application/jsonp"], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(ACCEPT, value.parse().unwrap());
            }
            assert_eq!(wants_json(&headers), expected, "{accept:?}");
        }
    }

    #[test]
    fn a_client_is_sent_to_plain_https_urls_only() {
        for (url, expected) in [
            ("https://obs.example.com/a.wav?Expires=1", true),
            ("HTTPS://obs.example.com:8443/a", true),
            ("https://[2001:db8::1]/a", true),
            ("http://obs.example.com/a", false),
            ("//obs.example.com/a", false),
            ("javascript://obs.example.com/a", false),
            ("https:///a", false),
            ("https://:443/a", false),
            ("https://user@obs.example.com/a", false),
            ("https://user:password@obs.example.com/a", false),
            ("https://obs.example.com/a#b", false),
            ("https://obs.example.com/a\r\nSet-Cookie: b", false),
            ("https://obs.example.com/a b", false),
            ("https://obs.example.com\\@evil.example/a", false),
            ("https://obs.example.com/ä", false),
            ("https://obs.example.com/a\u{0}", false),
            ("https://obs.example.com%40evil.example/a", false),
            ("https://obs.example.com:99999/a", false),
            ("https://obs.example.com:80x/a", false),
            ("https://obs.example.com:+80/a", false),
            ("https://obs.example.com:/a", false),
            ("https://[2001:db8::1/a", false),
            ("https://[obs.example.com]/a", false),
            ("https://[::1]x/a", false),
            ("https://[::1]:443?a", true),
        ] {
            assert_eq!(is_redirectable(url), expected, "{url}");
        }
    }

    #[test]
    fn the_number_chooses_and_the_expiry_must_be_readable() {
        let url = |text: &str, is_readable: bool| {
            (
                text.to_owned(),
                is_readable.then_some(Timestamp::UNIX_EPOCH),
            )
        };
        let urls = [
            url("https://a/1", true),
            url("https://a/2", true),
            url("https://a/3", false),
        ];
        assert_eq!(location(&urls, 1).unwrap(), "https://a/1");
        assert_eq!(location(&urls, 2).unwrap(), "https://a/2");
        assert_eq!(location(&urls, 3), Err(StatusCode::BAD_GATEWAY));
        assert_eq!(location(&urls, 4), Err(StatusCode::NOT_FOUND));
        assert_eq!(location(&[], 1), Err(StatusCode::BAD_GATEWAY));
    }
}
