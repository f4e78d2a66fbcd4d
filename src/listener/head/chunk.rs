//! Chunked bodies, RFC 9112, 7.1: strict line ends, bounded sizes, extensions and trailers. It only
//! follows the framing, so that the gateway knows where the next head begins; hyper decodes.

use super::{HeadError, field, is_token_byte};
use crate::http_fields::is_allowed_in_trailers;
use crate::metrics::MalformedReason;

/// Where in a chunked body the connection is.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChunkedScanner {
    state: State,
    /// Bytes of extensions and trailers so far.
    overhead: usize,
}

/// What became of some bytes of a body.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Step {
    /// Bytes that belong to the body.
    pub(crate) consumed: usize,
    /// The body is over.
    pub(crate) is_complete: bool,
    /// The byte after them is wrong.
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

/// Of a chunk extension, `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted ) ] )`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ExtensionState {
    /// After something whole: blanks, `;`, or the line's end.
    After {
        may_assign: bool,
        seen: bool,
    },
    /// A name must come.
    NameStart,
    Name,
    /// A value must come.
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
    /// Follows the body through `bytes`.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> Step {
        let mut used = 0;
        while let Some(&byte) = bytes.get(used) {
            if let State::Data { left } = &mut self.state {
                let here = (bytes.len() - used).min(usize::try_from(*left).unwrap_or(usize::MAX));
                used += here;
                *left -= here as u64;
                if *left == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            let done = matches!(self.state, State::EndLf) && byte == b'\n';
            match self.next_state(byte) {
                Some(next) => self.state = next,
                None => {
                    return Step {
                        consumed: used,
                        is_complete: false,
                        is_invalid: true,
                    };
                }
            }
            used += 1;
            if done {
                return Step {
                    consumed: used,
                    is_complete: done,
                    is_invalid: false,
                };
            }
        }
        Step {
            consumed: used,
            is_complete: false,
            is_invalid: false,
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
            State::TrailerStart => next_in_trailer_name([0; TRAILER_NAME_CAPACITY], 0, byte),
            State::TrailerName { name, length } => next_in_trailer_name(name, length, byte),
            State::TrailerValue => match byte {
                b'\r' => Some(State::TrailerLf),
                b'\t' => Some(State::TrailerValue),
                _ => (!byte.is_ascii_control()).then_some(State::TrailerValue),
            },
            State::TrailerLf | State::EndLf => (byte == b'\n').then_some(State::TrailerStart),
        }
    }
}

/// What a broken body is refused with.
pub(crate) const BROKEN: HeadError = HeadError::new(
    MalformedReason::Body,
    "the request body is not legal chunked coding",
);

fn next_in_size(digits: u8, value: u64, byte: u8) -> Option<State> {
    let part = ExtensionState::After {
        may_assign: false,
        seen: false,
    };
    match byte {
        _ if byte.is_ascii_hexdigit() => {
            let digit = char::from(byte).to_digit(16)?;
            let value = (value << 4) | u64::from(digit);
            (digits < MAX_SIZE_DIGITS && value <= field::MAX_CONTENT_LENGTH).then_some(
                State::Size {
                    digits: digits + 1,
                    value,
                },
            )
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
    let blank = matches!(byte, b' ' | b'\t');
    let next = match (part, byte) {
        (ExtensionState::Quoted, b'"') => after(false),
        (ExtensionState::Quoted, b'\\') => ExtensionState::Escaped,
        (ExtensionState::Quoted | ExtensionState::Escaped, _)
            if blank || !byte.is_ascii_control() =>
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
        (ExtensionState::Name, _) if blank => after(true),
        (ExtensionState::Value, _) if blank => after(false),
        (
            ExtensionState::After { .. } | ExtensionState::NameStart | ExtensionState::ValueStart,
            _,
        ) if blank => part,
        (ExtensionState::NameStart, _) if is_token_byte(byte) => ExtensionState::Name,
        (ExtensionState::ValueStart, b'"') => ExtensionState::Quoted,
        (ExtensionState::ValueStart, _) if is_token_byte(byte) => ExtensionState::Value,
        _ => return None,
    };
    Some(State::Extension { value, part: next })
}

fn next_in_trailer_name(
    mut name: [u8; TRAILER_NAME_CAPACITY],
    length: usize,
    byte: u8,
) -> Option<State> {
    if byte == b':' {
        // A longer name than any that matters was only counted.
        let whole = name.get(..length).unwrap_or(&name);
        return (length > 0 && is_allowed_in_trailers(whole)).then_some(State::TrailerValue);
    }
    if let Some(slot) = name.get_mut(length) {
        *slot = byte;
    }
    is_token_byte(byte).then_some(State::TrailerName {
        name,
        length: length + 1,
    })
}

/// Longer than every field name that may not trail.
const TRAILER_NAME_CAPACITY: usize = 32;

/// Sixteen hexadecimal digits fill 64 bits.
const MAX_SIZE_DIGITS: u8 = 16;

/// Extensions and trailers of one body; nobody needs them, and hyper gives up at 16 KiB.
const MAX_OVERHEAD: usize = 4096;

#[cfg(test)]
mod tests;
