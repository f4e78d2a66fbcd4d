//! Percent encoding by the rules of auth-v2: letters, digits and `-._~` stay, every other byte becomes `%XX`
//! in upper case.

/// Collects text in a small fixed buffer and passes it on when that is full: an HMAC is faster with few large
/// pieces, and a body of any size needs no copy of its encoded form.
pub(super) struct ChunkWriter<F: FnMut(&[u8])> {
    buffer: [u8; CHUNK_SIZE],
    filled: usize,
    sink: F,
}

impl<F: FnMut(&[u8])> ChunkWriter<F> {
    pub(super) fn new(sink: F) -> Self {
        Self {
            buffer: [0; CHUNK_SIZE],
            filled: 0,
            sink,
        }
    }

    /// Writes `bytes` unchanged.
    pub(super) fn write_raw(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(CHUNK_SIZE) {
            self.make_room(piece.len());
            self.buffer[self.filled..self.filled + piece.len()].copy_from_slice(piece);
            self.filled += piece.len();
        }
    }

    /// Writes `bytes` percent-encoded.
    pub(super) fn write_encoded(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(CHUNK_SIZE / ENTRY_SIZE) {
            self.make_room(piece.len() * ENTRY_SIZE);
            let mut filled = self.filled;
            for &byte in piece {
                let entry = &ENCODED[usize::from(byte)];
                // Always copies the whole entry, and the next one overwrites the excess: no branch depends
                // on which bytes of a body are letters.
                self.buffer[filled..filled + ENTRY_SIZE].copy_from_slice(entry);
                filled += usize::from(entry[ENTRY_SIZE - 1]);
            }
            self.filled = filled;
        }
    }

    /// Passes the remainder on.
    pub(super) fn finish(mut self) {
        (self.sink)(&self.buffer[..self.filled]);
    }

    fn make_room(&mut self, length: usize) {
        if self.filled + length > CHUNK_SIZE {
            (self.sink)(&self.buffer[..self.filled]);
            self.filled = 0;
        }
    }
}

/// Returns the encoded form of `bytes`.
pub(super) fn encode(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.iter().flat_map(|&byte| {
        let entry = &ENCODED[usize::from(byte)];
        entry
            .iter()
            .copied()
            .take(usize::from(entry[ENTRY_SIZE - 1]))
    })
}

/// Returns the first byte of the encoded form of `byte`: itself or `%`.
pub(super) fn first_encoded_byte(byte: u8) -> u8 {
    ENCODED[usize::from(byte)][0]
}

/// Decodes `text`; `None` if a `%` is not followed by two hex digits. The `percent-encoding` crate passes
/// broken escapes through instead.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    Some(decoded)
}

/// Fits the canonical form of a typical recording request.
const CHUNK_SIZE: usize = 1024;

/// Three bytes of text, then how many of them are used.
const ENTRY_SIZE: usize = 4;

static ENCODED: [[u8; ENTRY_SIZE]; 256] = encoded_table();

const fn encoded_table() -> [[u8; ENTRY_SIZE]; 256] {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut table = [[0; ENTRY_SIZE]; 256];
    let mut index = 0;
    while index < 256 {
        let byte = index as u8;
        table[index] = match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => [byte, 0, 0, 1],
            _ => [b'%', HEX[index >> 4], HEX[index & 15], 3],
        };
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_stays_or_becomes_upper_case_hex() {
        for byte in 0..=u8::MAX {
            let stays = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            let expected = if stays {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            };
            let text: String = encode(&[byte]).map(char::from).collect();
            assert_eq!(text, expected);
            assert_eq!(first_encoded_byte(byte), expected.as_bytes()[0]);
            assert_eq!(decode(&text).unwrap(), [byte]);
        }
    }

    #[test]
    fn the_writer_passes_everything_on_in_order_at_any_fill() {
        let raw: Vec<u8> = (0..=u8::MAX).cycle().take(3 * CHUNK_SIZE).collect();
        for length in (0..raw.len())
            .step_by(7)
            .chain(CHUNK_SIZE - 300..CHUNK_SIZE + 300)
        {
            let mut written = Vec::new();
            let mut chunks = ChunkWriter::new(|chunk: &[u8]| written.extend_from_slice(chunk));
            chunks.write_raw(&raw[..length]);
            chunks.write_encoded(&raw[..length / 2]);
            chunks.write_raw(b"\n");
            chunks.write_encoded(&raw[length..]);
            chunks.finish();

            let mut expected = raw[..length].to_vec();
            expected.extend(encode(&raw[..length / 2]));
            expected.push(b'\n');
            expected.extend(encode(&raw[length..]));
            assert_eq!(written, expected, "{length}");
        }
    }
}
