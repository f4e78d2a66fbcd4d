//! The object store behind the URLs of a stand-in: a short recording, which a URL opens until its expiry, whole or
//! in ranges, as players ask for it.

use std::sync::LazyLock;

use bytes::Bytes;
use data_encoding::BASE64;
use http::header::{ACCEPT_RANGES, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, RANGE};
use http::{Method, Response, StatusCode, request};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use super::presign::signature_v2;
use super::response::{BodyPacing, Content, PacedBody};

/// Answers a request for an object; `None` if it is none.
pub(super) fn answer(head: &request::Parts, now: Timestamp) -> Option<Response<PacedBody>> {
    if !head.uri.path().starts_with(PREFIX) {
        return None;
    }
    let opens = opens(head.uri.path(), head.uri.query().unwrap_or_default(), now);
    let is_read = head.method == Method::GET || head.method == Method::HEAD;
    let refusal = match opens {
        Ok(()) if is_read => return Some(recording(head.headers.get(RANGE))),
        Ok(()) => "The method is not allowed.",
        Err(refusal) => refusal,
    };
    let text = format!("<Error><Code>AccessDenied</Code><Message>{refusal}</Message></Error>");
    let mut response = response(StatusCode::FORBIDDEN, text.into());
    let kind = HeaderValue::from_static("application/xml");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Some(response)
}

/// Whether a query opens an object, as OBS decides it.
fn opens(path: &str, query: &str, now: Timestamp) -> Result<(), &'static str> {
    let parameter = |wanted: &str| {
        let mut parameters = query.split('&').filter_map(|it| it.split_once('='));
        let (_, value) = parameters.find(|(name, _)| *name == wanted)?;
        percent_decode_str(value).decode_utf8().ok()
    };
    let expires = parameter("Expires").and_then(|text| text.parse().ok());
    let (Some(expires), Some(signature)) = (expires, parameter("Signature")) else {
        return Err("Expires or Signature is missing.");
    };
    if signature != BASE64.encode(&signature_v2(path, expires)) {
        return Err("The signature does not match.");
    }
    if expires <= now.as_second() {
        return Err("Request has expired.");
    }
    Ok(())
}

/// Returns the recording, or the range of it that is asked for.
fn recording(range: Option<&HeaderValue>) -> Response<PacedBody> {
    let length = RECORDING.len();
    let asked = range
        .and_then(|range| range.to_str().ok())
        .and_then(single_range);
    let mut answer = match asked.map(|range| resolve(range, length)) {
        None => response(StatusCode::OK, RECORDING.clone()),
        Some(Some((first, last))) => {
            let part = RECORDING.slice(first..=last);
            with_range(
                response(StatusCode::PARTIAL_CONTENT, part),
                &format!("bytes {first}-{last}/{length}"),
            )
        }
        Some(None) => with_range(
            response(StatusCode::RANGE_NOT_SATISFIABLE, Bytes::new()),
            &format!("bytes */{length}"),
        ),
    };
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("audio/wav"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    answer
}

fn with_range(mut response: Response<PacedBody>, text: &str) -> Response<PacedBody> {
    if let Ok(value) = HeaderValue::from_str(text) {
        response.headers_mut().insert(CONTENT_RANGE, value);
    }
    response
}

fn response(status: StatusCode, body: Bytes) -> Response<PacedBody> {
    let body = PacedBody::new(Content::Full(body), BodyPacing::default(), None);
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// Parses a range of bytes: first and last, or the length of the end (RFC 9110, 14.1.2). `None` for several, which a
/// server may ignore.
fn single_range(text: &str) -> Option<(Option<usize>, Option<usize>)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| match text {
        "" => Some(None),
        _ => text.parse().ok().map(Some),
    };
    let range = (number(first)?, number(last)?);
    (range != (None, None)).then_some(range)
}

/// Returns the first and the last byte of a range; `None` if none of it is there.
fn resolve(range: (Option<usize>, Option<usize>), length: usize) -> Option<(usize, usize)> {
    let end = length.checked_sub(1)?;
    let (first, last) = match range {
        (Some(first), last) => (first, last.unwrap_or(end).min(end)),
        (None, suffix) => (length - suffix?.min(length), end),
    };
    (first <= last).then_some((first, last))
}

/// Three tones of a second each, as a WAV file: 8 kHz, mono, eight bits.
static RECORDING: LazyLock<Bytes> = LazyLock::new(|| {
    let mut samples = Vec::with_capacity(3 * SAMPLE_RATE);
    for hertz in [440_u64, 554, 659] {
        let step = (hertz << 32) / SAMPLE_RATE as u64;
        for sample in 0..SAMPLE_RATE as u64 {
            // A triangle: up in the first half of a period, down in the second.
            let [.., high, _, _, _] = (sample * step).to_be_bytes();
            let level = if high < 128 { high } else { 255 - high };
            samples.push(64 + level);
        }
    }
    wav(&samples)
});

/// Returns a WAV file of unsigned samples.
fn wav(samples: &[u8]) -> Bytes {
    let length = u32::try_from(samples.len()).unwrap_or_default();
    let rate = u32::try_from(SAMPLE_RATE).unwrap_or_default();
    let mut file = b"RIFF".to_vec();
    file.extend((36 + length).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16_u32.to_le_bytes());
    // PCM, one channel.
    file.extend([1, 0, 1, 0]);
    file.extend(rate.to_le_bytes());
    // As many bytes a second; one byte and eight bits a sample.
    file.extend(rate.to_le_bytes());
    file.extend([1, 0, 8, 0]);
    file.extend(b"data");
    file.extend(length.to_le_bytes());
    file.extend(samples);
    file.into()
}

const SAMPLE_RATE: usize = 8_000;

/// The start of the path of every object.
pub(super) const PREFIX: &str = "/voice/";

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::BodyExt;

    use super::super::presign::{Presigner, UrlStyle};
    use super::*;

    const EXPIRES: i64 = 28_800;

    /// The target of a URL that was made in 1970, for eight hours.
    fn target() -> String {
        let style = UrlStyle {
            opens: true,
            ..UrlStyle::default()
        };
        let data = Presigner::new(7).result_data("1-1", &style, Timestamp::UNIX_EPOCH);
        let url = data["url"].as_str().unwrap().to_owned();
        url.strip_prefix("https://127.0.0.1:7").unwrap().to_owned()
    }

    async fn get(target: &str, range: Option<&str>, second: i64) -> (u16, Option<String>, Bytes) {
        let mut request = Request::get(target);
        if let Some(range) = range {
            request = request.header(RANGE, range);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let now = Timestamp::from_second(second).unwrap();
        let (head, body) = answer(&head, now).unwrap().into_parts();
        let range = head.headers.get(CONTENT_RANGE);
        let range = range.map(|range| range.to_str().unwrap().to_owned());
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), range, body)
    }

    #[tokio::test]
    async fn a_url_opens_a_recording_until_its_expiry() {
        let (status, range, body) = get(&target(), None, EXPIRES - 1).await;
        assert_eq!((status, range), (200, None));
        assert_eq!(body.len(), 44 + 3 * SAMPLE_RATE);
        assert_eq!((&body[..4], &body[8..16]), (&b"RIFF"[..], &b"WAVEfmt "[..]));
        let (status, _, body) = get(&target(), None, EXPIRES).await;
        assert!(body.starts_with(b"<Error><Code>AccessDenied"));
        assert_eq!(status, 403);
        for wrong in [
            target().replace("/1/", "/2/"),
            target().replace("Expires=28800", "Expires=28801"),
            target().replace("Signature=", "Signature=a"),
            "/voice/7/1/1-1.V3".to_owned(),
        ] {
            assert_eq!(get(&wrong, None, 0).await.0, 403, "{wrong}");
        }
        let (post, ()) = Request::post(target()).body(()).unwrap().into_parts();
        let refused = answer(&post, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(refused.status(), 403);
    }

    #[tokio::test]
    async fn players_ask_for_ranges() {
        let (_, _, whole) = get(&target(), None, 0).await;
        let last = whole.len() - 1;
        for (asked, first, end) in [
            ("bytes=0-", 0, last),
            ("bytes=0-0", 0, 0),
            ("bytes=44-143", 44, 143),
            ("bytes=100-999999", 100, last),
            ("bytes=-100", last - 99, last),
            ("bytes=-999999", 0, last),
        ] {
            let (status, range, body) = get(&target(), Some(asked), 0).await;
            let expected = format!("bytes {first}-{end}/{}", whole.len());
            assert_eq!((status, range), (206, Some(expected)), "{asked}");
            assert_eq!(body, whole.slice(first..=end));
        }
        for asked in ["bytes=24044-", "bytes=5-4", "bytes=-0"] {
            let (status, range, _) = get(&target(), Some(asked), 0).await;
            assert_eq!(
                (status, range.as_deref()),
                (416, Some("bytes */24044")),
                "{asked}"
            );
        }
        for ignored in ["bytes=-", "bytes=0-1,5-6", "items=0-1", "bytes=a-b"] {
            assert_eq!(get(&target(), Some(ignored), 0).await.0, 200, "{ignored}");
        }
    }
}
