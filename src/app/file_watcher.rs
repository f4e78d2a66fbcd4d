//! Follows files by content: keys, secrets and certificates change under a running gateway, by an
//! editor, by a certificate client, or by a symbolic link that a secret volume swings round. Looking
//! at the content, now and then, sees all of them, on every file system.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest::{self, SHA256};
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use crate::config::read_named_file;

/// Looks at files again and again, on a thread that may wait for a disk.
#[derive(Debug)]
pub(super) struct FileWatcher {
    /// What is in force, or was refused; nothing before the first look.
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
    /// Begins with what the files hold now.
    pub(super) fn start(files: Vec<PathBuf>, every: Duration) -> Self {
        Self {
            known: None,
            interval: every,
            next_read: read_after(Duration::ZERO, move || FileDigests::read(&files)),
        }
    }

    /// What the files held when their last change was seen.
    pub(super) fn known_digests(&self) -> FileDigests {
        self.known.clone().unwrap_or_default()
    }

    /// Goes on with other files.
    pub(super) fn reset(&mut self, marks: FileDigests) {
        self.next_read.abort();
        self.schedule_read(marks);
    }

    fn schedule_read(&mut self, marks: FileDigests) {
        self.known = Some(marks.clone());
        self.next_read = read_after(self.interval, move || marks.reread());
    }

    async fn changed_files(&mut self) -> Vec<PathBuf> {
        loop {
            let Ok(marks) = (&mut self.next_read).await else {
                // Only a runtime that ends, ends a look.
                return std::future::pending().await;
            };
            let before = self.known.take();
            let changed = before.map_or_else(Vec::new, |before| marks.changed_since(&before));
            self.schedule_read(marks);
            if !changed.is_empty() {
                return changed;
            }
        }
    }
}

/// Resolves when files have changed, once for each change; never without a follower. May be dropped
/// and asked again.
pub(super) async fn changed_files(follower: &mut Option<FileWatcher>) -> Vec<PathBuf> {
    match follower {
        Some(follower) => follower.changed_files().await,
        None => std::future::pending().await,
    }
}

#[expect(clippy::disallowed_methods, reason = "ends with its `Follower`")]
fn read_after(
    after: Duration,
    read: impl FnOnce() -> FileDigests + Send + 'static,
) -> JoinHandle<FileDigests> {
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        let marks = tokio::task::spawn_blocking(read).await;
        // Reading does not panic; if it did, nothing would be known.
        marks.unwrap_or_default()
    })
}

/// What the files held when they were looked at.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct FileDigests(BTreeMap<PathBuf, Digest>);

/// The SHA-256 of a file, or nothing if it cannot be read.
type Digest = Option<[u8; 32]>;

impl FileDigests {
    /// Reads all of the files.
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

    /// What `before` and this know differently.
    fn changed_since(&self, before: &Self) -> Vec<PathBuf> {
        self.0
            .iter()
            .filter(|(file, mark)| before.0.get(*file) != Some(*mark))
            .map(|(file, _)| file.clone())
            .collect()
    }

    /// For files that both know, what `earlier` knew: a change between the two looks is seen by the
    /// next one.
    pub(super) fn prefer_earlier(mut self, earlier: &Self) -> Self {
        for (file, mark) in &mut self.0 {
            if let Some(before) = earlier.0.get(file) {
                *mark = *before;
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
    fn content_is_followed_through_links_and_nothing_else_is() {
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
    fn a_change_between_two_looks_is_seen_by_the_third() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "1").unwrap();
        let before = FileDigests::read([&file]);
        std::fs::write(&file, "2").unwrap();
        let after = before.reread().prefer_earlier(&before);
        assert_eq!(after.reread().changed_since(&after), [file]);
    }
}
