//! Validates request heads. Pure and incremental: the HTTP/1 scanner checks raw bytes line by line
//! before hyper sees them, and [`request`] applies the same rules to HTTP/2. Stricter than the parser
//! behind it on purpose: a head that two parsers could read differently is rejected, so that it cannot
//! be used for request smuggling.

mod field;
mod host;
pub(super) mod request;
mod scan;
mod target;

pub(super) use scan::HeadScanner;

use crate::framing::ChunkedScanner;
use crate::listener::ProtocolError;
use crate::metrics::{ConnectionEndReason, MalformedReason, Shard};

/// Limits of a request head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeadLimits {
    /// Bytes, including the request line and the final empty line.
    pub size: usize,
    /// Number of fields.
    pub fields: usize,
}

/// How the body after a head is framed (RFC 9112, 6.3).
#[derive(Clone, Debug)]
pub(super) enum Framing {
    /// The next head follows.
    NoBody,
    /// A Content-Length, not zero.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked(ChunkedScanner),
}

/// Why a request head is rejected: for the client, and for the metrics.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct HeadError {
    /// For the client.
    pub(super) error: ProtocolError,
    /// For the metrics; `None` if the head was late rather than malformed.
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

    /// The head did not arrive in time.
    pub(super) const HEAD_TIMEOUT: Self = Self {
        error: ProtocolError::HeadTimeout,
        reason: None,
    };

    /// Counts the error.
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

/// Whether every byte is in one of the classes.
fn all_in_class(bytes: &[u8], classes: u8) -> bool {
    class_run(bytes, classes) == bytes.len()
}

/// Returns how many bytes at the beginning are in one of the classes.
fn class_run(bytes: &[u8], classes: u8) -> usize {
    bytes
        .iter()
        .position(|&byte| BYTE_CLASSES[usize::from(byte)] & classes == 0)
        .unwrap_or(bytes.len())
}

/// RFC 9110, 5.6.2: methods and field names.
const TOKEN: u8 = 1;
/// RFC 3986, 3.3: `pchar` and `/`, which excludes the backslash.
const PATH: u8 = 2;
/// RFC 3986, 3.4 allows `?`; clients in the wild leave the others unescaped in a query too.
const QUERY: u8 = 4;

/// The classes of each byte. A table, since every byte of every head is looked up.
static BYTE_CLASSES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        let classes = match byte {
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
        table[byte as usize] = classes;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests;
