//! The file that `call -o` writes.
//!
//! Like curl and wget, it follows symbolic links, and writes directly into a device, a FIFO or any
//! other file that is not regular. A regular file is written under a new name in the same directory
//! (O_EXCL) and renamed once it is complete. If the download fails or is interrupted, the new file is
//! deleted and an existing file stays as it was.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use tempfile::{Builder, TempPath};

/// An open output file.
#[derive(Debug)]
pub(super) struct OutputFile {
    file: Arc<File>,
    /// The path as the user gave it, for errors.
    shown: PathBuf,
    /// `None` for a file that is not regular.
    replacement: Option<Replacement>,
}

/// The rename that completes a regular file. Dropping it deletes the temporary file.
#[derive(Debug)]
struct Replacement {
    temporary: TempPath,
    target: PathBuf,
}

impl OutputFile {
    /// Opens the output. Opening a FIFO waits for its reader, so it happens on a blocking thread.
    pub(super) async fn create(path: &Path) -> anyhow::Result<Self> {
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || Self::open(path)).await?
    }

    fn open(shown: PathBuf) -> anyhow::Result<Self> {
        if shown.as_os_str() == "-" {
            let file = io::stdout().as_fd().try_clone_to_owned()?;
            return Ok(Self::direct(file.into(), shown));
        }
        let problem = || cannot_write(&shown);
        let metadata = match fs::metadata(&shown) {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(problem),
        };
        if metadata.as_ref().is_some_and(fs::Metadata::is_dir) {
            bail!("{}: it is a directory", problem());
        }
        if metadata.as_ref().is_some_and(|it| !it.is_file()) {
            let file = OpenOptions::new().write(true).open(&shown);
            let file = file.with_context(problem)?;
            return Ok(Self::direct(file, shown));
        }
        let target = resolve_links(&shown).with_context(problem)?;
        let (file, temporary) = temporary_beside(&target, metadata).with_context(problem)?;
        Ok(Self {
            file: Arc::new(file),
            shown,
            replacement: Some(Replacement { temporary, target }),
        })
    }

    fn direct(file: File, shown: PathBuf) -> Self {
        Self {
            file: Arc::new(file),
            shown,
            replacement: None,
        }
    }

    /// Writes all of `bytes`, on a blocking thread: a FIFO or a disk may block for any time.
    pub(super) async fn write(&self, bytes: Bytes) -> anyhow::Result<()> {
        let file = Arc::clone(&self.file);
        let written = tokio::task::spawn_blocking(move || file.as_ref().write_all(&bytes)).await?;
        self.report(written)
    }

    /// Completes the file; a regular file appears under its name only now.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        let Some(Replacement { temporary, target }) = self.replacement else {
            return Ok(());
        };
        let renamed = temporary.persist(target).map_err(|error| error.error);
        renamed.with_context(|| cannot_write(&self.shown))
    }

    /// Drops the cause: a closed FIFO is a failed download, not a closed standard output.
    fn report(&self, result: io::Result<()>) -> anyhow::Result<()> {
        result.map_err(|error| anyhow!("{}: {error}", cannot_write(&self.shown)))
    }
}

/// Creates a file in the directory of `target`, with the mode that `target` has or would get.
fn temporary_beside(target: &Path, existing: Option<fs::Metadata>) -> io::Result<(File, TempPath)> {
    let mut builder = Builder::new();
    builder.prefix(".ccfs-gateway-").suffix(".part");
    if existing.is_none() {
        // As for any new file: the umask applies.
        builder.permissions(Permissions::from_mode(0o666));
    }
    let directory = target.parent().filter(|it| !it.as_os_str().is_empty());
    let temporary = builder.tempfile_in(directory.unwrap_or(Path::new(".")))?;
    if let Some(existing) = existing {
        // A file that may not be written must not be replaced either.
        OpenOptions::new().write(true).open(target)?;
        let mode = Permissions::from_mode(existing.permissions().mode() & 0o777);
        temporary.as_file().set_permissions(mode)?;
    }
    Ok(temporary.into_parts())
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

/// Follows the symbolic links of the last component, also to a file that does not exist yet.
fn resolve_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            // EINVAL: not a link.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(path),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many levels of symbolic links"))
}

/// MAXSYMLINKS of Linux.
const MAX_LINKS: usize = 40;

#[cfg(test)]
mod tests;
