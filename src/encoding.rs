//! Text encodings of the files that people write: UTF-8, with or without a byte-order mark.

use std::fmt;
use std::io;
use std::path::Path;

/// The byte-order mark that editors of Windows put before UTF-8.
pub(crate) const BOM: &[u8] = "\u{feff}".as_bytes();

/// Text that is not UTF-8.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct NotUtf8 {
    /// The line of the first byte that is not UTF-8, from 1.
    line: usize,
    /// Its column in bytes, from 1; `None` where the whole text has another encoding.
    column: Option<usize>,
    encoding: Option<&'static str>,
}

impl fmt::Display for NotUtf8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} is not UTF-8", self.line)?;
        if let Some(encoding) = self.encoding {
            write!(f, ", but {encoding}")?;
        }
        match self.column {
            Some(column) => write!(f, " (from column {column})"),
            None => Ok(()),
        }
    }
}

/// Decodes UTF-8 and skips a byte-order mark.
///
/// # Errors
/// The bytes are not UTF-8; UTF-16 and GBK, which editors of Windows write, are named.
pub(crate) fn decode(bytes: &[u8]) -> Result<&str, NotUtf8> {
    if is_utf16(bytes) {
        return Err(NotUtf8 {
            line: 1,
            column: None,
            encoding: Some("UTF-16"),
        });
    }
    let bytes = without_bom(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let valid = &bytes[..error.valid_up_to()];
        let start = valid.iter().rposition(|byte| *byte == b'\n');
        NotUtf8 {
            line: 1 + valid.iter().filter(|byte| **byte == b'\n').count(),
            column: Some(valid.len() - start.map_or(0, |at| at + 1) + 1),
            encoding: is_gbk(bytes).then_some("GBK"),
        }
    })
}

/// Returns the bytes after a byte-order mark of UTF-8.
pub(crate) fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BOM).unwrap_or(bytes)
}

/// Reads a text file that the command line names, such as a PEM file, without a byte-order mark.
///
/// # Errors
/// The file cannot be read, or is UTF-16.
pub(crate) fn read_text_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = std::fs::read(path)?;
    if is_utf16(&bytes) {
        let message = "line 1 is not UTF-8, but UTF-16";
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    if bytes.starts_with(BOM) {
        bytes.drain(..BOM.len());
    }
    Ok(bytes)
}

/// Whether a text is UTF-16: it begins with a byte-order mark, or every second byte of its first
/// characters is zero.
pub(crate) fn is_utf16(bytes: &[u8]) -> bool {
    let start = &bytes[..bytes.len().min(64)];
    let has_zeros = |offset: usize| {
        start.len() >= 4
            && start
                .chunks_exact(2)
                .all(|pair| pair[offset] == 0 && pair[1 - offset] != 0)
    };
    start.starts_with(&[0xff, 0xfe])
        || start.starts_with(&[0xfe, 0xff])
        || has_zeros(0)
        || has_zeros(1)
}

/// Whether all bytes above ASCII form characters of GB 18030, which contains GBK.
fn is_gbk(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    loop {
        rest = match rest {
            [] => return true,
            [0..=0x7f, rest @ ..]
            | [0x81..=0xfe, 0x40..=0x7e | 0x80..=0xfe, rest @ ..]
            | [
                0x81..=0xfe,
                b'0'..=b'9',
                0x81..=0xfe,
                b'0'..=b'9',
                rest @ ..,
            ] => rest,
            _ => return false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf8_is_decoded_with_and_without_a_mark() {
        assert_eq!(decode("a é 语".as_bytes()), Ok("a é 语"));
        assert_eq!(decode("\u{feff}a".as_bytes()), Ok("a"));
        assert_eq!(decode(b""), Ok(""));
        assert_eq!(decode(BOM), Ok(""));
    }

    #[test]
    fn other_encodings_are_named_with_the_line() {
        let utf16 = |mark: &[u8], order: fn(u16) -> [u8; 2]| {
            let text = "a = 1\nb = 2\n".encode_utf16().flat_map(order);
            mark.iter().copied().chain(text).collect::<Vec<u8>>()
        };
        for (bytes, message) in [
            (
                utf16(b"\xff\xfe", u16::to_le_bytes),
                "line 1 is not UTF-8, but UTF-16",
            ),
            (
                utf16(b"\xfe\xff", u16::to_be_bytes),
                "line 1 is not UTF-8, but UTF-16",
            ),
            (
                utf16(b"", u16::to_le_bytes),
                "line 1 is not UTF-8, but UTF-16",
            ),
            (
                utf16(b"", u16::to_be_bytes),
                "line 1 is not UTF-8, but UTF-16",
            ),
            // "# 坐席" in GBK.
            (
                b"a = 1\n# \xd7\xf8\xcf\xaf\n".to_vec(),
                "line 2 is not UTF-8, but GBK (from column 3)",
            ),
            (
                b"a\nb\n\xff".to_vec(),
                "line 3 is not UTF-8 (from column 1)",
            ),
        ] {
            assert_eq!(decode(&bytes).unwrap_err().to_string(), message);
        }
    }
}
