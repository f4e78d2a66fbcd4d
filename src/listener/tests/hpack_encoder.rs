//! An HPACK encoder (RFC 7541) that takes any representation that it is told to.

use std::collections::VecDeque;

/// How a field is represented (RFC 7541, 6). The name is indexed wherever a table has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::listener) enum Representation {
    /// Indexed if the whole field is in a table, else as `Incremental`.
    Indexed,
    /// A literal that enters the dynamic table.
    Incremental,
    Without,
    Never,
}

/// How the strings of a literal are represented.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::listener) struct Strings {
    pub(in crate::listener) is_huffman: bool,
    /// The name is a string although a table has it.
    pub(in crate::listener) spells_name: bool,
}

/// An encoder with its own dynamic table.
#[derive(Debug)]
pub(in crate::listener) struct Encoder {
    /// Code and length of each byte.
    huffman: Vec<(u32, u32)>,
    entries: VecDeque<(Vec<u8>, Vec<u8>)>,
    max_size: usize,
}

impl Encoder {
    pub(in crate::listener) fn new() -> Self {
        let table = include_str!("../../../tests/vectors/hpack-huffman.txt");
        let lines = table.lines().filter(|line| !line.starts_with('#'));
        let code = |line: &str| {
            let columns: Vec<_> = line.split(' ').collect();
            (
                u32::from_str_radix(columns[1], 16).unwrap(),
                columns[2].parse().unwrap(),
            )
        };
        Self {
            huffman: lines.map(code).collect(),
            entries: VecDeque::new(),
            max_size: 4096,
        }
    }

    /// Returns the representation of one field.
    pub(in crate::listener) fn field(
        &mut self,
        name: &[u8],
        value: &[u8],
        representation: Representation,
        strings: Strings,
    ) -> Vec<u8> {
        let index = self.index_of(|(known, its)| *known == name && *its == value);
        if let (Representation::Indexed, Some(index)) = (representation, index) {
            return integer(0x80, 7, index);
        }
        let (pattern, prefix) = match representation {
            Representation::Indexed | Representation::Incremental => (0x40, 6),
            Representation::Without => (0, 4),
            Representation::Never => (0x10, 4),
        };
        let name_index = self.index_of(|(known, _)| *known == name);
        let mut bytes = match name_index.filter(|_| !strings.spells_name) {
            Some(index) => integer(pattern, prefix, index),
            None => [vec![pattern], self.string(name, strings)].concat(),
        };
        bytes.extend(self.string(value, strings));
        if pattern == 0x40 {
            self.entries.push_front((name.to_vec(), value.to_vec()));
            self.evict();
        }
        bytes
    }

    /// Returns a change of the table's size.
    pub(in crate::listener) fn resize(&mut self, max_size: usize) -> Vec<u8> {
        self.max_size = max_size;
        self.evict();
        integer(0x20, 5, max_size)
    }

    pub(in crate::listener) fn size(&self) -> usize {
        let sizes = self
            .entries
            .iter()
            .map(|(name, value)| name.len() + value.len() + 32);
        sizes.sum()
    }

    fn evict(&mut self) {
        while self.size() > self.max_size {
            self.entries.pop_back();
        }
    }

    fn index_of(&self, is_it: impl Fn(&(&[u8], &[u8])) -> bool) -> Option<usize> {
        let own = self
            .entries
            .iter()
            .map(|(name, value)| (&name[..], &value[..]));
        let fixed = STATIC
            .iter()
            .copied()
            .chain(std::iter::repeat_n((&b""[..], &b""[..]), 61 - STATIC.len()));
        fixed
            .chain(own)
            .position(|entry| is_it(&entry))
            .map(|at| at + 1)
    }

    fn string(&self, text: &[u8], strings: Strings) -> Vec<u8> {
        if !strings.is_huffman {
            return [integer(0, 7, text.len()), text.to_vec()].concat();
        }
        let mut encoded = Vec::new();
        let (mut bits, mut length) = (0_u64, 0);
        for &byte in text {
            let (code, code_length) = self.huffman[usize::from(byte)];
            bits = bits << code_length | u64::from(code);
            length += code_length;
            while length >= 8 {
                length -= 8;
                encoded.push((bits >> length & 0xff) as u8);
            }
        }
        if length > 0 {
            // Padded with ones.
            encoded.push(((bits << (8 - length) | 0xff >> length) & 0xff) as u8);
        }
        [integer(0x80, 7, encoded.len()), encoded].concat()
    }
}

/// The first entries of the static table (RFC 7541, appendix A).
const STATIC: [(&[u8], &[u8]); 7] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
];

/// RFC 7541, 5.1.
fn integer(pattern: u8, prefix: u32, value: usize) -> Vec<u8> {
    let mask = (1 << prefix) - 1;
    if value < mask {
        return vec![pattern | value as u8];
    }
    let mut bytes = vec![pattern | mask as u8];
    let mut rest = value - mask;
    while rest >= 128 {
        bytes.push((rest % 128) as u8 | 0x80);
        rest /= 128;
    }
    bytes.push(rest as u8);
    bytes
}
