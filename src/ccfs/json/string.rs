//! String literals: writing with the fewest escapes, and a fast search for their end.

/// Writes a JSON string literal, with escapes only where JSON requires them.
pub(in crate::ccfs) fn write_string(out: &mut String, text: &str) {
    out.push('"');
    text.chars()
        .for_each(|character| write_char(out, character));
    out.push('"');
}

pub(super) fn write_char(out: &mut String, character: char) {
    match character {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\0'..' ' => {
            let code = u32::from(character);
            let digit = |value: u32| char::from_digit(value, 16).unwrap_or_default();
            out.push_str("\\u00");
            out.push(digit(code >> 4));
            out.push(digit(code & 15));
        }
        _ => out.push(character),
    }
}

/// Returns the number of bytes before the first quotation mark, backslash or control character. Eight bytes
/// at a time: an upload is one string of megabytes.
pub(super) fn plain_run(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let marks = mark_special_bytes(u64::from_le_bytes(*word));
        if marks != 0 {
            return index * 8 + marks.trailing_zeros() as usize / 8;
        }
    }
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    let tail = rest.iter().position(special).unwrap_or(rest.len());
    words.len() * 8 + tail
}

/// Sets the high bit of the first special byte (bytes above the first one may be marked wrongly,
/// since the subtractions borrow).
fn mark_special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = ONES << 7;
    let zero_in = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let quote = zero_in(word ^ (ONES * b'"' as u64));
    let backslash = zero_in(word ^ (ONES * b'\\' as u64));
    let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
    quote | backslash | control
}
