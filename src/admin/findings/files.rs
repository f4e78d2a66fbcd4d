//! Files that the configuration names and that are not in force as they are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::admin::AdminState;
use crate::config::{MAX_LISTED, RefusedFile};
use crate::findings::UnreadableFile;

/// Returns the files that cannot be read, and those of access keys that are refused.
pub(super) fn unreadable(state: &AdminState) -> Vec<UnreadableFile> {
    let files = state.reloads.unreadable_files();
    let file = |path: &PathBuf| UnreadableFile {
        path: as_text(path),
        cause: "a file that the configuration names cannot be read; what it held stays in force"
            .to_owned(),
        is_critical: false,
    };
    let named = files.iter().map(file);
    let config = state.config.load();
    let Some(directory) = config.key_directory.as_deref() else {
        return named.collect();
    };
    let error = directory.error().map(|error| UnreadableFile {
        path: as_text(directory.path()),
        cause: format!("{error}; all its access keys stay in force"),
        is_critical: true,
    });
    let refused = directory
        .refused()
        .values()
        .take(MAX_LISTED)
        .map(|file| UnreadableFile {
            path: as_text(&file.path),
            cause: refusal(file),
            is_critical: true,
        });
    named.chain(error).chain(refused).collect()
}

/// Describes a refused file of access keys, with those that it no longer holds.
fn refusal(file: &RefusedFile) -> String {
    let kept = &file.not_yet_revoked;
    if kept.is_empty() {
        return file.message.clone();
    }
    let named: Vec<_> = kept.iter().take(MAX_LISTED).map(|it| it.as_str()).collect();
    let more = match kept.len().saturating_sub(MAX_LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "{}; not yet revoked: {}{more}",
        file.message,
        named.join(", ")
    )
}

fn as_text(path: &Path) -> Arc<str> {
    path.display().to_string().into()
}
