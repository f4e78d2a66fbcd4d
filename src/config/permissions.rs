//! Who may read and write the files that hold secrets.

use std::fs::Metadata;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::diagnostics::Diagnostics;

/// Checks the owner and mode of a file of access keys: owned by root or the user of the process, nothing
/// for others, nothing to write for the group, and the group one of the process. Kubernetes makes such
/// files for a pod with `fsGroup`. A file that does not exist passes.
///
/// # Errors
/// What is wrong, without the path.
pub(super) fn check_key_file(path: &Path) -> Result<(), String> {
    match std::fs::metadata(path) {
        Ok(metadata) => check(&metadata, &Process::current()),
        Err(_) => Ok(()),
    }
}

/// What would be right.
pub(super) const KEY_FILE_HELP: &str = "must be owned by root or the gateway's user, with mode 600, or 440 and 640 with a group of the gateway's process";

/// The user and the groups of a process.
struct Process {
    user: u32,
    groups: Vec<u32>,
}

impl Process {
    fn current() -> Self {
        let mut groups = vec![rustix::process::getegid().as_raw()];
        let further = rustix::process::getgroups().unwrap_or_default();
        groups.extend(further.into_iter().map(rustix::process::Gid::as_raw));
        Self {
            user: rustix::process::geteuid().as_raw(),
            groups,
        }
    }
}

fn check(metadata: &Metadata, process: &Process) -> Result<(), String> {
    let mode = metadata.mode() & 0o777;
    let (owner, group) = (metadata.uid(), metadata.gid());
    if owner != 0 && owner != process.user {
        return Err(format!("belongs to another user (uid {owner})"));
    }
    if mode & 0o006 != 0 {
        return Err(format!(
            "can be {} by others (mode {mode:o})",
            how(mode & 0o006)
        ));
    }
    if mode & 0o020 != 0 {
        return Err(format!("can be written by its group (mode {mode:o})"));
    }
    if mode & 0o040 != 0 && !process.groups.contains(&group) {
        return Err(format!(
            "can be read by a group that is not the gateway's (mode {mode:o}, gid {group})"
        ));
    }
    Ok(())
}

/// Describes read and write bits.
fn how(bits: u32) -> &'static str {
    match (bits & 0o444 != 0, bits & 0o222 != 0) {
        (true, true) => "read and written",
        (false, true) => "written",
        (_, false) => "read",
    }
}

/// Warns if the group or others can read a secret file, or the group can write it. A file that others
/// can write is an error: they choose the secret.
pub(super) fn warn_if_readable_by_others(
    written: &str,
    span: &Range<usize>,
    diagnostics: &mut Diagnostics,
) {
    let path = diagnostics.resolve_path(written);
    let Ok(metadata) = std::fs::metadata(&path) else {
        return;
    };
    let mode = metadata.mode() & 0o777;
    if mode & 0o066 == 0 {
        return;
    }
    let how = how(mode & 0o066);
    let message = format!("{} can be {how} by others (mode {mode:o})", path.display());
    if mode & 0o002 != 0 {
        let help = "must be writable by its owner only: chmod 600";
        diagnostics.error(span.clone(), message, help);
        return;
    }
    let help = "should be readable and writable by its owner only: chmod 600";
    diagnostics.warning(span.clone(), message, help);
}
