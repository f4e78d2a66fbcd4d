//! What is known of one file.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::config::{FileDigest, digest_named_file};

/// The times of one scan, and what it looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub(super) now: Instant,
    pub(super) wall: SystemTime,
    /// How long size and times of a changed file must have been the same.
    pub(super) settle: Duration,
    /// Whether every file is read.
    pub(super) verify_all: bool,
    /// Whether only files are looked at that have just changed.
    pub(super) only_unsettled: bool,
}

/// The last known content of a file, and how it looked then.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// `None` before the first read; `Some(None)` if it could not be read.
    digest: Option<Option<FileDigest>>,
    stamp: Option<Stamp>,
    pending: Option<Pending>,
}

/// A change that may not be complete.
#[derive(Clone, Copy, Debug)]
struct Pending {
    digest: Option<FileDigest>,
    stamp: Option<Stamp>,
    since: Instant,
}

/// The result of looking at a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Observation {
    /// The content is the same.
    Same,
    /// The content differs, but may still be written.
    Unsettled,
    /// The content differs; the new one is known from now on.
    Changed,
}

/// What changes with the content of a file, as a rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// Whether the file changed so recently that another change can leave the stamp as it is.
    fn is_recent(&self, wall: SystemTime) -> bool {
        let wall = wall
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        self.changed.0.saturating_add(TIME_GRANULARITY) >= i64::try_from(wall).unwrap_or(i64::MAX)
    }
}

impl Seen {
    /// A file whose content was read.
    pub(super) fn read(digest: Option<FileDigest>) -> Self {
        Self {
            digest: Some(digest),
            ..Self::default()
        }
    }

    /// Returns what was known before if the content is the same.
    pub(super) fn or_same(self, before: Option<&Self>) -> Self {
        match before {
            Some(before) if before.digest == self.digest => before.clone(),
            _ => self,
        }
    }

    /// Returns the content of the file that was taken last.
    pub(super) fn known_digest(&self) -> Option<FileDigest> {
        self.digest.flatten()
    }

    /// Returns the content of a change that was not taken yet.
    pub(super) fn pending_digest(&self) -> Option<FileDigest> {
        self.pending.and_then(|pending| pending.digest)
    }

    /// Whether the file could not be read.
    pub(super) fn is_unreadable(&self) -> bool {
        self.digest == Some(None)
    }

    /// Whether the file has changed but was not taken yet.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some() || self.digest.is_none()
    }

    /// Takes a pending change.
    pub(super) fn take_pending(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.digest = Some(pending.digest);
            self.stamp = pending.stamp;
        }
    }

    /// Looks at the file, and reads it if it looks different.
    pub(super) fn observe(&mut self, path: &Path, clock: &Clock) -> Observation {
        if clock.only_unsettled && !self.is_pending() {
            return Observation::Same;
        }
        let stamp = Stamp::of(path);
        let looks_same = match stamp {
            Some(seen) => self.stamp == stamp && !seen.is_recent(clock.wall) && !clock.verify_all,
            None => self.digest == Some(None),
        };
        if looks_same {
            self.pending = None;
            return Observation::Same;
        }
        let digest = stamp.and_then(|_| digest_named_file(path));
        if self.digest == Some(digest) {
            self.stamp = stamp;
            self.pending = None;
            return Observation::Same;
        }
        match self.pending {
            Some(pending) if pending.stamp == stamp && pending.digest == digest => {
                if clock.now.duration_since(pending.since) < clock.settle {
                    return Observation::Unsettled;
                }
                self.take_pending();
                Observation::Changed
            }
            _ => {
                self.pending = Some(Pending {
                    digest,
                    stamp,
                    since: clock.now,
                });
                Observation::Unsettled
            }
        }
    }
}

/// Seconds. File systems keep times of a clock tick (4 ms), FAT of two seconds.
const TIME_GRANULARITY: i64 = 2;
