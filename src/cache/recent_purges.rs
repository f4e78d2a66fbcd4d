//! The recent purges, for fetches that began before one of them: only what a purge covers is not stored.
//! Bounded: if there are more than [`MAX_PURGES`], all are forgotten, and fetches that began before that
//! moment count as covered.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::purge_set::PurgeSet;
use crate::auth::AccessKey;
use crate::message::Purge;

/// The recent purges, each with its last epoch.
#[derive(Debug, Default)]
pub(super) struct RecentPurges {
    last: HashMap<Purge, u64, RandomState>,
    /// The purges up to this epoch are forgotten.
    forgotten: u64,
}

impl RecentPurges {
    /// Adds the purges of a set, which began with `epoch`.
    pub(super) fn add(&mut self, set: &PurgeSet, epoch: u64) {
        if self.last.len() + set.len() > MAX_PURGES {
            // Not cleared, so that the memory of an unusually large table is returned.
            self.last = HashMap::default();
            self.forgotten = epoch;
        } else {
            self.last.extend(set.purges().map(|purge| (purge, epoch)));
        }
    }

    /// Whether a purge covers the response of a fetch that began in `epoch`.
    pub(super) fn covers(&self, access_key: &AccessKey, call_id: Option<&str>, epoch: u64) -> bool {
        let began_after = |access_key: Option<&AccessKey>, call_id: Option<&str>| {
            let purge = Purge {
                access_key: access_key.cloned(),
                call_id: call_id.map(Into::into),
            };
            self.last.get(&purge).is_some_and(|last| epoch < *last)
        };
        epoch < self.forgotten
            || began_after(None, None)
            || began_after(Some(access_key), None)
            || call_id.is_some() && began_after(None, call_id)
            || call_id.is_some() && began_after(Some(access_key), call_id)
    }
}

/// Our choice: more purges than operators and replicas send during one fetch, in less than 1 MiB.
const MAX_PURGES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn purge(access_key: Option<&str>, call_id: Option<&str>) -> Purge {
        Purge {
            access_key: access_key.map(Into::into),
            call_id: call_id.map(Into::into),
        }
    }

    #[test]
    fn a_purge_covers_what_it_names_and_began_before_it() {
        for (named, covered) in [
            (purge(None, None), [true, true, true, true]),
            (purge(Some("a"), None), [true, true, true, false]),
            (purge(None, Some("1")), [true, false, false, true]),
            (purge(Some("a"), Some("1")), [true, false, false, false]),
        ] {
            let mut recent = RecentPurges::default();
            recent.add(&named.clone().into(), 5);
            recent.add(&purge(Some("x"), Some("y")).into(), 6);
            let fetches = [
                ("a", Some("1")),
                ("a", Some("2")),
                ("a", None),
                ("b", Some("1")),
            ];
            for ((access_key, call_id), covered) in fetches.into_iter().zip(covered) {
                let is_covered = |epoch| recent.covers(&access_key.into(), call_id, epoch);
                assert_eq!(is_covered(4), covered, "{named:?} {access_key} {call_id:?}");
                assert!(!is_covered(5), "{named:?} {access_key} {call_id:?}");
            }
        }
    }

    #[test]
    fn too_many_purges_are_forgotten_and_cover_everything_before() {
        let mut recent = RecentPurges::default();
        let mut epoch = 0;
        let mut add = |recent: &mut RecentPurges, purges: std::ops::Range<usize>| {
            epoch += 1;
            let purges = purges.map(|nth| purge(None, Some(&nth.to_string())));
            recent.add(&purges.collect(), epoch);
        };
        add(&mut recent, 0..MAX_PURGES);
        assert!(!recent.covers(&"a".into(), Some("none"), 0));
        add(&mut recent, 0..1);
        assert_eq!(recent.last.len(), 0);
        assert!(recent.covers(&"a".into(), Some("none"), 1));
        assert!(!recent.covers(&"a".into(), Some("none"), 2));
        add(&mut recent, 0..1);
        assert!(recent.covers(&"a".into(), Some("0"), 2));
        assert!(!recent.covers(&"a".into(), Some("none"), 2));
        add(&mut recent, 0..MAX_PURGES + 1);
        assert_eq!(recent.last.len(), 0);
        assert!(recent.covers(&"a".into(), Some("none"), 3));
    }
}
