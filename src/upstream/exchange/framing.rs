//! How long a response body is (RFC 9112, section 6.3), and its data without the framing.

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode, Version};

use crate::framing::{ChunkedScanner, ExtensionLimit, SegmentKind, content_length};

/// What remains of a response body.
#[derive(Clone, Debug)]
pub(super) enum Framing {
    /// This many bytes; 0 is the end of the body.
    Length(u64),
    /// Chunked coding.
    Chunked(ChunkedScanner),
    /// All until the node closes the connection.
    UntilClose,
}

/// The next part of a body.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Decoded {
    /// Data without framing, never empty.
    Data(Bytes),
    /// The body is complete.
    End,
    /// More bytes are needed.
    Incomplete,
}

impl Framing {
    /// The framing of a final response, or why it is refused. `to_head`: the request was a HEAD.
    ///
    /// Stricter than RFC 9112 requires of a recipient, because every laxity here is a response that
    /// two parsers read in two ways: one Content-Length of digits, or one Transfer-Encoding of
    /// `chunked` in HTTP/1.1, never both.
    pub(super) fn of(
        status: StatusCode,
        version: Version,
        headers: &HeaderMap,
        to_head: bool,
    ) -> Result<Self, &'static str> {
        let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
        let length = lengths.next().map(|value| content_length(value.as_bytes()));
        if length == Some(None) || lengths.next().is_some() {
            return Err("Content-Length is not one decimal number");
        }
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        let coding = codings.next();
        if let Some(coding) = coding {
            let chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
            if !chunked || codings.next().is_some() || version != Version::HTTP_11 {
                return Err("Transfer-Encoding is not one chunked, or not in HTTP/1.1");
            }
            if length.is_some() {
                return Err("Content-Length and Transfer-Encoding are both there");
            }
        }
        let no_body = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        Ok(match (coding, length.flatten()) {
            _ if to_head || no_body => Self::Length(0),
            (Some(_), _) => {
                let limit = ExtensionLimit::RelativeToData;
                Self::Chunked(ChunkedScanner::new(limit, any_trailer))
            }
            (None, Some(length)) => Self::Length(length),
            (None, None) => Self::UntilClose,
        })
    }

    /// Whether the body is complete.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self, Self::Length(0))
    }

    /// The bytes that are still to come, where that is known.
    pub(super) fn remaining(&self) -> Option<u64> {
        match self {
            Self::Length(remaining) => Some(*remaining),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Takes the next data out of `buffer`; an error is a violation of the chunked coding.
    pub(super) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, &'static str> {
        match self {
            Self::Length(0) => Ok(Decoded::End),
            _ if buffer.is_empty() => Ok(Decoded::Incomplete),
            Self::Length(remaining) => {
                let here = usize::try_from(*remaining).unwrap_or(usize::MAX);
                let data = buffer.split_to(here.min(buffer.len())).freeze();
                *remaining -= data.len() as u64;
                Ok(Decoded::Data(data))
            }
            Self::UntilClose => Ok(Decoded::Data(buffer.split().freeze())),
            Self::Chunked(chunked) => {
                while !buffer.is_empty() {
                    let segment = chunked.next_segment(buffer);
                    let bytes = buffer.split_to(segment.length);
                    match segment.kind {
                        SegmentKind::Data => return Ok(Decoded::Data(bytes.freeze())),
                        SegmentKind::Framing => {}
                        SegmentKind::End => {
                            *self = Self::Length(0);
                            return Ok(Decoded::End);
                        }
                        SegmentKind::Invalid => return Err("the chunked coding is invalid"),
                    }
                }
                Ok(Decoded::Incomplete)
            }
        }
    }

    /// The node has closed the connection in order: whether that is the end of the body.
    pub(super) fn end_at_close(&mut self) -> bool {
        if matches!(self, Self::UntilClose) {
            *self = Self::Length(0);
        }
        self.is_complete()
    }
}

/// Trailers end at this hop, so no field name in them can do harm.
fn any_trailer(_name: &[u8]) -> bool {
    true
}
