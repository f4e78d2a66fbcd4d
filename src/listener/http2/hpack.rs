//! Observes HPACK (RFC 7541) below h2, which hides two facts of a header block: that `:path` had a
//! fragment, and that trailers held a pseudo-header field. Follows the dynamic table, but of each entry
//! keeps only its lengths and what its name is: at most 128 entries of 6 bytes. Literals that do not
//! enter the table are skipped unless they are a `:path`.
//!
//! Accepts all that h2 accepts, and reports the rest as [`Undecodable`], after which h2 and this
//! observer may disagree.

mod huffman;
mod table;

use self::huffman::HuffmanDecoder;
use self::table::{DynamicTable, NameKind};

/// What is known of the fields of one header block.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct FieldSection {
    /// A `:path` holds a `#`.
    pub(super) has_fragment: bool,
    /// There is a pseudo-header field (RFC 9113, 8.3).
    pub(super) has_pseudo_header: bool,
}

/// The bytes are no header block (RFC 7541, 5 and 6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Undecodable;

/// Observes the header blocks of one connection, in their order.
#[derive(Debug, Default)]
pub(super) struct HpackObserver {
    step: Step,
    literal: Literal,
    huffman: HuffmanDecoder,
    table: DynamicTable,
    section: FieldSection,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, Default)]
enum Step {
    /// The first byte of a representation (RFC 7541, 6).
    #[default]
    Representation,
    /// A further byte of an integer (RFC 7541, 5.1).
    Integer {
        purpose: Purpose,
        value: u32,
        shift: u8,
    },
    /// The first byte of a string (RFC 7541, 5.2).
    String(Part),
    /// The octets of a string.
    Octets {
        part: Part,
        is_huffman: bool,
        remaining: usize,
    },
}

/// What an integer is used for.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    /// The index of a field.
    Field,
    /// The index of a literal's name; 0 if the name is a string.
    Name,
    TableSize,
    StringLength {
        part: Part,
        is_huffman: bool,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Part {
    Name,
    Value,
}

/// The literal that is being read.
#[derive(Debug, Default)]
struct Literal {
    /// It enters the dynamic table.
    is_indexed: bool,
    name: NameKind,
    name_length: usize,
    value_length: usize,
    has_fragment: bool,
    /// The first bytes of the name that equal those of `:path`.
    path_prefix: usize,
    is_pseudo_header: bool,
}

impl HpackObserver {
    /// Observes the next bytes of a header block.
    pub(super) fn advance(&mut self, mut bytes: &[u8]) -> Result<(), Undecodable> {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.step {
                Step::Representation => {
                    bytes = rest;
                    self.begin_representation(byte)?;
                }
                Step::Integer {
                    purpose,
                    value,
                    shift,
                } => {
                    bytes = rest;
                    self.continue_integer(byte, purpose, value, shift)?;
                }
                Step::String(part) => {
                    bytes = rest;
                    let is_huffman = byte & HUFFMAN != 0;
                    self.begin_integer(byte, 7, Purpose::StringLength { part, is_huffman })?;
                }
                Step::Octets {
                    part,
                    is_huffman,
                    remaining,
                } => {
                    let (octets, rest) = bytes.split_at(remaining.min(bytes.len()));
                    bytes = rest;
                    self.read_octets(part, is_huffman, octets)?;
                    let remaining = remaining - octets.len();
                    if remaining == 0 {
                        self.end_string(part)?;
                    } else {
                        self.step = Step::Octets {
                            part,
                            is_huffman,
                            remaining,
                        };
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends a header block.
    pub(super) fn end_block(&mut self) -> Result<FieldSection, Undecodable> {
        if !matches!(self.step, Step::Representation) {
            return Err(Undecodable);
        }
        Ok(std::mem::take(&mut self.section))
    }

    fn begin_representation(&mut self, byte: u8) -> Result<(), Undecodable> {
        match byte.leading_zeros() {
            0 => self.begin_integer(byte, 7, Purpose::Field),
            1 => {
                self.literal.is_indexed = true;
                self.begin_integer(byte, 6, Purpose::Name)
            }
            2 => self.begin_integer(byte, 5, Purpose::TableSize),
            // Without indexing, and never indexed.
            _ => {
                self.literal.is_indexed = false;
                self.begin_integer(byte, 4, Purpose::Name)
            }
        }
    }

    fn begin_integer(
        &mut self,
        byte: u8,
        prefix: u32,
        purpose: Purpose,
    ) -> Result<(), Undecodable> {
        let mask = u8::MAX >> (8 - prefix);
        let value = u32::from(byte & mask);
        if byte & mask == mask {
            self.step = Step::Integer {
                purpose,
                value,
                shift: 0,
            };
            return Ok(());
        }
        self.end_integer(purpose, value as usize)
    }

    fn continue_integer(
        &mut self,
        byte: u8,
        purpose: Purpose,
        value: u32,
        shift: u8,
    ) -> Result<(), Undecodable> {
        let value = value + (u32::from(byte & 0x7f) << shift);
        if byte & 0x80 == 0 {
            return self.end_integer(purpose, value as usize);
        }
        let shift = shift + 7;
        if shift > MAX_SHIFT {
            return Err(Undecodable);
        }
        self.step = Step::Integer {
            purpose,
            value,
            shift,
        };
        Ok(())
    }

    fn end_integer(&mut self, purpose: Purpose, value: usize) -> Result<(), Undecodable> {
        match purpose {
            Purpose::Field => {
                let entry = self.table.get(value).ok_or(Undecodable)?;
                self.observe_field(entry.name, entry.has_fragment);
                self.step = Step::Representation;
            }
            Purpose::Name if value == 0 => {
                self.literal = Literal {
                    is_indexed: self.literal.is_indexed,
                    ..Literal::default()
                };
                self.step = Step::String(Part::Name);
            }
            Purpose::Name => {
                let entry = self.table.get(value).ok_or(Undecodable)?;
                self.literal = Literal {
                    is_indexed: self.literal.is_indexed,
                    name: entry.name,
                    name_length: entry.name_length.into(),
                    ..Literal::default()
                };
                self.step = Step::String(Part::Value);
            }
            Purpose::TableSize => {
                self.table.resize(value).ok_or(Undecodable)?;
                self.step = Step::Representation;
            }
            Purpose::StringLength { part, .. } if value == 0 => self.end_string(part)?,
            Purpose::StringLength { part, is_huffman } => {
                self.step = Step::Octets {
                    part,
                    is_huffman,
                    remaining: value,
                };
            }
        }
        Ok(())
    }

    fn read_octets(
        &mut self,
        part: Part,
        is_huffman: bool,
        octets: &[u8],
    ) -> Result<(), Undecodable> {
        let literal = &mut self.literal;
        match (part, is_huffman) {
            (Part::Name, false) => octets.iter().for_each(|&byte| literal.push_name(byte)),
            (Part::Name, true) => self
                .huffman
                .decode(octets, |symbol| literal.push_name(symbol))?,
            (Part::Value, _) if !literal.is_indexed && literal.name != NameKind::Path => {}
            (Part::Value, false) => {
                literal.value_length += octets.len();
                literal.has_fragment |= octets.contains(&b'#');
            }
            (Part::Value, true) => self.huffman.decode(octets, |symbol| {
                literal.value_length += 1;
                literal.has_fragment |= symbol == b'#';
            })?,
        }
        Ok(())
    }

    fn end_string(&mut self, part: Part) -> Result<(), Undecodable> {
        self.huffman.end()?;
        if part == Part::Name {
            self.literal.end_name()?;
            self.step = Step::String(Part::Value);
            return Ok(());
        }
        let literal = &self.literal;
        let (name, has_fragment) = (literal.name, literal.has_fragment);
        if literal.is_indexed {
            let lengths = (literal.name_length, literal.value_length);
            self.table.insert(lengths, name, has_fragment);
        }
        self.observe_field(name, has_fragment);
        self.step = Step::Representation;
        Ok(())
    }

    fn observe_field(&mut self, name: NameKind, has_fragment: bool) {
        self.section.has_fragment |= has_fragment && name == NameKind::Path;
        self.section.has_pseudo_header |= name != NameKind::Regular;
    }
}

impl Literal {
    fn push_name(&mut self, byte: u8) {
        if self.name_length == 0 {
            self.is_pseudo_header = byte == b':';
        }
        if self.path_prefix == self.name_length && PATH.get(self.path_prefix) == Some(&byte) {
            self.path_prefix += 1;
        }
        self.name_length += 1;
    }

    /// An empty name is an error for h2 too.
    fn end_name(&mut self) -> Result<(), Undecodable> {
        self.name = match self.name_length {
            0 => return Err(Undecodable),
            length if length == PATH.len() && self.path_prefix == length => NameKind::Path,
            _ if self.is_pseudo_header => NameKind::PseudoHeader,
            _ => NameKind::Regular,
        };
        Ok(())
    }
}

const PATH: &[u8] = b":path";

/// RFC 7541, 5.2: the string is encoded.
const HUFFMAN: u8 = 0x80;

/// h2 accepts integers of up to five bytes.
const MAX_SHIFT: u8 = 21;

#[cfg(test)]
mod tests;
