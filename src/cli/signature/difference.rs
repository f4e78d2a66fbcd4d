//! Prints canonical requests with every byte visible, and the position of the first difference.

use std::io::{self, Write};

/// Writes `canonical` as numbered lines; `labels` name the part that each line holds.
pub(super) fn write_lines(
    out: &mut dyn Write,
    canonical: &[u8],
    labels: &[&str],
) -> io::Result<()> {
    for (index, line) in canonical.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let label = labels.get(index).copied().unwrap_or_default();
        writeln!(
            out,
            "  {:>2}  {label:<6}  {}",
            index + 1,
            escape_bytes(line)
        )?;
    }
    // An empty body has no line after the last line feed.
    if canonical.ends_with(b"\n") {
        let label = labels.last().copied().unwrap_or_default();
        writeln!(out, "  {:>2}  {label:<6}  (empty)", labels.len())?;
    }
    Ok(())
}

/// Writes where `theirs` first differs from `ours`, with the surrounding bytes of both.
pub(super) fn write_first_difference(
    out: &mut dyn Write,
    ours: &[u8],
    theirs: &[u8],
    labels: &[&str],
) -> io::Result<()> {
    let Some(offset) = first_difference(ours, theirs) else {
        return writeln!(out, "theirs: the same bytes");
    };
    let before = &ours[..offset];
    let line = before.iter().filter(|byte| **byte == b'\n').count();
    let line_start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let label = labels.get(line).copied().unwrap_or("end");
    writeln!(
        out,
        "first difference at byte {offset} (line {}, column {}, {label}):",
        line + 1,
        offset - line_start + 1,
    )?;
    for (side, text) in [("ours", ours), ("theirs", theirs)] {
        let start = offset.saturating_sub(CONTEXT_BYTES);
        let end = text.len().min(offset + CONTEXT_BYTES);
        let (left, right) = (
            escape_bytes(&text[start..offset]),
            escape_bytes(&text[offset..end]),
        );
        let right = if right.is_empty() {
            "(ends here)"
        } else {
            &right
        };
        writeln!(out, "  {side:<6}  {left}{right}")?;
        writeln!(
            out,
            "  {:<6}  {:width$}^",
            "",
            "",
            width = left.chars().count()
        )?;
    }
    if theirs.strip_prefix(ours) == Some(b"\n") {
        writeln!(
            out,
            "  theirs has one more line feed at its end; an editor may have added it"
        )?;
    }
    Ok(())
}

/// Returns the offset of the first byte that differs; the shorter length if one is a prefix of the
/// other.
fn first_difference(ours: &[u8], theirs: &[u8]) -> Option<usize> {
    let common = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
    (common < ours.len().max(theirs.len())).then_some(common)
}

/// Escapes bytes as one line of printable characters.
fn escape_bytes(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'\n' => text.push('␊'),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("\\x{byte:02X}")),
        }
    }
    text
}

/// Bytes printed on each side of a difference: two of these fit on a line of 80 columns.
const CONTEXT_BYTES: usize = 30;
