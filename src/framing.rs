//! Message framing of HTTP/1.1 (RFC 9112, sections 6 and 7): Content-Length, and chunked coding with
//! strict line ends, bounded sizes, extensions and trailers. The scanner reports which bytes are data
//! and which are framing, and copies nothing. Used for request bodies, which hyper decodes behind it, and
//! for response bodies of nodes. No dependencies inside the crate.
//!
//! ```text
//!   Size ──CR──> SizeEnd ──LF──> Data ──> DataCr ──> DataLf ──> Size
//!    │  ^                  │
//!    v  │ (";", 7.1.1)     └─ size 0 ──> TrailerStart ──CR──> EndLf ──> complete
//!   Extension                              │       ^
//!                                          v       │ (7.1.2)
//!                                 TrailerName ─> TrailerValue ─> TrailerLf
//! ```

mod scanner;
mod state;

pub(crate) use scanner::{ChunkedScanner, ExtensionLimit, SegmentKind};

/// Returns the value of a Content-Length field. RFC 9110, section 8.6: decimal digits and nothing else.
/// A list such as `2, 2`, which a recipient may accept, is refused: for HTTP/2 clients it is a protocol
/// error.
pub(crate) fn content_length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits)?;
    text.parse().ok().filter(|&length| length <= MAX_LENGTH)
}

/// The longest body, in bytes: far above any, far below where sums could overflow.
const MAX_LENGTH: u64 = 1 << 53;

#[cfg(test)]
mod tests;
