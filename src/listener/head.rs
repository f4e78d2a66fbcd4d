//! Is this a legal request head? Pure and incremental: the HTTP/1 scanner judges raw bytes line by
//! line before hyper sees one of them, and [`request`] holds HTTP/2 to the same rules. Stricter than
//! the parser behind it on purpose: what two parsers could read in two ways is refused here.

mod field;
mod host;
pub(super) mod request;
mod scan;
mod target;

pub(super) use scan::HeadScanner;

use crate::framing::ChunkedScanner;
use crate::listener::ProtocolError;
use crate::metrics::{ConnectionEndReason, MalformedReason, Shard};

/// How much a head may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeadLimits {
    /// Bytes, with request line and the empty line at its end.
    pub size: usize,
    /// Fields.
    pub fields: usize,
}

/// What follows a head.
#[derive(Clone, Debug)]
pub(super) enum Framing {
    /// The next head.
    NoBody,
    /// So many bytes; not zero.
    Length(u64),
    /// Chunks and trailers.
    Chunked(ChunkedScanner),
}

/// Why a request is refused: what is told, and what is counted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct HeadError {
    /// For the caller.
    pub(super) error: ProtocolError,
    /// For the metrics; a head that is late is not malformed.
    pub(super) reason: Option<MalformedReason>,
}

impl HeadError {
    const fn new(reason: MalformedReason, text: &'static str) -> Self {
        Self {
            error: ProtocolError::Malformed(text),
            reason: Some(reason),
        }
    }

    /// A body that is not legal chunked coding.
    pub(super) const BROKEN_BODY: Self = Self::new(
        MalformedReason::Body,
        "the request body is not legal chunked coding",
    );

    const fn too_large() -> Self {
        Self {
            error: ProtocolError::HeadTooLarge,
            reason: Some(MalformedReason::TooLarge),
        }
    }

    /// The head did not come in time.
    pub(super) const HEAD_TIMEOUT: Self = Self {
        error: ProtocolError::HeadTimeout,
        reason: None,
    };

    /// Counts it.
    pub(super) fn count(&self, metrics: &Shard) {
        match self.reason {
            Some(reason) => {
                metrics.count(reason);
                metrics.count(ConnectionEndReason::Malformed);
            }
            None => metrics.count(ConnectionEndReason::HeaderTimeout),
        }
    }

    const fn method_not_allowed() -> Self {
        Self {
            error: ProtocolError::MethodNotAllowed,
            reason: Some(MalformedReason::RequestLine),
        }
    }
}

/// Is every byte of one of the kinds?
fn all_in_class(bytes: &[u8], kinds: u8) -> bool {
    bytes
        .iter()
        .all(|&byte| BYTE_CLASSES[usize::from(byte)] & kinds != 0)
}

/// A character of methods and field names.
const TOKEN: u8 = 1;
/// RFC 3986: pchar and `/`. A backslash is not among them.
const PATH: u8 = 2;
/// What clients in the wild leave bare in a query besides.
const QUERY: u8 = 4;

/// What each byte may be: looked up, since every byte of every head is judged.
static BYTE_CLASSES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        let kinds = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => TOKEN | PATH,
            b'!' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'_' | b'~' => {
                TOKEN | PATH
            }
            b'#' | b'`' => TOKEN,
            b'^' | b'|' => TOKEN | QUERY,
            b'(' | b')' | b',' | b'/' | b':' | b';' | b'=' | b'@' => PATH,
            b'?' | b'[' | b']' | b'{' | b'}' => QUERY,
            _ => 0,
        };
        table[byte as usize] = kinds;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests;
