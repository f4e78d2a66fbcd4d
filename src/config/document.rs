//! Text to the file's types: TOML, then the structure check, then serde on what is left.

use serde::de::DeserializeOwned;
use toml::de::{DeTable, Deserializer};

use super::report::Diagnostics;
use super::structure::{self, SchemaNode};
use super::{schema, secrets};

/// The two kinds of files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FileKind {
    /// A file of access keys: holds secrets.
    AccessKeys,
    /// The configuration.
    Main,
}

/// Reads a file as far as it can be understood; `None` if it is not TOML at all. Whatever is wrong
/// is in the report.
pub(super) fn read<T: DeserializeOwned>(
    text: &str,
    kind: FileKind,
    report: &mut Diagnostics,
) -> Option<T> {
    let (mut table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        report.secret_spans = secrets::spans_in_invalid_toml(text, kind == FileKind::AccessKeys);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            let help = match error.message() {
                message if message.starts_with("invalid") => "texts stand in quotes",
                message if message.starts_with("duplicate") => "must be there once",
                _ => "",
            };
            report.error(span, format!("not TOML: {}", error.message()), help);
        }
        return None;
    }
    let secrets_inline = kind == FileKind::AccessKeys;
    structure::prune(table.get_mut(), kind.schema(), secrets_inline, report);
    match T::deserialize(Deserializer::from(table)) {
        Ok(file) => Some(file),
        // The structure check lets nothing pass that serde refuses. Should it, serde's own message
        // is not shown: it may quote a secret.
        Err(error) => {
            report.error(
                error.span().unwrap_or(0..0),
                "cannot be understood",
                "see the reference for the form of this key",
            );
            None
        }
    }
}

impl FileKind {
    fn schema(self) -> &'static SchemaNode {
        match self {
            Self::AccessKeys => &schema::ACCESS_KEYS_FILE,
            Self::Main => &schema::MAIN_FILE,
        }
    }
}
