//! Parses the text of a file into the file's types: TOML, then the structure check, then serde on what
//! remains.

mod deserializer;
mod plain;
mod syntax;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostics::Diagnostics;
use super::file::AccessKeysFile;
use super::structure::{self, SchemaNode};
use super::{schema, secrets};
use deserializer::ValueDeserializer;

/// The two kinds of configuration files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FileKind {
    /// The file of `access_keys_file`, which holds secrets.
    AccessKeys,
    /// The configuration file.
    Main,
}

/// Reads the valid part of a file of access keys; `None` if it is not TOML. All mistakes are added to
/// `diagnostics`.
pub(super) fn read_access_keys(
    text: &str,
    diagnostics: &mut Diagnostics,
) -> Option<AccessKeysFile> {
    plain::read(text, diagnostics).or_else(|| read(text, FileKind::AccessKeys, diagnostics))
}

/// Reads the valid part of a file; `None` if it is not TOML. All mistakes are added to `diagnostics`.
pub(super) fn read<T: DeserializeOwned>(
    text: &str,
    kind: FileKind,
    diagnostics: &mut Diagnostics,
) -> Option<T> {
    let (mut table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        diagnostics.secret_spans =
            secrets::spans_in_invalid_toml(text, &schema::KNOWN_KEYS, kind == FileKind::Main);
        syntax::report(text, &errors, diagnostics);
        return None;
    }
    let secrets_inline = kind == FileKind::AccessKeys;
    structure::prune(table.get_mut(), kind.schema(), secrets_inline, diagnostics);
    let span = table.span();
    let root = Spanned::new(span, DeValue::Table(table.into_inner()));
    match T::deserialize(ValueDeserializer::new(root)) {
        Ok(file) => Some(file),
        // The structure check accepts nothing that serde rejects.
        Err(error) => {
            diagnostics.error(
                error.span.unwrap_or(0..0),
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
