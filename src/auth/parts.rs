//! The parts of a credential that was not verified.

/// Whether any part of a credential satisfies `is_meant`, by whichever of the usual separators its client divides it.
/// A part may itself hold what separates elsewhere, so the text is divided in several ways.
pub(super) fn any_part(text: &[u8], is_meant: impl Fn(&[u8]) -> bool) -> bool {
    SEPARATORS.iter().any(|separators| {
        let mut parts = text.split(|byte| separators.contains(byte));
        parts.any(&is_meant)
    })
}

/// Between the words of a field; of auth-v2; of lists and parameters (RFC 9110, 5.6) without and with those of
/// auth-v2; and of all forms that clients are seen to make of them.
pub(super) const SEPARATORS: [&[u8]; 6] = [
    b" \t",
    b" \t/",
    b" \t/,=",
    b" \t,;:'\"()",
    b" \t/,=;:'\"()",
    b" \t/,=;:'\"()<>[]{}|&",
];
