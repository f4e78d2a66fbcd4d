//! Huffman-encoded strings (RFC 7541, 5.2 and appendix B). Yields one value for each symbol: its byte if
//! its code is at most eight bits long, or if it is `#`; else 0, since the observer compares with no
//! other byte.

use super::Undecodable;

/// Decodes a string that may arrive in pieces.
#[derive(Debug, Default)]
pub(super) struct HuffmanDecoder {
    /// The last `available` bits are not decoded yet.
    bits: u64,
    available: u32,
}

impl HuffmanDecoder {
    /// Calls `visit` for each symbol that `octets` complete.
    pub(super) fn decode(
        &mut self,
        octets: &[u8],
        mut visit: impl FnMut(u8),
    ) -> Result<(), Undecodable> {
        for &octet in octets {
            self.bits = self.bits << 8 | u64::from(octet);
            self.available += 8;
            while self.available >= MIN_LENGTH {
                // The next bits on the left; missing ones are 0.
                let window = (self.bits << (u64::BITS - self.available) >> 32) as u32;
                let (length, symbol) = lookup(window)?;
                if length > self.available {
                    break;
                }
                self.available -= length;
                visit(symbol);
            }
        }
        Ok(())
    }

    /// Ends a string: what remains is padding, at most seven bits of the code of EOS.
    pub(super) fn end(&mut self) -> Result<(), Undecodable> {
        let padding = 1_u64 << self.available;
        let is_padding = self.available < 8 && self.bits & (padding - 1) == padding - 1;
        *self = Self::default();
        is_padding.then_some(()).ok_or(Undecodable)
    }
}

/// Returns length and symbol of the code at the left of `window`.
fn lookup(window: u32) -> Result<(u32, u8), Undecodable> {
    let [first, ..] = window.to_be_bytes();
    let (length, symbol) = SHORT_CODES[usize::from(first)];
    if length > 0 {
        return Ok((length.into(), symbol));
    }
    if window >> 2 == EOS {
        return Err(Undecodable);
    }
    // The codes of each length are consecutive, and greater than all shorter ones.
    let found = LONG_CODES.iter().find(|&&(_, end)| window < end);
    let length = found.map_or(MAX_LENGTH, |&(length, _)| length);
    let symbol = if window >> 20 == HASH { b'#' } else { 0 };
    Ok((length, symbol))
}

const MIN_LENGTH: u32 = 5;
const MAX_LENGTH: u32 = 30;

/// The code of EOS, 30 bits.
const EOS: u32 = 0x3fff_ffff;

/// The code of `#`, 12 bits; no code of another length begins with it.
const HASH: u32 = 0xffa;

/// The symbols whose codes have five to eight bits, in the order of their codes.
const SHORT_SYMBOLS: [(u8, &[u8]); 4] = [
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
];

/// Length and symbol of the code that a byte begins with; length 0 if the code is longer.
static SHORT_CODES: [(u8, u8); 256] = {
    let mut table = [(0, 0); 256];
    let mut next = 0;
    let mut group = 0;
    while group < SHORT_SYMBOLS.len() {
        let (length, symbols) = SHORT_SYMBOLS[group];
        let mut at = 0;
        while at < symbols.len() {
            let end = next + (1 << (8 - length));
            while next < end {
                table[next] = (length, symbols[at]);
                next += 1;
            }
            at += 1;
        }
        group += 1;
    }
    table
};

/// The lengths above eight bits with the number of their codes.
const LONG_LENGTHS: [(u32, u32); 17] = [
    (10, 5),
    (11, 3),
    (12, 2),
    (13, 6),
    (14, 2),
    (15, 3),
    (19, 3),
    (20, 8),
    (21, 13),
    (22, 26),
    (23, 29),
    (24, 12),
    (25, 4),
    (26, 15),
    (27, 19),
    (28, 29),
    (30, 4),
];

/// The lengths above eight bits with the end of their codes, on the left of 32 bits.
static LONG_CODES: [(u32, u32); 17] = {
    let mut table = [(0, 0); 17];
    // The first code behind those of eight bits.
    let mut end = 0xfe << 24;
    let mut at = 0;
    while at < table.len() {
        let (length, count) = LONG_LENGTHS[at];
        // That of the longest ones would be 1 << 32.
        end = end + (count << (32 - length)) as u64;
        table[at] = (
            length,
            if end > u32::MAX as u64 {
                u32::MAX
            } else {
                end as u32
            },
        );
        at += 1;
    }
    table
};
