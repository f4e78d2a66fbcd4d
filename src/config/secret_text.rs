//! Secrets as people store them in files and variables.

use crate::encoding;

/// A secret without what editors and shells add to it.
pub(crate) struct SecretText {
    pub(crate) bytes: Vec<u8>,
    had_bom: bool,
}

/// Message and advice.
type Note = (&'static str, &'static str);

/// Removes a byte-order mark and one line end.
///
/// # Errors
/// What cannot be meant as a secret.
pub(crate) fn parse(mut bytes: Vec<u8>) -> Result<SecretText, Note> {
    let had_bom = bytes.starts_with(encoding::BOM);
    if had_bom {
        bytes.drain(..encoding::BOM.len());
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    if bytes.is_empty() {
        Err(("the secret is empty", "must hold at least one byte"))
    } else if encoding::is_utf16(&bytes) {
        Err((
            "the secret is UTF-16 text",
            "must be stored in UTF-8 or ASCII",
        ))
    } else if bytes.trim_ascii().is_empty() {
        Err(("the secret is only white space", "must hold a secret"))
    } else if bytes.contains(&0) {
        Err(("the secret holds a NUL byte", "must be the secret as text"))
    } else {
        Ok(SecretText { bytes, had_bom })
    }
}

impl SecretText {
    /// Returns what may be a mistake.
    pub(super) fn warnings(&self) -> impl Iterator<Item = Note> {
        let bom = self.had_bom.then_some((
            "a secret that begins with a byte-order mark",
            "the mark is skipped; store the secret without it",
        ));
        let blank = self.bytes.trim_ascii().len() != self.bytes.len();
        let blank = blank.then_some((
            "a secret that begins or ends with white space",
            "it is part of the secret; if it should not be, remove it",
        ));
        bom.into_iter().chain(blank)
    }
}
