//! What was found, by access key: the last case for `explain --live`, and the last mistake.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use moka::policy::EvictionPolicy;

use crate::auth::Mistake;

/// What people are shown of a case: never a signature or a body, and few values.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LiveCase {
    /// The access key, which is configured.
    pub access_key: Arc<str>,
    /// When the request arrived.
    pub at: Timestamp,
    /// The mistake.
    pub mistake: Mistake,
    /// The method.
    pub method: String,
    /// The raw path, without a query that is escaped into it.
    pub path: String,
    /// The signed names, as written.
    pub names: String,
    /// The timestamp, as written.
    pub timestamp: String,
    /// The values of host, content-type and content-length.
    pub headers: BTreeMap<String, String>,
    /// The lengths of everything else.
    pub lengths: BTreeMap<String, usize>,
}

/// The last value of each access key, for a time and of a bounded number: the oldest makes room.
#[derive(Debug)]
pub(super) struct LastOfEach<V: Clone + Send + Sync + 'static> {
    values: moka::sync::Cache<Arc<str>, (Timestamp, V)>,
    kept_for: Duration,
}

impl<V: Clone + Send + Sync + 'static> LastOfEach<V> {
    pub(super) fn new(max: u64, kept_for: Duration) -> Self {
        let values = moka::sync::Cache::builder()
            .max_capacity(max)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(kept_for)
            .build();
        Self { values, kept_for }
    }

    /// Keeps the value instead of an earlier one of the access key.
    pub(super) fn keep(&self, access_key: &str, value: V, now: Timestamp) {
        self.values.insert(access_key.into(), (now, value));
    }

    pub(super) fn get(&self, access_key: &str, now: Timestamp) -> Option<V> {
        let (at, value) = self.values.get(access_key)?;
        (now.duration_since(at).unsigned_abs() < self.kept_for).then_some(value)
    }
}

/// Cases for `explain --live`, and how long they are kept.
pub(super) const LIVE_CASES: (u64, Duration) = (64, Duration::from_secs(600));

/// Access keys whose last mistake is kept, and how long; strangers have none, so that they take no place.
pub(super) const FOUND_MISTAKES: (u64, Duration) = (1024, Duration::from_secs(24 * 3600));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_access_keys_the_last_ones_are_kept() {
        let kept = LastOfEach::new(4, Duration::from_secs(60));
        let now = Timestamp::UNIX_EPOCH;
        for number in 0..100 {
            kept.keep(&number.to_string(), number, now);
            kept.values.run_pending_tasks();
        }
        let held = (0..100).filter(|number| kept.get(&number.to_string(), now).is_some());
        assert_eq!(held.collect::<Vec<_>>(), [96, 97, 98, 99]);
        let later = now + Duration::from_secs(60);
        assert_eq!(kept.get("99", later), None);
    }
}
