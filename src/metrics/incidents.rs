//! Events that the findings are made of: what went wrong, for whom. They are rare, so each worker keeps them
//! aggregated by subject in bounded maps, which one reader takes once a second.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use compact_str::CompactString;

use super::{AuthResult, FailedRequests, Limiter};

/// The events of one worker, or of all of them, since they were last taken.
#[derive(Clone, Debug, Default)]
pub struct Incidents {
    /// Requests that did not verify, by what they claim to be.
    pub unverified: HashMap<Claimant, Unverified>,
    /// Verified requests that a node refused with 401 or 403.
    pub node_refusals: HashMap<NodeRefusal, Refused>,
    /// Verified requests that a limit of their account refused.
    pub limited: HashMap<(Arc<str>, Limiter), u64>,
    /// Requests that failed, one by one.
    pub failed_requests: FailedRequests,
    /// Events whose subject found no place.
    pub uncounted: u64,
}

/// Whose request did not verify, and why.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Claimant {
    /// The access key that the request names, unverified: at most [`CLAIM_LENGTH`] characters of it. Empty if it
    /// names none.
    pub access_key: CompactString,
    /// The length of the whole access key in characters.
    pub length: usize,
    /// Why the request did not verify.
    pub class: AuthResult,
}

/// Requests that did not verify.
#[derive(Clone, Copy, Debug)]
pub struct Unverified {
    /// Their number.
    pub count: u64,
    /// Of these, those that shadow authentication forwarded.
    pub shadowed: u64,
    /// The address of the last client.
    pub address: IpAddr,
    /// How many seconds the last signature was ahead of the gateway's clock; 0 unless it was stale.
    pub seconds_ahead: i64,
}

/// The node and the access key of refused requests.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct NodeRefusal {
    /// The cluster.
    pub cluster: Arc<str>,
    /// `host:port` of the node.
    pub node: Arc<str>,
    /// The verified access key.
    pub access_key: Arc<str>,
}

/// Requests that a node refused.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// Their number.
    pub count: u64,
    /// The status of the last response: 401 or 403.
    pub status: u16,
    /// How many seconds the `Date` of the last response was ahead of the gateway's clock; `None` without a
    /// readable one.
    pub seconds_ahead: Option<i64>,
}

/// One event.
#[derive(Clone, Debug)]
pub enum Incident {
    /// A request that did not verify.
    Unverified(Claimant, Unverified),
    /// A verified request that a node refused.
    NodeRefused(NodeRefusal, Refused),
    /// A verified request that a limit of this access key, or of the caller of this name, refused.
    Limited(Arc<str>, Limiter),
}

impl Claimant {
    /// Shortens the claimed access key to [`CLAIM_LENGTH`] characters.
    pub fn new(access_key: &str, class: AuthResult) -> Self {
        Self {
            access_key: access_key.chars().take(CLAIM_LENGTH).collect(),
            length: access_key.chars().count(),
            class,
        }
    }
}

impl Incidents {
    /// Adds one event.
    pub(super) fn note(&mut self, incident: Incident) {
        let is_noted = match incident {
            Incident::Unverified(claimant, event) => {
                add(&mut self.unverified, claimant, event, |sum| {
                    *sum = event.after(*sum);
                })
            }
            Incident::NodeRefused(refusal, event) => {
                add(&mut self.node_refusals, refusal, event, |sum| {
                    *sum = event.after(sum.count);
                })
            }
            Incident::Limited(access_key, limiter) => {
                add(&mut self.limited, (access_key, limiter), 1, |sum| *sum += 1)
            }
        };
        self.uncounted += u64::from(!is_noted);
    }

    /// Adds all events of `other`.
    pub fn merge(&mut self, other: Self) {
        for (claimant, event) in other.unverified {
            let sum = self.unverified.entry(claimant);
            sum.and_modify(|sum| *sum = event.after(*sum))
                .or_insert(event);
        }
        for (refusal, event) in other.node_refusals {
            let sum = self.node_refusals.entry(refusal);
            sum.and_modify(|sum| *sum = event.after(sum.count))
                .or_insert(event);
        }
        for (subject, count) in other.limited {
            *self.limited.entry(subject).or_default() += count;
        }
        self.failed_requests.merge(other.failed_requests);
        self.uncounted += other.uncounted;
    }
}

impl Unverified {
    fn after(self, earlier: Self) -> Self {
        Self {
            count: self.count + earlier.count,
            shadowed: self.shadowed + earlier.shadowed,
            ..self
        }
    }
}

impl Refused {
    fn after(self, earlier: u64) -> Self {
        Self {
            count: self.count + earlier,
            ..self
        }
    }
}

/// Returns false, and adds nothing, if the map is full and does not have the subject.
fn add<K: Eq + Hash, V>(
    map: &mut HashMap<K, V>,
    subject: K,
    event: V,
    again: impl FnOnce(&mut V),
) -> bool {
    if let Some(sum) = map.get_mut(&subject) {
        again(sum);
        return true;
    }
    let has_place = map.len() < MAX_SUBJECTS;
    if has_place {
        map.insert(subject, event);
    }
    has_place
}

/// How many characters of a claimed access key are kept. Our choice: observed ones have at most 32.
pub const CLAIM_LENGTH: usize = 64;

/// Subjects of one kind and worker between two readings, a second apart. Our choice: about 50 KiB.
const MAX_SUBJECTS: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn unverified(access_key: &str) -> Incident {
        let event = Unverified {
            count: 1,
            shadowed: 0,
            address: IpAddr::from([127, 0, 0, 1]),
            seconds_ahead: 0,
        };
        Incident::Unverified(Claimant::new(access_key, AuthResult::UnknownKey), event)
    }

    #[test]
    fn events_of_all_workers_are_summed_by_subject_and_taken_once() {
        let metrics = Metrics::default();
        let (one, two) = (metrics.add_shard(), metrics.add_shard());
        one.note(unverified("ak"));
        two.note(unverified("ak"));
        two.note(unverified(&"x".repeat(100)));
        let taken = metrics.take_incidents();
        let of = |name: &str| {
            let found = taken
                .unverified
                .iter()
                .find(|(it, _)| it.access_key == name);
            found.map(|(claimant, event)| (claimant.length, event.count))
        };
        assert_eq!(of("ak"), Some((2, 2)));
        assert_eq!(of(&"x".repeat(CLAIM_LENGTH)), Some((100, 1)));
        assert!(metrics.take_incidents().unverified.is_empty());
    }

    #[test]
    fn a_million_subjects_take_bounded_places() {
        let metrics = Metrics::default();
        let shard = metrics.add_shard();
        shard.note(unverified("first"));
        for number in 0..10_000 {
            shard.note(unverified(&number.to_string()));
        }
        shard.note(unverified("first"));
        let taken = metrics.take_incidents();
        assert_eq!(taken.unverified.len(), MAX_SUBJECTS);
        assert_eq!(taken.uncounted, 10_001 - MAX_SUBJECTS as u64);
        let first = Claimant::new("first", AuthResult::UnknownKey);
        assert_eq!(taken.unverified[&first].count, 2);
    }
}
