//! The scanner of chunked bodies: which bytes are data, and how much framing there may be.

use super::state::State;

/// The position in a chunked body.
#[derive(Clone, Debug)]
pub(crate) struct ChunkedScanner {
    state: State,
    /// Bytes of extensions and trailers that count toward [`MAX_OVERHEAD`].
    overhead: usize,
    /// Trailer fields so far, bounded by [`MAX_TRAILERS`].
    trailers: usize,
    limit: ExtensionLimit,
    /// Which field names the trailer section may have.
    may_trail: fn(&[u8]) -> bool,
}

/// What [`MAX_OVERHEAD`] bounds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ExtensionLimit {
    /// The extensions of the whole body. hyper, which decodes request bodies behind the scanner, has such
    /// a limit of 16 KiB.
    WholeBody,
    /// The extensions of one chunk, and what small chunks have too much together: a chunk of n bytes has
    /// 2n + 16 bytes free, as in Go (CVE-2023-39326), so that a body of any length passes while most of it
    /// is data.
    RelativeToData,
}

/// The first bytes of a part of a body, all of one kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Segment {
    /// The number of bytes; 0 only if the first one is invalid, or there are none.
    pub(crate) length: usize,
    /// What they are.
    pub(crate) kind: SegmentKind,
}

/// What some bytes of a chunked body are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SegmentKind {
    /// Sizes, extensions, line ends and trailers.
    Framing,
    /// Data of one chunk.
    Data,
    /// Framing up to the end of the body.
    End,
    /// Framing up to an invalid byte.
    Invalid,
}

/// The result of scanning some bytes of a body.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Step {
    /// Leading bytes that belong to the body.
    pub(crate) consumed: usize,
    /// The body is complete.
    pub(crate) is_complete: bool,
    /// The byte after them is invalid.
    pub(crate) is_invalid: bool,
}

impl ChunkedScanner {
    /// Starts at the beginning of a body. A trailer field is invalid unless `may_trail` accepts its
    /// name.
    pub(crate) fn new(limit: ExtensionLimit, may_trail: fn(&[u8]) -> bool) -> Self {
        Self {
            state: State::default(),
            overhead: 0,
            trailers: 0,
            limit,
            may_trail,
        }
    }

    /// Scans the next bytes of the body.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> Step {
        let mut consumed = 0;
        loop {
            let segment = self.next_segment(bytes.get(consumed..).unwrap_or_default());
            consumed += segment.length;
            let is_complete = segment.kind == SegmentKind::End;
            let is_invalid = segment.kind == SegmentKind::Invalid;
            if is_complete || is_invalid || consumed == bytes.len() {
                return Step {
                    consumed,
                    is_complete,
                    is_invalid,
                };
            }
        }
    }

    /// Returns the longest prefix of `bytes` that is of one kind, and moves behind it.
    pub(crate) fn next_segment(&mut self, bytes: &[u8]) -> Segment {
        if let State::Data { left } = &mut self.state {
            let length = bytes
                .len()
                .min(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= length as u64;
            if *left == 0 {
                self.state = State::DataCr;
            }
            let kind = SegmentKind::Data;
            return Segment { length, kind };
        }
        for (index, &byte) in bytes.iter().enumerate() {
            let ends = matches!(self.state, State::EndLf) && byte == b'\n';
            let Some(next) = self.next_state(byte) else {
                let kind = SegmentKind::Invalid;
                return Segment {
                    length: index,
                    kind,
                };
            };
            let is_data = matches!(next, State::Data { .. });
            self.state = next;
            if ends || is_data {
                return Segment {
                    length: index + 1,
                    kind: if ends {
                        SegmentKind::End
                    } else {
                        SegmentKind::Framing
                    },
                };
            }
        }
        Segment {
            length: bytes.len(),
            kind: SegmentKind::Framing,
        }
    }

    /// Returns the state behind `byte`; `None` if the byte is invalid, or one too many.
    fn next_state(&mut self, byte: u8) -> Option<State> {
        let state = std::mem::take(&mut self.state);
        if state.is_overhead() {
            self.overhead += 1;
            if self.overhead > MAX_OVERHEAD {
                return None;
            }
        }
        if matches!(state, State::TrailerStart) && byte != b'\r' {
            if self.trailers == MAX_TRAILERS {
                return None;
            }
            self.trailers += 1;
        }
        let next = state.next(byte, self.may_trail)?;
        if let (ExtensionLimit::RelativeToData, State::Data { left }) = (self.limit, &next) {
            let free = left.saturating_mul(2).saturating_add(FREE_OVERHEAD);
            let free = usize::try_from(free).unwrap_or(usize::MAX);
            self.overhead = self.overhead.saturating_sub(free);
        }
        Some(next)
    }
}

/// Trailer fields of one body, as hyper allows: it would end the body with an error that does not
/// distinguish an illegal body from a closed connection.
const MAX_TRAILERS: usize = 100;

/// Bytes of extensions and trailers. No known peer needs any (the attack is CVE-2023-39326).
const MAX_OVERHEAD: usize = 4096;

/// Bytes of extensions that every chunk may have, however small; as Go's `net/http`.
const FREE_OVERHEAD: u64 = 16;
