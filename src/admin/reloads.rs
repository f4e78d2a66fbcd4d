//! The results of reloads.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::config::{Config, MAX_LISTED};

/// The counts of all reloads since the start, and the last result.
#[derive(Debug, Default)]
pub struct Reloads {
    last: ArcSwapOption<ReloadAttempt>,
    succeeded: AtomicU64,
    refused: AtomicU64,
    restart_needed: ArcSwap<Vec<String>>,
    unreadable_files: ArcSwap<Vec<PathBuf>>,
}

/// The result of a successful reload.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reloaded {
    /// The generation now in force.
    pub generation: u64,
    /// The warnings that `check` would print, each with its location.
    pub warnings: Vec<String>,
    /// The files of `access_keys_dir` that are not in force, at most [`MAX_LISTED`].
    pub refused_files: Vec<RefusedKeyFile>,
    /// The number of further ones.
    pub refused_files_omitted: usize,
    /// The keys whose values differ from the ones in force, which they become at the next start.
    pub restart_needed: Vec<String>,
    /// What has changed, in words; bounded.
    pub changes: Vec<String>,
}

/// A file of access keys with mistakes; the access keys that it had before stay in force.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct RefusedKeyFile {
    /// The path of the file.
    pub file: String,
    /// The first mistake, and the number of the others.
    pub message: String,
}

impl Reloaded {
    /// The result of a reload to this generation.
    pub fn new(generation: u64, config: &Config, warnings: Vec<String>) -> Self {
        let mut refused_files = Vec::new();
        let mut refused_files_omitted = 0;
        if let Some(directory) = &config.key_directory {
            let refused = directory.refused();
            let listed = refused.values().take(MAX_LISTED);
            refused_files.extend(listed.map(|refused| RefusedKeyFile {
                file: refused.path.display().to_string(),
                message: refused.message.clone(),
            }));
            refused_files_omitted = refused.len().saturating_sub(MAX_LISTED);
        }
        Self {
            generation,
            warnings,
            refused_files,
            refused_files_omitted,
            restart_needed: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// Returns the body of the response to `POST /reload`.
    pub(super) fn to_json(&self) -> Value {
        let mut body = json!({
            "reloaded": true,
            "generation": self.generation,
            "restart_needed": self.restart_needed,
            "changes": self.changes,
            "warnings": self.warnings,
            "refused_files": self.refused_files,
        });
        if self.refused_files_omitted > 0 {
            body["refused_files_omitted"] = self.refused_files_omitted.into();
        }
        body
    }
}

/// One reload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReloadAttempt {
    /// When it ended.
    pub at: Timestamp,
    /// The configuration in force since then, or the mistakes.
    pub result: Result<Reloaded, String>,
}

impl Reloads {
    /// Records a reload.
    pub fn record(&self, at: Timestamp, result: &Result<Reloaded, String>) {
        let counter = match result {
            Ok(done) => {
                let keys = Arc::new(done.restart_needed.clone());
                self.restart_needed.store(keys);
                &self.succeeded
            }
            Err(_) => &self.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let result = result.clone();
        self.last
            .store(Some(Arc::new(ReloadAttempt { at, result })));
    }

    /// Returns the last reload.
    pub fn last(&self) -> Option<Arc<ReloadAttempt>> {
        self.last.load_full()
    }

    /// Returns the changed keys that wait for a restart.
    pub fn restart_needed(&self) -> Vec<String> {
        Vec::clone(&self.restart_needed.load())
    }

    /// Replaces the list of files that cannot be read.
    pub fn set_unreadable_files(&self, files: Vec<PathBuf>) {
        self.unreadable_files.store(Arc::new(files));
    }

    /// Returns the files that the configuration names and that could not be read at the last look.
    pub fn unreadable_files(&self) -> Arc<Vec<PathBuf>> {
        self.unreadable_files.load_full()
    }

    /// Returns the number of successful reloads.
    pub fn succeeded(&self) -> u64 {
        self.succeeded.load(Ordering::Relaxed)
    }

    /// Returns the number of rejected reloads.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Returns the `reloads` member of `/status`.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "done": self.succeeded(),
            "refused": self.refused(),
            "last": self.last().map(|last| json!({
                "at": format!("{:.3}", last.at),
                "ok": last.result.is_ok(),
                "error": last.result.as_ref().err(),
                "warnings": last.result.as_ref().map_or(&[][..], |done| &done.warnings),
                "changes": last.result.as_ref().map_or(&[][..], |done| &done.changes),
            })),
            "restart_needed": self.restart_needed(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_attempt_is_shown_and_all_are_counted() {
        let reloads = Reloads::default();
        assert_eq!(reloads.to_json()["last"], Value::Null);
        reloads.record(Timestamp::UNIX_EPOCH, &Ok(Reloaded::default()));
        reloads.record(Timestamp::UNIX_EPOCH, &Err("a typing error".to_owned()));
        assert_eq!((reloads.succeeded(), reloads.refused()), (1, 1));
        let json = reloads.to_json();
        assert_eq!(json["last"]["ok"], false);
        assert_eq!(json["last"]["error"], "a typing error");
    }
}
