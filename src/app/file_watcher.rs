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
pub(super) struct Follower {
    /// What is in force, or was refused; nothing before the first look.
    seen: Option<Marks>,
    every: Duration,
    look: JoinHandle<Marks>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.look.abort();
    }
}

impl Follower {
    /// Begins with what the files hold now.
    pub(super) fn start(files: Vec<PathBuf>, every: Duration) -> Self {
        Self {
            seen: None,
            every,
            look: look(Duration::ZERO, move || Marks::take(&files)),
        }
    }

    /// What the files held when their last change was seen.
    pub(super) fn seen(&self) -> Marks {
        self.seen.clone().unwrap_or_default()
    }

    /// Goes on with other files.
    pub(super) fn follow(&mut self, marks: Marks) {
        self.look.abort();
        self.look_later(marks);
    }

    fn look_later(&mut self, marks: Marks) {
        self.seen = Some(marks.clone());
        self.look = look(self.every, move || marks.again());
    }

    async fn changed(&mut self) -> Vec<PathBuf> {
        loop {
            let Ok(marks) = (&mut self.look).await else {
                // Only a runtime that ends, ends a look.
                return std::future::pending().await;
            };
            let before = self.seen.take();
            let changed = before.map_or_else(Vec::new, |before| marks.changed(&before));
            self.look_later(marks);
            if !changed.is_empty() {
                return changed;
            }
        }
    }
}

/// Resolves when files have changed, once for each change; never without a follower. May be dropped
/// and asked again.
pub(super) async fn changed(follower: &mut Option<Follower>) -> Vec<PathBuf> {
    match follower {
        Some(follower) => follower.changed().await,
        None => std::future::pending().await,
    }
}

#[expect(clippy::disallowed_methods, reason = "ends with its `Follower`")]
fn look(after: Duration, read: impl FnOnce() -> Marks + Send + 'static) -> JoinHandle<Marks> {
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        let marks = tokio::task::spawn_blocking(read).await;
        // Reading does not panic; if it did, nothing would be known.
        marks.unwrap_or_default()
    })
}

/// What the files held when they were looked at.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Marks(BTreeMap<PathBuf, Mark>);

/// The SHA-256 of a file, or nothing if it cannot be read.
type Mark = Option<[u8; 32]>;

impl Marks {
    /// Reads all of the files.
    pub(super) fn take<'a>(files: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        Self(
            files
                .into_iter()
                .map(|file| (file.clone(), mark(file)))
                .collect(),
        )
    }

    /// Reads the same files again.
    pub(super) fn again(&self) -> Self {
        Self::take(self.0.keys())
    }

    /// What `before` and this know differently.
    fn changed(&self, before: &Self) -> Vec<PathBuf> {
        self.0
            .iter()
            .filter(|(file, mark)| before.0.get(*file) != Some(*mark))
            .map(|(file, _)| file.clone())
            .collect()
    }

    /// For files that both know, what `earlier` knew: a change between the two looks is seen by the
    /// next one.
    pub(super) fn or_earlier(mut self, earlier: &Self) -> Self {
        for (file, mark) in &mut self.0 {
            if let Some(before) = earlier.0.get(file) {
                *mark = *before;
            }
        }
        self
    }
}

fn mark(file: &Path) -> Mark {
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
        let first = Marks::take(&files);
        point_to("two");
        assert!(first.again().changed(&first).is_empty());
        point_to("three");
        assert_eq!(first.again().changed(&first), [path("key")]);
        std::fs::remove_file(path("..data")).unwrap();
        assert_eq!(first.again().changed(&first), [path("key")]);
    }

    #[test]
    fn a_change_between_two_looks_is_seen_by_the_third() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "1").unwrap();
        let before = Marks::take([&file]);
        std::fs::write(&file, "2").unwrap();
        let after = before.again().or_earlier(&before);
        assert_eq!(after.again().changed(&after), [file]);
    }
}
