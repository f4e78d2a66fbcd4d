//! Escaping of untrusted text before people see it: in logs, terminals and error texts.
//!
//! A character is escaped if it moves a cursor, starts a terminal sequence, breaks a line or changes the
//! direction of text (CVE-2021-42574).

use std::borrow::Cow;
use std::io::Write;

/// Whether a character must not be shown raw.
pub fn is_unsafe(character: char) -> bool {
    matches!(
        character,
        // C0 controls; DEL and the C1 controls, among them U+0085 (next line) and U+009B (CSI).
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        // Directional marks.
        | '\u{61c}' | '\u{200e}' | '\u{200f}'
        // Line and paragraph separator, directional embeddings and overrides.
        | '\u{2028}'..='\u{202e}'
        // Directional isolates.
        | '\u{2066}'..='\u{2069}'
        // Byte-order mark.
        | '\u{feff}'
    )
}

/// Returns the text with every unsafe character as an escape of Rust (`\n`, `\u{202e}`).
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_unsafe(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    escaped.into()
}

/// Appends the text as a JSON string (RFC 8259, section 7), with every unsafe character escaped.
pub fn write_json_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = rest.find(|c| is_unsafe(c) || matches!(c, '"' | '\\')) {
        let (plain, from) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        let mut characters = from.chars();
        match characters.next() {
            Some('"') => out.extend_from_slice(b"\\\""),
            Some('\\') => out.extend_from_slice(b"\\\\"),
            Some('\n') => out.extend_from_slice(b"\\n"),
            Some('\r') => out.extend_from_slice(b"\\r"),
            Some('\t') => out.extend_from_slice(b"\\t"),
            Some(character) => {
                // All unsafe characters are in the basic plane. Writing to a `Vec` cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            None => {}
        }
        rest = characters.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNSAFE: &[char] = &[
        '\0', '\n', '\u{1b}', '\u{7f}', '\u{80}', '\u{85}', '\u{9b}', '\u{9f}', '\u{61c}',
        '\u{200e}', '\u{2028}', '\u{2029}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}',
        '\u{feff}',
    ];

    #[test]
    fn unsafe_characters_are_escaped_and_json_reads_them_back() {
        for &character in UNSAFE {
            assert!(is_unsafe(character), "{character:?}");
            let text = format!("a{character}\"b\\");
            assert!(!escaped(&text).contains(is_unsafe), "{text:?}");
            let mut json = Vec::new();
            write_json_string(&mut json, &text);
            let json = String::from_utf8(json).unwrap();
            assert!(!json.contains(is_unsafe), "{json:?}");
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }

    #[test]
    fn other_text_is_unchanged() {
        let text = "Zürich 北京 \u{1f600} a\u{a0}b";
        assert!(matches!(escaped(text), Cow::Borrowed(_)));
        let mut json = Vec::new();
        write_json_string(&mut json, text);
        assert_eq!(json, format!("\"{text}\"").into_bytes());
    }
}
