//! The text of a spreadsheet, in the encodings that spreadsheets write.

use encoding_rs::{Encoding, GB18030, UTF_8, UTF_16BE, UTF_16LE};
use zeroize::Zeroizing;

use super::Note;

/// Decodes UTF-8, UTF-16 and GB 18030, which contains GBK; a byte-order mark is skipped.
///
/// # Errors
/// The bytes are in none of them.
pub(super) fn decode(bytes: &[u8]) -> Result<Zeroizing<String>, Note> {
    let (text, encoding, has_errors) = guess(bytes).decode(bytes);
    let text = Zeroizing::new(text.into_owned());
    let is_text = !text.contains('\0');
    if !has_errors && is_text {
        return Ok(text);
    }
    let bad = text.find(['\u{fffd}', '\0']).unwrap_or(0);
    Err(Note {
        line: 1 + text[..bad].matches('\n').count() as u64,
        column: 0,
        message: format!(
            "this is not a text in UTF-8, UTF-16 or GBK (read as {})",
            encoding.name()
        ),
        help: "save the spreadsheet as CSV, not as a workbook",
    })
}

fn guess(bytes: &[u8]) -> &'static Encoding {
    let start = &bytes[..bytes.len().min(64)];
    let has_zeros = |offset: usize| {
        start.len() >= 4
            && start
                .chunks_exact(2)
                .filter(|pair| pair[offset] == 0)
                .count()
                > start.len() / 4
    };
    if has_zeros(1) {
        UTF_16LE
    } else if has_zeros(0) {
        UTF_16BE
    } else if std::str::from_utf8(bytes).is_ok() {
        UTF_8
    } else {
        // A byte-order mark of UTF-16 takes precedence in `decode`.
        GB18030
    }
}
