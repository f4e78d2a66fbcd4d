//! The HTTP/1 scanner. It is shown the same head again and again as it grows, looks at each byte
//! once, and judges each line as soon as it is whole: however the bytes were cut, the verdict is the
//! same.

use std::ops::Range;

use super::field::Name;
use super::{Chunked, Fault, Framing, HeadLimits, TOKEN, all_of, field, host, target};
use crate::metrics::Malformed;

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
pub(crate) struct Scanner {
    /// Bytes that need no second look.
    seen: usize,
    /// Where the current line begins.
    line: usize,
    /// One empty line before a request is allowed (RFC 9112, 2.2).
    led: bool,
    request: Option<RequestLine>,
    fields: usize,
    host: Option<Range<usize>>,
    length: Option<u64>,
    chunked: bool,
}

#[derive(Debug)]
struct RequestLine {
    /// HTTP/1.1, not 1.0.
    current: bool,
    /// Of an absolute target.
    authority: Option<Range<usize>>,
}

impl Scanner {
    /// Looks at what is new in `head`, which begins where the head begins. `None`: more is needed.
    pub(crate) fn advance(
        &mut self,
        head: &[u8],
        limits: HeadLimits,
    ) -> Result<Option<Head>, Fault> {
        let allowed = head.get(..limits.size).unwrap_or(head);
        while let Some(at) = next_control(allowed, self.seen) {
            match allowed.get(at..at + 2).unwrap_or_default() {
                [b'\r', b'\n'] => {
                    let line = self.line..at;
                    self.line = at + 2;
                    self.seen = at + 2;
                    if let Some(framing) = self.take(allowed, line, limits)? {
                        let length = self.line;
                        return Ok(Some(Head { length, framing }));
                    }
                }
                _ if allowed.get(at) == Some(&b'\t') && self.request.is_some() => {
                    self.seen = at + 1
                }
                // The second half of the line's end is not here yet.
                _ if allowed.get(at) == Some(&b'\r') && at + 1 == allowed.len() => {
                    self.seen = at;
                    return within(head, allowed);
                }
                _ => return Err(CONTROL),
            }
        }
        self.seen = allowed.len();
        within(head, allowed)
    }

    /// Judges one line; the framing, if it was the last one.
    fn take(
        &mut self,
        head: &[u8],
        line: Range<usize>,
        limits: HeadLimits,
    ) -> Result<Option<Framing>, Fault> {
        let text = head.get(line.clone()).unwrap_or_default();
        let Some(request) = &self.request else {
            if text.is_empty() && !self.led {
                self.led = true;
            } else {
                self.request = Some(request_line(text, line.start)?);
            }
            return Ok(None);
        };
        if text.is_empty() {
            return self.finish(head, request).map(Some);
        }
        self.fields += 1;
        if self.fields > limits.fields {
            return Err(Fault::too_large());
        }
        let (name, value) = field::split(text)?;
        match name {
            Name::Other => {}
            Name::Host => {
                host::judge(value)?;
                let start = line.end - trailing_blanks(text) - value.len();
                if self.host.replace(start..start + value.len()).is_some() {
                    return Err(Fault::new(Malformed::Host, "there is more than one Host"));
                }
            }
            Name::ContentLength => {
                let length = field::content_length(value)?;
                if self.length.replace(length).is_some() {
                    return Err(Fault::new(
                        Malformed::Framing,
                        "there is more than one Content-Length",
                    ));
                }
            }
            Name::TransferEncoding => {
                let legal = value.eq_ignore_ascii_case(b"chunked") && request.current;
                if !legal || std::mem::replace(&mut self.chunked, true) {
                    return Err(Fault::new(
                        Malformed::Framing,
                        "Transfer-Encoding is not one chunked, or not in HTTP/1.1",
                    ));
                }
            }
        }
        Ok(None)
    }

    /// What only the whole head can tell.
    fn finish(&self, head: &[u8], request: &RequestLine) -> Result<Framing, Fault> {
        let host = self.host.clone().and_then(|range| head.get(range));
        if host.is_none() && request.current {
            return Err(Fault::new(Malformed::Host, "there is no Host"));
        }
        if let Some(authority) = request.authority.clone().and_then(|range| head.get(range)) {
            host::judge(authority)?;
            host::agree(authority, host.unwrap_or(authority))?;
        }
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Fault::new(
                Malformed::Framing,
                "there are both Content-Length and Transfer-Encoding",
            )),
            (true, None) => Ok(Framing::Chunked(Chunked::default())),
            (false, Some(length)) if length > 0 => Ok(Framing::Length(length)),
            (false, _) => Ok(Framing::Nothing),
        }
    }
}

/// `method SP target SP version`, each separated by exactly one blank.
fn request_line(line: &[u8], start: usize) -> Result<RequestLine, Fault> {
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Fault::new(
            Malformed::RequestLine,
            "the request line is not method, target and version",
        ));
    };
    if method.is_empty() || method.len() > MAX_METHOD || !all_of(method, TOKEN) {
        return Err(Fault::new(
            Malformed::RequestLine,
            "the method is not a token",
        ));
    }
    let current = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        _ => {
            return Err(Fault::new(
                Malformed::Version,
                "the version is neither HTTP/1.1 nor HTTP/1.0",
            ));
        }
    };
    if matches!(method, b"CONNECT" | b"TRACE") {
        return Err(Fault::method());
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
    Ok(RequestLine { current, authority })
}

fn within(head: &[u8], allowed: &[u8]) -> Result<Option<Head>, Fault> {
    if head.len() > allowed.len() {
        Err(Fault::too_large())
    } else {
        Ok(None)
    }
}

fn trailing_blanks(line: &[u8]) -> usize {
    line.len() - line.trim_ascii_end().len()
}

/// The first control character at or after `from`; eight bytes a step.
fn next_control(bytes: &[u8], from: usize) -> Option<usize> {
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
const MAX_METHOD: usize = 32;

const CONTROL: Fault = Fault::new(
    Malformed::FieldValue,
    "the head holds a control character, or a line does not end in CR LF",
);
