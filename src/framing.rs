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

/// The position in a chunked body.
#[derive(Clone, Debug)]
pub(crate) struct ChunkedScanner {
    state: State,
    /// Bytes of extensions and trailers so far, bounded by [`MAX_OVERHEAD`].
    overhead: usize,
    /// Trailer fields so far, bounded by [`MAX_TRAILERS`].
    trailers: usize,
    /// Which field names the trailer section may have.
    may_trail: fn(&[u8]) -> bool,
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

#[derive(Clone, Debug)]
enum State {
    Size {
        digits: u8,
        value: u64,
    },
    Extension {
        value: u64,
        part: ExtensionState,
    },
    SizeEnd {
        value: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName {
        name: [u8; TRAILER_NAME_CAPACITY],
        length: usize,
    },
    TrailerValue,
    TrailerLf,
    EndLf,
}

/// The position in a chunk extension (RFC 9112, 7.1.1):
/// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ExtensionState {
    /// After a complete part: whitespace, `;`, or the end of the line. `seen`: whether the chunk has an
    /// extension; whitespace alone is not one.
    After {
        may_assign: bool,
        seen: bool,
    },
    /// A name must follow.
    NameStart,
    Name,
    /// A value must follow.
    ValueStart,
    Value,
    Quoted,
    Escaped,
}

impl Default for State {
    fn default() -> Self {
        Self::Size {
            digits: 0,
            value: 0,
        }
    }
}

impl ChunkedScanner {
    /// Starts at the beginning of a body. A trailer field is invalid unless `may_trail` accepts its
    /// name.
    pub(crate) fn new(may_trail: fn(&[u8]) -> bool) -> Self {
        Self {
            state: State::default(),
            overhead: 0,
            trailers: 0,
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

    fn next_state(&mut self, byte: u8) -> Option<State> {
        let state = std::mem::take(&mut self.state);
        if matches!(
            state,
            State::Extension { .. }
                | State::TrailerName { .. }
                | State::TrailerValue
                | State::TrailerStart
        ) {
            self.overhead += 1;
            if self.overhead > MAX_OVERHEAD {
                return None;
            }
        }
        match state {
            State::Size { digits, value } => next_in_size(digits, value, byte),
            State::Extension { value, part } => next_in_extension(value, part, byte),
            State::SizeEnd { value: 0 } => (byte == b'\n').then_some(State::TrailerStart),
            State::SizeEnd { value } => (byte == b'\n').then_some(State::Data { left: value }),
            State::Data { left } => Some(State::Data { left }),
            State::DataCr => (byte == b'\r').then_some(State::DataLf),
            State::DataLf => (byte == b'\n').then(State::default),
            State::TrailerStart if byte == b'\r' => Some(State::EndLf),
            State::TrailerStart if self.trailers == MAX_TRAILERS => None,
            State::TrailerStart => {
                self.trailers += 1;
                self.next_in_trailer_name([0; TRAILER_NAME_CAPACITY], 0, byte)
            }
            State::TrailerName { name, length } => self.next_in_trailer_name(name, length, byte),
            State::TrailerValue => match byte {
                b'\r' => Some(State::TrailerLf),
                b'\t' => Some(State::TrailerValue),
                _ => (!byte.is_ascii_control()).then_some(State::TrailerValue),
            },
            State::TrailerLf | State::EndLf => (byte == b'\n').then_some(State::TrailerStart),
        }
    }

    fn next_in_trailer_name(
        &self,
        mut name: [u8; TRAILER_NAME_CAPACITY],
        length: usize,
        byte: u8,
    ) -> Option<State> {
        if byte == b':' {
            // Of a name longer than the buffer only the length was counted: no such name is forbidden.
            let whole = name.get(..length).unwrap_or(&name);
            return (length > 0 && (self.may_trail)(whole)).then_some(State::TrailerValue);
        }
        if let Some(slot) = name.get_mut(length) {
            *slot = byte;
        }
        is_token_byte(byte).then_some(State::TrailerName {
            name,
            length: length + 1,
        })
    }
}

fn next_in_size(digits: u8, value: u64, byte: u8) -> Option<State> {
    let part = ExtensionState::After {
        may_assign: false,
        seen: false,
    };
    match byte {
        _ if byte.is_ascii_hexdigit() => {
            let digit = char::from(byte).to_digit(16)?;
            let value = (value << 4) | u64::from(digit);
            (digits < MAX_SIZE_DIGITS && value <= MAX_LENGTH).then_some(State::Size {
                digits: digits + 1,
                value,
            })
        }
        _ if digits == 0 => None,
        b'\r' => Some(State::SizeEnd { value }),
        b';' => Some(State::Extension {
            value,
            part: ExtensionState::NameStart,
        }),
        b' ' | b'\t' => Some(State::Extension { value, part }),
        _ => None,
    }
}

fn next_in_extension(value: u64, part: ExtensionState, byte: u8) -> Option<State> {
    let after = |may_assign| ExtensionState::After {
        may_assign,
        seen: true,
    };
    let is_whitespace = matches!(byte, b' ' | b'\t');
    let next = match (part, byte) {
        (ExtensionState::Quoted, b'"') => after(false),
        (ExtensionState::Quoted, b'\\') => ExtensionState::Escaped,
        (ExtensionState::Quoted | ExtensionState::Escaped, _)
            if is_whitespace || !byte.is_ascii_control() =>
        {
            ExtensionState::Quoted
        }
        (ExtensionState::Quoted | ExtensionState::Escaped, _) => return None,
        (ExtensionState::Name | ExtensionState::Value, _) if is_token_byte(byte) => part,
        (
            ExtensionState::Name | ExtensionState::Value | ExtensionState::After { seen: true, .. },
            b'\r',
        ) => {
            return Some(State::SizeEnd { value });
        }
        (ExtensionState::Name | ExtensionState::Value | ExtensionState::After { .. }, b';') => {
            ExtensionState::NameStart
        }
        (
            ExtensionState::Name
            | ExtensionState::After {
                may_assign: true, ..
            },
            b'=',
        ) => ExtensionState::ValueStart,
        (ExtensionState::Name, _) if is_whitespace => after(true),
        (ExtensionState::Value, _) if is_whitespace => after(false),
        (
            ExtensionState::After { .. } | ExtensionState::NameStart | ExtensionState::ValueStart,
            _,
        ) if is_whitespace => part,
        (ExtensionState::NameStart, _) if is_token_byte(byte) => ExtensionState::Name,
        (ExtensionState::ValueStart, b'"') => ExtensionState::Quoted,
        (ExtensionState::ValueStart, _) if is_token_byte(byte) => ExtensionState::Value,
        _ => return None,
    };
    Some(State::Extension { value, part: next })
}

/// Returns the value of a Content-Length field. RFC 9110, section 8.6: decimal digits and nothing else.
/// A list such as `2, 2`, which a recipient may accept, is refused: for HTTP/2 clients it is a protocol
/// error.
pub(crate) fn content_length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits)?;
    text.parse().ok().filter(|&length| length <= MAX_LENGTH)
}

/// RFC 9110, section 5.6.2: the characters of field names and of chunk extensions.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The longest body, in bytes: far above any, far below where sums could overflow.
const MAX_LENGTH: u64 = 1 << 53;

/// Longer than every field name that is not allowed in a trailer.
const TRAILER_NAME_CAPACITY: usize = 32;

/// Hexadecimal digits of a 64-bit chunk size.
const MAX_SIZE_DIGITS: u8 = 16;

/// Trailer fields of one body, as hyper allows: it would end the body with an error that does not
/// distinguish an illegal body from a closed connection.
const MAX_TRAILERS: usize = 100;

/// Bytes of extensions and trailers of one body. No known client needs them, and hyper rejects 16 KiB
/// (the attack is CVE-2023-39326).
const MAX_OVERHEAD: usize = 4096;

#[cfg(test)]
mod tests;
