//! The HTTP/1 scanner. It is shown the same head again and again as it grows, looks at each byte
//! once, and judges each line as soon as it is whole: however the bytes were cut, the verdict is the
//! same.

use std::ops::Range;

use super::field::KnownField;
use super::{Framing, HeadError, HeadLimits, TOKEN, all_in_class, field, host, target};
use crate::framing::ChunkedScanner;
use crate::http_fields::is_allowed_in_trailers;
use crate::metrics::MalformedReason;

/// A legal head.
#[derive(Debug)]
pub(crate) struct Head {
    /// Its bytes, the empty line included.
    pub(crate) length: usize,
    /// What follows.
    pub(crate) framing: Framing,
}

/// How far one head has been read.
#[derive(Debug, Default)]
pub(crate) struct HeadScanner {
    /// Bytes that need no second look.
    scanned: usize,
    /// Where the current line begins.
    line_start: usize,
    /// One empty line before a request is allowed (RFC 9112, 2.2).
    saw_empty_line: bool,
    request: Option<RequestLine>,
    fields: usize,
    host: Option<Range<usize>>,
    content_length: Option<u64>,
    is_chunked: bool,
}

#[derive(Debug)]
struct RequestLine {
    /// HTTP/1.1, not 1.0.
    is_http_1_1: bool,
    /// Of an absolute target.
    authority: Option<Range<usize>>,
}

impl HeadScanner {
    /// Looks at what is new in `head`, which begins where the head begins. `None`: more is needed.
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
                // The second half of the line's end is not here yet.
                _ if allowed.get(at) == Some(&b'\r') && at + 1 == allowed.len() => {
                    self.scanned = at;
                    return check_size(head, allowed);
                }
                _ => return Err(CONTROL_CHARACTER),
            }
        }
        self.scanned = allowed.len();
        check_size(head, allowed)
    }

    /// Judges one line; the framing, if it was the last one.
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
            KnownField::ContentLength => {
                let length = field::parse_content_length(value)?;
                if self.content_length.replace(length).is_some() {
                    return Err(HeadError::new(
                        MalformedReason::Framing,
                        "there is more than one Content-Length",
                    ));
                }
            }
            KnownField::TransferEncoding => {
                let legal = value.eq_ignore_ascii_case(b"chunked") && request.is_http_1_1;
                if !legal || std::mem::replace(&mut self.is_chunked, true) {
                    return Err(HeadError::new(
                        MalformedReason::Framing,
                        "Transfer-Encoding is not one chunked, or not in HTTP/1.1",
                    ));
                }
            }
        }
        Ok(None)
    }

    /// What only the whole head can tell.
    fn finish(&self, head: &[u8], request: &RequestLine) -> Result<Framing, HeadError> {
        let host = self.host.clone().and_then(|range| head.get(range));
        if host.is_none() && request.is_http_1_1 {
            return Err(HeadError::new(MalformedReason::Host, "there is no Host"));
        }
        if let Some(authority) = request.authority.clone().and_then(|range| head.get(range)) {
            host::validate(authority)?;
            host::require_same_host(authority, host.unwrap_or(authority))?;
        }
        match (self.is_chunked, self.content_length) {
            (true, Some(_)) => Err(HeadError::new(
                MalformedReason::Framing,
                "there are both Content-Length and Transfer-Encoding",
            )),
            (true, None) => Ok(Framing::Chunked(ChunkedScanner::new(
                is_allowed_in_trailers,
            ))),
            (false, Some(length)) if length > 0 => Ok(Framing::Length(length)),
            (false, _) => Ok(Framing::NoBody),
        }
    }
}

/// `method SP target SP version`, each separated by exactly one blank.
fn parse_request_line(line: &[u8], start: usize) -> Result<RequestLine, HeadError> {
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
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
        // An absolute target is `scheme://authority/...`; the authority ends where the path begins.
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

/// The first control character at or after `from`; eight bytes a step.
fn find_control(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    let (words, _) = rest.as_chunks::<8>();
    // A byte below 0x20, or 0x7f, leaves its high bit set: "hasless" and "haszero" of the classic
    // bit tricks. False alarms only follow a true one in a higher byte, and the first byte wins.
    let calm = words
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
        .skip(calm * 8)
        .position(u8::is_ascii_control)
        .map(|at| from + calm * 8 + at)
}

const ONES: u64 = 0x0101_0101_0101_0101;

/// No method of the registry is longer than 17.
const MAX_METHOD_LENGTH: usize = 32;

const CONTROL_CHARACTER: HeadError = HeadError::new(
    MalformedReason::FieldValue,
    "the head holds a control character, or a line does not end in CR LF",
);
