//! The states of a chunked body (RFC 9112, section 7.1), byte for byte; the diagram is in the parent module.

use super::MAX_LENGTH;

/// The position between two bytes.
#[derive(Clone, Debug)]
pub(super) enum State {
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
pub(super) enum ExtensionState {
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

impl State {
    /// Whether the next byte is a part of an extension or of the trailers.
    pub(super) fn is_overhead(&self) -> bool {
        matches!(
            self,
            Self::Extension { .. }
                | Self::TrailerName { .. }
                | Self::TrailerValue
                | Self::TrailerStart
        )
    }

    /// Returns the state behind `byte`; `None` if the byte is invalid.
    pub(super) fn next(self, byte: u8, may_trail: fn(&[u8]) -> bool) -> Option<Self> {
        match self {
            Self::Size { digits, value } => next_in_size(digits, value, byte),
            Self::Extension { value, part } => next_in_extension(value, part, byte),
            Self::SizeEnd { value: 0 } => (byte == b'\n').then_some(Self::TrailerStart),
            Self::SizeEnd { value } => (byte == b'\n').then_some(Self::Data { left: value }),
            Self::Data { left } => Some(Self::Data { left }),
            Self::DataCr => (byte == b'\r').then_some(Self::DataLf),
            Self::DataLf => (byte == b'\n').then(Self::default),
            Self::TrailerStart if byte == b'\r' => Some(Self::EndLf),
            Self::TrailerStart => {
                next_in_trailer_name([0; TRAILER_NAME_CAPACITY], 0, byte, may_trail)
            }
            Self::TrailerName { name, length } => {
                next_in_trailer_name(name, length, byte, may_trail)
            }
            Self::TrailerValue => match byte {
                b'\r' => Some(Self::TrailerLf),
                b'\t' => Some(Self::TrailerValue),
                _ => (!byte.is_ascii_control()).then_some(Self::TrailerValue),
            },
            Self::TrailerLf | Self::EndLf => (byte == b'\n').then_some(Self::TrailerStart),
        }
    }
}

fn next_in_trailer_name(
    mut name: [u8; TRAILER_NAME_CAPACITY],
    length: usize,
    byte: u8,
    may_trail: fn(&[u8]) -> bool,
) -> Option<State> {
    if byte == b':' {
        // Of a name longer than the buffer only the length was counted: no such name is forbidden.
        let whole = name.get(..length).unwrap_or(&name);
        return (length > 0 && may_trail(whole)).then_some(State::TrailerValue);
    }
    if let Some(slot) = name.get_mut(length) {
        *slot = byte;
    }
    is_token_byte(byte).then_some(State::TrailerName {
        name,
        length: length + 1,
    })
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

/// RFC 9110, section 5.6.2: the characters of field names and of chunk extensions.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Longer than every field name that is not allowed in a trailer.
const TRAILER_NAME_CAPACITY: usize = 32;

/// Hexadecimal digits of a 64-bit chunk size.
const MAX_SIZE_DIGITS: u8 = 16;
