//! The HTTP/1 head scanner (RFC 9112, 2 to 6). It is called with the same head as it grows, examines
//! each byte once, and validates each line as soon as it is complete: the result does not depend on how
//! the bytes were split into reads.

use std::ops::Range;

use memchr::{memchr, memrchr};

use super::field::KnownField;
use super::{Framing, HeadError, HeadLimits, TOKEN, all_in_class, field, host, target};
use crate::framing::{ChunkedScanner, ExtensionLimit};
use crate::http_fields::is_allowed_in_trailers;
use crate::metrics::MalformedReason;

/// A legal head.
#[derive(Debug)]
pub(crate) struct Head {
    /// Bytes, including the final empty line.
    pub(crate) length: usize,
    /// How its body is framed.
    pub(crate) framing: Framing,
}

/// The state of scanning one head.
#[derive(Debug, Default)]
pub(crate) struct HeadScanner {
    /// Bytes that have been examined.
    scanned: usize,
    /// Start of the current line.
    line_start: usize,
    /// One empty line before a request is ignored (RFC 9112, 2.2).
    saw_empty_line: bool,
    request: Option<RequestLine>,
    /// The method is HEAD; known before the request line is valid.
    is_head_request: bool,
    fields: usize,
    host: Option<Range<usize>>,
    content_length: Option<u64>,
    is_chunked: bool,
}

#[derive(Debug)]
struct RequestLine {
    /// HTTP/1.1 rather than HTTP/1.0.
    is_http_1_1: bool,
    /// Range of the authority in a target in absolute form.
    authority: Option<Range<usize>>,
}

impl HeadScanner {
    /// Whether the head is that of a HEAD request, whose response has no body (RFC 9110, 9.3.2).
    pub(crate) fn is_head_request(&self) -> bool {
        self.is_head_request
    }

    /// Scans what is new in `head`, which begins where the head begins. Returns `None` if more bytes are
    /// needed.
    pub(crate) fn advance(
        &mut self,
        head: &[u8],
        limits: HeadLimits,
    ) -> Result<Option<Head>, HeadError> {
        let allowed = head.get(..limits.size).unwrap_or(head);
        while let Some(at) = find_control(allowed, self.scanned) {
            match allowed.get(at..at + 2).unwrap_or_default() {
                [b'\r', b'\n'] => {
                    let line = self.line_start..at;
                    self.line_start = at + 2;
                    self.scanned = at + 2;
                    if let Some(framing) = self.process_line(allowed, line, limits)? {
                        let length = self.line_start;
                        return Ok(Some(Head { length, framing }));
                    }
                }
                _ if allowed.get(at) == Some(&b'\t') && self.request.is_some() => {
                    self.scanned = at + 1
                }
                // The LF has not arrived yet.
                _ if allowed.get(at) == Some(&b'\r') && at + 1 == allowed.len() => {
                    self.scanned = at;
                    return check_size(head, allowed);
                }
                // RFC 9112, 2.2: a bare CR or LF. RFC 9110, 5.5: control characters in a value.
                _ => return Err(CONTROL_CHARACTER),
            }
        }
        self.scanned = allowed.len();
        check_size(head, allowed)
    }

    /// Validates one line. Returns the framing if it was the last one.
    fn process_line(
        &mut self,
        head: &[u8],
        line: Range<usize>,
        limits: HeadLimits,
    ) -> Result<Option<Framing>, HeadError> {
        let text = head.get(line.clone()).unwrap_or_default();
        let Some(request) = &self.request else {
            if text.is_empty() && !self.saw_empty_line {
                self.saw_empty_line = true;
            } else {
                self.is_head_request = text.starts_with(b"HEAD ");
                self.request = Some(parse_request_line(text, line.start)?);
            }
            return Ok(None);
        };
        if text.is_empty() {
            return self.finish(head, request).map(Some);
        }
        self.fields += 1;
        if self.fields > limits.fields {
            return Err(HeadError::too_large());
        }
        let (name, value) = field::parse_line(text)?;
        match name {
            KnownField::Other => {}
            // RFC 9112, 3.2: exactly one Host.
            KnownField::Host => {
                host::validate(value)?;
                let start = line.end - trailing_whitespace(text) - value.len();
                if self.host.replace(start..start + value.len()).is_some() {
                    return Err(HeadError::new(
                        MalformedReason::Host,
                        "there is more than one Host",
                    ));
                }
            }
            // RFC 9112, 6.3: stricter than its rule 5, which allows equal repetitions.
            KnownField::ContentLength => {
                let length = field::parse_content_length(value)?;
                if self.content_length.replace(length).is_some() {
                    return Err(HeadError::new(
                        MalformedReason::Framing,
                        "there is more than one Content-Length",
                    ));
                }
            }
            // RFC 9112, 6.1 and 6.3: chunked alone and once, and not in HTTP/1.0.
            KnownField::TransferEncoding => {
                let is_legal = value.eq_ignore_ascii_case(b"chunked") && request.is_http_1_1;
                if !is_legal || std::mem::replace(&mut self.is_chunked, true) {
                    return Err(HeadError::new(
                        MalformedReason::Framing,
                        "Transfer-Encoding is not one chunked, or not in HTTP/1.1",
                    ));
                }
            }
        }
        Ok(None)
    }

    /// Validates what depends on the whole head.
    fn finish(&self, head: &[u8], request: &RequestLine) -> Result<Framing, HeadError> {
        let host = self.host.clone().and_then(|range| head.get(range));
        if host.is_none() && request.is_http_1_1 {
            return Err(HeadError::new(MalformedReason::Host, "there is no Host"));
        }
        if let Some(authority) = request.authority.clone().and_then(|range| head.get(range)) {
            host::validate(authority)?;
            host::require_same_host(authority, host.unwrap_or(authority))?;
        }
        // RFC 9112, 6.3, rule 3: both together "ought to be handled as an error".
        match (self.is_chunked, self.content_length) {
            (true, Some(_)) => Err(HeadError::new(
                MalformedReason::Framing,
                "there are both Content-Length and Transfer-Encoding",
            )),
            (true, None) => Ok(Framing::Chunked(ChunkedScanner::new(
                ExtensionLimit::WholeBody,
                is_allowed_in_trailers,
            ))),
            (false, Some(length)) if length > 0 => Ok(Framing::Length(length)),
            (false, _) => Ok(Framing::NoBody),
        }
    }
}

/// Parses `method SP target SP version` (RFC 9112, 3), separated by exactly one space.
fn parse_request_line(line: &[u8], start: usize) -> Result<RequestLine, HeadError> {
    let Some([method, target, version]) = three_parts(line) else {
        return Err(HeadError::new(
            MalformedReason::RequestLine,
            "the request line is not method, target and version",
        ));
    };
    if method.is_empty() || method.len() > MAX_METHOD_LENGTH || !all_in_class(method, TOKEN) {
        return Err(HeadError::new(
            MalformedReason::RequestLine,
            "the method is not a token",
        ));
    }
    let current = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        _ => {
            return Err(HeadError::new(
                MalformedReason::Version,
                "the version is neither HTTP/1.1 nor HTTP/1.0",
            ));
        }
    };
    if matches!(method, b"CONNECT" | b"TRACE") {
        return Err(HeadError::method_not_allowed());
    }
    let authority = target::parse(target)?.authority.map(|authority| {
        // The absolute form is `scheme://authority/...` (RFC 9112, 3.2.2).
        let scheme = target
            .iter()
            .position(|&byte| byte == b'/')
            .map_or(0, |slash| slash + 2);
        let begin = start + method.len() + 1 + scheme;
        begin..begin + authority.len()
    });
    Ok(RequestLine {
        is_http_1_1: current,
        authority,
    })
}

/// Splits a line that has exactly two spaces.
fn three_parts(line: &[u8]) -> Option<[&[u8]; 3]> {
    let (first, rest) = line.split_at_checked(memchr(b' ', line)?)?;
    let rest = rest.get(1..)?;
    let (second, third) = rest.split_at_checked(memrchr(b' ', rest)?)?;
    let is_one_word = memchr(b' ', second).is_none();
    Some([first, second, third.get(1..)?]).filter(|_| is_one_word)
}

/// Rejects a head that is larger than allowed.
fn check_size(head: &[u8], allowed: &[u8]) -> Result<Option<Head>, HeadError> {
    if head.len() > allowed.len() {
        Err(HeadError::too_large())
    } else {
        Ok(None)
    }
}

fn trailing_whitespace(line: &[u8]) -> usize {
    line.len() - line.trim_ascii_end().len()
}

/// Returns the first control character at or after `from`; examines eight bytes at a time.
fn find_control(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    let (words, _) = rest.as_chunks::<8>();
    // A byte below 0x20 and 0x7f leave their high bit set ("hasless" and "haszero" of the bit twiddling
    // hacks). False positives occur only in a higher byte than a true one, and the first byte counts.
    let clean = words
        .iter()
        .take_while(|&&word| {
            let word = u64::from_le_bytes(word);
            let low = word.wrapping_sub(ONES * 0x20) & !word;
            let delete = word ^ (ONES * 0x7f);
            let delete = delete.wrapping_sub(ONES) & !delete;
            (low | delete) & (ONES * 0x80) == 0
        })
        .count();
    rest.iter()
        .skip(clean * 8)
        .position(u8::is_ascii_control)
        .map(|at| from + clean * 8 + at)
}

const ONES: u64 = 0x0101_0101_0101_0101;

/// The longest method of the IANA registry has 17 characters.
const MAX_METHOD_LENGTH: usize = 32;

const CONTROL_CHARACTER: HeadError = HeadError::new(
    MalformedReason::FieldValue,
    "the head holds a control character, or a line does not end in CR LF",
);
