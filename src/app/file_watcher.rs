//! Watches files by content. Keys, secrets and certificates are replaced at run time by an editor, by an
//! ACME client, or by the symbolic link of a Kubernetes secret volume. Periodic reading detects all of
//! these on every file system; inotify does not (network file systems, swapped links).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest::{self, SHA256};
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use crate::config::read_named_file;

/// Reads files periodically, on the blocking thread pool.
#[derive(Debug)]
pub(super) struct FileWatcher {
    /// The last known digests; `None` until the first read has finished.
    known: Option<FileDigests>,
    interval: Duration,
    next_read: JoinHandle<FileDigests>,
}

impl Drop for FileWatcher {
    fn drop(&mut self) {
        self.next_read.abort();
    }
}

impl FileWatcher {
    /// Starts to watch; the current content is the baseline.
    pub(super) fn start(files: Vec<PathBuf>, interval: Duration) -> Self {
        Self {
            known: None,
            interval,
            next_read: read_after(Duration::ZERO, move || FileDigests::read(&files)),
        }
    }

    /// Returns the digests of the last finished read.
    pub(super) fn known_digests(&self) -> FileDigests {
        self.known.clone().unwrap_or_default()
    }

    /// Continues with other files and digests.
    pub(super) fn reset(&mut self, digests: FileDigests) {
        self.next_read.abort();
        self.schedule_read(digests);
    }

    fn schedule_read(&mut self, digests: FileDigests) {
        self.known = Some(digests.clone());
        self.next_read = read_after(self.interval, move || digests.reread());
    }

    async fn changed_files(&mut self) -> Vec<PathBuf> {
        loop {
            let Ok(digests) = (&mut self.next_read).await else {
                // A read is cancelled only when the runtime shuts down.
                return std::future::pending().await;
            };
            let before = self.known.take();
            // All files could be read before the baseline.
            let changed = before.map_or_else(
                || digests.unreadable(),
                |before| digests.changed_since(&before),
            );
            self.schedule_read(digests);
            if !changed.is_empty() {
                return changed;
            }
        }
    }
}

/// Resolves when files have changed, once per change; never without a watcher. Cancel safe.
pub(super) async fn changed_files(watcher: &mut Option<FileWatcher>) -> Vec<PathBuf> {
    match watcher {
        Some(watcher) => watcher.changed_files().await,
        None => std::future::pending().await,
    }
}

#[expect(clippy::disallowed_methods, reason = "ends with its `FileWatcher`")]
fn read_after(
    delay: Duration,
    read: impl FnOnce() -> FileDigests + Send + 'static,
) -> JoinHandle<FileDigests> {
    tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        let digests = tokio::task::spawn_blocking(read).await;
        // Reading does not panic; after a panic, all files would count as changed.
        digests.unwrap_or_default()
    })
}

/// The digests of a set of files at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct FileDigests(BTreeMap<PathBuf, Digest>);

/// The SHA-256 of a file's content; `None` if it cannot be read.
type Digest = Option<[u8; 32]>;

impl FileDigests {
    /// Reads all files.
    pub(super) fn read<'a>(files: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        Self(
            files
                .into_iter()
                .map(|file| (file.clone(), digest_of(file)))
                .collect(),
        )
    }

    /// Reads the same files again.
    pub(super) fn reread(&self) -> Self {
        Self::read(self.0.keys())
    }

    /// Returns the files whose digest differs from `before`.
    fn changed_since(&self, before: &Self) -> Vec<PathBuf> {
        self.0
            .iter()
            .filter(|(file, digest)| before.0.get(*file) != Some(*digest))
            .map(|(file, _)| file.clone())
            .collect()
    }

    /// Returns the files that could not be read.
    pub(super) fn unreadable(&self) -> Vec<PathBuf> {
        let files = self.0.iter().filter(|(_, digest)| digest.is_none());
        files.map(|(file, _)| file.clone()).collect()
    }

    /// Takes the digests of `earlier` for files in both sets, so that the next read reports a change
    /// that happened between the two.
    pub(super) fn prefer_earlier(mut self, earlier: &Self) -> Self {
        for (file, digest) in &mut self.0 {
            if let Some(before) = earlier.0.get(file) {
                *digest = *before;
            }
        }
        self
    }
}

fn digest_of(file: &Path) -> Digest {
    let content = Zeroizing::new(read_named_file(file).ok()?);
    digest::digest(&SHA256, &content).as_ref().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_of_content_is_reported_also_through_links() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (version, secret) in [("one", "same"), ("two", "same"), ("three", "other")] {
            std::fs::create_dir(path(version)).unwrap();
            std::fs::write(path(version).join("key"), secret).unwrap();
        }
        let point_to = |version: &str| {
            std::os::unix::fs::symlink(version, path("new")).unwrap();
            std::fs::rename(path("new"), path("..data")).unwrap();
        };
        point_to("one");
        std::os::unix::fs::symlink("..data/key", path("key")).unwrap();
        let files = [path("key")];
        let first = FileDigests::read(&files);
        point_to("two");
        assert!(first.reread().changed_since(&first).is_empty());
        point_to("three");
        assert_eq!(first.reread().changed_since(&first), [path("key")]);
        std::fs::remove_file(path("..data")).unwrap();
        assert_eq!(first.reread().changed_since(&first), [path("key")]);
    }

    #[test]
    fn a_change_between_two_reads_is_reported_by_the_third() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "1").unwrap();
        let before = FileDigests::read([&file]);
        std::fs::write(&file, "2").unwrap();
        let after = before.reread().prefer_earlier(&before);
        assert_eq!(after.reread().changed_since(&after), [file]);
    }
}
