//! The head of a response: where it ends, and what it says. Parsed by httparse, and only once its end
//! has been seen among the bytes that are new.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::CONNECTION;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use httparse::{Header, ParserConfig, Status};

use super::framing::Framing;
use crate::upstream::failure_reason::FailureReason;

/// The head of a final response.
#[derive(Debug)]
pub(in crate::upstream) struct Head {
    pub(in crate::upstream) status: StatusCode,
    /// All fields, hop-by-hop ones included.
    pub(in crate::upstream) headers: HeaderMap,
    pub(super) framing: Framing,
    /// Whether the node keeps the connection open after the response: HTTP/1.1 without
    /// `Connection: close`, and a body whose end is not that of the connection.
    pub(super) keep_alive: bool,
}

/// Finds the final head at the start of a response, and skips the interim ones (1xx).
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    /// Bytes at the start of the buffer in which no head ends.
    scanned: usize,
    interim_heads: usize,
    interim_bytes: usize,
}

impl HeadReader {
    /// Takes the final head out of `buffer`; `None` if it is not whole yet. `to_head`: the request
    /// was a HEAD. An error is the reason why the response is invalid.
    pub(super) fn take(
        &mut self,
        buffer: &mut BytesMut,
        to_head: bool,
    ) -> Result<Option<Head>, FailureReason> {
        loop {
            // A server that does not speak HTTP may never end its head.
            if buffer
                .iter()
                .zip(PREFIX)
                .any(|(byte, wanted)| byte != wanted)
            {
                return Err("bad HTTP: the response does not begin with HTTP/1".into());
            }
            let end = end_of_head(buffer, self.scanned);
            if end.unwrap_or(buffer.len()) > MAX_HEAD_SIZE {
                return Err(TOO_LARGE.into());
            }
            let Some(length) = end else {
                self.scanned = buffer.len();
                return Ok(None);
            };
            self.scanned = 0;
            let head = parse(&buffer.split_to(length).freeze())?;
            if !head.status.is_informational() {
                return head.into_final(to_head).map(Some);
            }
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Err("bad HTTP: 101 to a request without Upgrade".into());
            }
            self.interim_heads += 1;
            self.interim_bytes += length;
            if self.interim_heads > MAX_INTERIM_HEADS || self.interim_bytes > MAX_HEAD_SIZE {
                return Err("bad HTTP: more than 8 interim responses, or 64 KiB of them".into());
            }
        }
    }
}

/// A parsed head whose framing is not determined yet.
struct Parsed {
    status: StatusCode,
    version: Version,
    headers: HeaderMap,
}

impl Parsed {
    fn into_final(self, to_head: bool) -> Result<Head, FailureReason> {
        let framing = Framing::of(self.status, self.version, &self.headers, to_head)
            .map_err(|reason| FailureReason::from(format!("bad HTTP: {reason}")))?;
        let closes = self.headers.get_all(CONNECTION).iter().any(|value| {
            let mut options = value.as_bytes().split(|&byte| byte == b',');
            options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
        });
        let ends_at_close = matches!(framing, Framing::UntilClose);
        Ok(Head {
            keep_alive: self.version == Version::HTTP_11 && !closes && !ends_at_close,
            framing,
            status: self.status,
            headers: self.headers,
        })
    }
}

/// The length of the head that ends in `bytes`; no head ends in the first `scanned` bytes. An end is
/// an empty line, also one that ends with LF alone: RFC 9112, section 2.2, lets a recipient take it.
fn end_of_head(bytes: &[u8], scanned: usize) -> Option<usize> {
    // Up to three bytes of an end that was cut: LF CR, or LF.
    let start = scanned.saturating_sub(2);
    let mut feeds = memchr::memchr_iter(b'\n', bytes.get(start..)?).map(|at| start + at + 1);
    feeds.find_map(|next| match bytes.get(next..)? {
        [b'\n', ..] => Some(next + 1),
        [b'\r', b'\n', ..] => Some(next + 2),
        _ => None,
    })
}

/// Parses one whole head. Most have so few fields that the table of them fits on the stack.
fn parse(head: &Bytes) -> Result<Parsed, FailureReason> {
    let mut few = [const { MaybeUninit::uninit() }; FEW_FIELDS];
    let mut many = Vec::new();
    let parser = ParserConfig::default();
    let mut response = httparse::Response::new(&mut []);
    let mut result = parser.parse_response_with_uninit_headers(&mut response, head, &mut few);
    if result == Err(httparse::Error::TooManyHeaders) {
        many.resize(MAX_FIELDS, MaybeUninit::uninit());
        response = httparse::Response::new(&mut []);
        result = parser.parse_response_with_uninit_headers(&mut response, head, &mut many);
    }
    match result {
        Ok(Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err("bad HTTP: the end of the response head is ambiguous".into()),
        Err(httparse::Error::TooManyHeaders) => {
            return Err("bad HTTP: the response head has more than 1000 fields".into());
        }
        Err(error) => return Err(format!("bad HTTP: {error}").into()),
    }
    let status = StatusCode::from_u16(response.code.unwrap_or_default());
    Ok(Parsed {
        status: status.map_err(|error| format!("bad HTTP: {error}"))?,
        version: match response.version {
            Some(1) => Version::HTTP_11,
            _ => Version::HTTP_10,
        },
        headers: field_map(head, response.headers)?,
    })
}

/// The fields; their values are slices of `head`.
fn field_map(head: &Bytes, fields: &[Header<'_>]) -> Result<HeaderMap, FailureReason> {
    let mut headers = HeaderMap::with_capacity(fields.len() + ADDED_FIELDS);
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value));
        match (name, value) {
            (Ok(name), Ok(value)) => headers.append(name, value),
            _ => return Err("bad HTTP: invalid header field".into()),
        };
    }
    Ok(headers)
}

/// What every response begins with.
const PREFIX: &[u8] = b"HTTP/1.";

/// Most responses have a dozen fields.
const FEW_FIELDS: usize = 48;

/// Fields that the gateway adds to a response: room for them is made at once, or the map would grow twice.
const ADDED_FIELDS: usize = 6;

/// Fields of one response head, documented. hyper's limit of 100 was too low for nodes behind
/// other proxies.
const MAX_FIELDS: usize = 1000;

/// One response head, and all interim ones of a response together; the default of Envoy
/// (`max_request_headers_kb` is 60) is near.
const MAX_HEAD_SIZE: usize = 64 * 1024;

/// Interim responses before the final one. No request of the gateway solicits any.
const MAX_INTERIM_HEADS: usize = 8;

const TOO_LARGE: &str = "bad HTTP: the response head is larger than 64 KiB";
