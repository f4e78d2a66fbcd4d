//! What became of attempts to reload.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Every attempt since the start, counted; the last one in words.
#[derive(Debug, Default)]
pub struct Reloads {
    last: ArcSwapOption<ReloadAttempt>,
    succeeded: AtomicU64,
    refused: AtomicU64,
}

/// A configuration that was put in force.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reloaded {
    /// Its generation.
    pub generation: u64,
    /// What `check` would warn of, each with its place.
    pub warnings: Vec<String>,
}

/// One attempt.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReloadAttempt {
    /// When it ended.
    pub at: Timestamp,
    /// What is in force since, or what was wrong.
    pub result: Result<Reloaded, String>,
}

impl Reloads {
    /// Takes note of an attempt.
    pub fn record(&self, at: Timestamp, result: &Result<Reloaded, String>) {
        let counter = match result {
            Ok(_) => &self.succeeded,
            Err(_) => &self.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let result = result.clone();
        self.last
            .store(Some(Arc::new(ReloadAttempt { at, result })));
    }

    /// The last attempt.
    pub fn last(&self) -> Option<Arc<ReloadAttempt>> {
        self.last.load_full()
    }

    /// Those that were put in force.
    pub fn succeeded(&self) -> u64 {
        self.succeeded.load(Ordering::Relaxed)
    }

    /// Those that were refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// For `/status`.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "done": self.succeeded(),
            "refused": self.refused(),
            "last": self.last().map(|last| json!({
                "at": last.at.to_string(),
                "ok": last.result.is_ok(),
                "error": last.result.as_ref().err(),
                "warnings": last.result.as_ref().map_or(&[][..], |done| &done.warnings),
            })),
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
        let shown = reloads.to_json();
        assert_eq!(shown["last"]["ok"], false);
        assert_eq!(shown["last"]["error"], "a typing error");
    }
}
