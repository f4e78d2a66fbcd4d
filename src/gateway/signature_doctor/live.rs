//! What was found, by access key: the last case for `explain --live`, and the last mistake.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

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
    /// The raw path.
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

/// The last mistake of each access key.
#[derive(Debug, Default)]
pub(super) struct FoundMistakes(HashMap<Arc<str>, (Timestamp, Mistake)>);

impl FoundMistakes {
    pub(super) fn keep(&mut self, access_key: &str, mistake: Mistake, now: Timestamp) {
        if self.0.len() >= MAX_FOUND && !self.0.contains_key(access_key) {
            self.0.retain(|_, (at, _)| is_within(*at, now, FOUND_FOR));
            if self.0.len() >= MAX_FOUND {
                return;
            }
        }
        self.0.insert(access_key.into(), (now, mistake));
    }

    pub(super) fn get(&self, access_key: &str, now: Timestamp) -> Option<Mistake> {
        let (at, mistake) = self.0.get(access_key)?;
        is_within(*at, now, FOUND_FOR).then_some(*mistake)
    }
}

#[derive(Debug, Default)]
pub(super) struct LiveCases(HashMap<Arc<str>, (Timestamp, LiveCase)>);

impl LiveCases {
    /// Keeps the case instead of an earlier one of the access key.
    pub(super) fn keep(&mut self, access_key: &str, case: LiveCase, now: Timestamp) {
        self.0.retain(|_, (at, _)| is_within(*at, now, KEPT_FOR));
        if self.0.len() >= MAX_KEPT && !self.0.contains_key(access_key) {
            let oldest = self.0.iter().min_by_key(|(_, (at, _))| *at);
            if let Some(oldest) = oldest.map(|(access_key, _)| access_key.clone()) {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(access_key.into(), (now, case));
    }

    pub(super) fn get(&self, access_key: &str, now: Timestamp) -> Option<LiveCase> {
        let (at, case) = self.0.get(access_key)?;
        is_within(*at, now, KEPT_FOR).then(|| case.clone())
    }
}

fn is_within(at: Timestamp, now: Timestamp, time: Duration) -> bool {
    now.duration_since(at).unsigned_abs() < time
}

const MAX_KEPT: usize = 64;

const KEPT_FOR: Duration = Duration::from_secs(600);

/// Access keys whose last mistake is kept; strangers have none, so that they take no place.
const MAX_FOUND: usize = 1024;

const FOUND_FOR: Duration = Duration::from_secs(24 * 3600);
