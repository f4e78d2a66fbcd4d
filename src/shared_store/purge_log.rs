//! The log of purges, from whichever replica they came. Replicas share no clock and no order of
//! events, so each value in the store carries the ids of the purges that its replica had recorded when
//! the fetch began. A reader that has recorded any other purge that covers the value must not use it. No
//! IO; records are sealed in transit.

use std::collections::VecDeque;

use crate::auth::AccessKey;
use crate::message::Purge;

/// The purges that this replica has recorded, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct PurgeLog {
    records: VecDeque<PurgeRecord>,
}

/// One purge.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct PurgeRecord {
    /// Random and unique over all replicas.
    pub(super) id: u64,
    pub(super) purge: Purge,
}

impl PurgeRecord {
    /// Creates a record with an id of its own.
    pub(super) fn new(purge: Purge) -> Self {
        Self {
            id: rand::random(),
            purge,
        }
    }

    /// Returns the encoding that is sealed and published: the id, then access key and callId, each as
    /// a presence byte, a length of 8 bytes and the text.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.id.to_be_bytes().to_vec();
        let ak = self.purge.access_key.as_ref().map(AccessKey::as_str);
        for part in [ak, self.purge.call_id.as_deref()] {
            bytes.push(u8::from(part.is_some()));
            let part = part.unwrap_or_default();
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }

    /// Decodes [`PurgeRecord::to_bytes`]; returns `None` for anything else.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (id, rest) = bytes.split_first_chunk()?;
        let (access_key, rest) = split_part(rest)?;
        let (call_id, rest) = split_part(rest)?;
        rest.is_empty().then(|| Self {
            id: u64::from_be_bytes(*id),
            purge: Purge {
                access_key: access_key.map(AccessKey::from),
                call_id: call_id.map(Into::into),
            },
        })
    }
}

/// Decodes one optional text and returns it with the bytes behind it.
fn split_part(bytes: &[u8]) -> Option<(Option<&str>, &[u8])> {
    let (&presence, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
    let (text, rest) = rest.split_at_checked(length)?;
    let text = std::str::from_utf8(text).ok()?;
    Some(((presence == 1).then_some(text), rest))
}

impl PurgeLog {
    /// Adds a purge; returns false if it is known already.
    pub(super) fn add(&mut self, record: PurgeRecord) -> bool {
        if self.records.iter().any(|known| known.id == record.id) {
            return false;
        }
        if record.purge.is_everything() {
            // It covers all purges before it.
            self.records.clear();
        }
        self.records.push_back(record);
        true
    }

    /// Whether there are more than [`MAX_PURGES`]; one purge of everything should replace them.
    pub(super) fn is_full(&self) -> bool {
        self.records.len() > MAX_PURGES
    }

    /// Returns the ids of all known purges that cover a value. A fetch that begins now is newer than
    /// these purges.
    pub(super) fn covering_ids(&self, access_key: &AccessKey, call_id: Option<&str>) -> Vec<u64> {
        let covering = self.records.iter();
        let covering = covering.filter(|record| record.purge.matches(access_key, call_id));
        covering.map(|record| record.id).collect()
    }

    /// Whether a purge covers a value whose replica had not recorded that purge; `known_ids` are the ids
    /// that the replica had recorded.
    pub(super) fn invalidates(
        &self,
        access_key: &AccessKey,
        call_id: Option<&str>,
        known_ids: &[u64],
    ) -> bool {
        self.records.iter().any(|record| {
            record.purge.matches(access_key, call_id) && !known_ids.contains(&record.id)
        })
    }
}

/// The number of purges that are kept here and in the store. Each is compared on each lookup, and the
/// ids of those that cover a value travel with it: 512 are 4 KiB.
pub(super) const MAX_PURGES: usize = 512;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(access_key: Option<&str>, call_id: Option<&str>) -> PurgeRecord {
        PurgeRecord::new(Purge {
            access_key: access_key.map(AccessKey::from),
            call_id: call_id.map(Into::into),
        })
    }

    #[test]
    fn a_purge_that_its_replica_did_not_know_invalidates_a_value() {
        let (ak, other) = (AccessKey::from("ak"), AccessKey::from("other"));
        let mut log = PurgeLog::default();
        let before = log.covering_ids(&ak, Some("c"));
        assert!(!log.invalidates(&ak, Some("c"), &before));
        let purge = record(Some("ak"), None);
        assert!(log.add(purge.clone()));
        assert!(!log.add(purge));
        assert!(log.invalidates(&ak, Some("c"), &before));
        assert!(!log.invalidates(&other, Some("c"), &before));
        let after = log.covering_ids(&ak, Some("c"));
        assert!(!log.invalidates(&ak, Some("c"), &after));
    }

    #[test]
    fn a_purge_of_everything_covers_all_before_it() {
        let ak = AccessKey::from("ak");
        let everything = record(None, None);
        let (mut old, mut new) = (PurgeLog::default(), PurgeLog::default());
        old.add(record(Some("ak"), Some("c")));
        let before = old.covering_ids(&ak, Some("c"));
        for replica in [&mut old, &mut new] {
            replica.add(everything.clone());
        }
        assert!(new.invalidates(&ak, Some("c"), &before));
        // A value of a replica that never knew the first purge is valid for one that knew it.
        assert!(!old.invalidates(&ak, Some("c"), &new.covering_ids(&ak, Some("c"))));
    }

    #[test]
    fn more_than_the_maximum_is_full() {
        let mut log = PurgeLog::default();
        for _ in 0..MAX_PURGES {
            log.add(record(Some("ak"), None));
        }
        assert!(!log.is_full());
        log.add(record(Some("ak"), None));
        assert!(log.is_full());
        log.add(record(None, None));
        assert!(!log.is_full());
    }

    proptest! {
        #[test]
        fn a_record_round_trips(ak: Option<String>, call_id: Option<String>) {
            let record = record(ak.as_deref(), call_id.as_deref());
            prop_assert_eq!(PurgeRecord::from_bytes(&record.to_bytes()), Some(record));
        }

        #[test]
        fn decoding_arbitrary_bytes_does_not_panic(bytes: Vec<u8>) {
            let _ = PurgeRecord::from_bytes(&bytes);
        }
    }
}
