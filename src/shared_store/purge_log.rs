//! What was purged anywhere. There is no clock and no order that all replicas agree on, so an answer
//! in the store tells which purges the replica that fetched it knew of when it began: it is void as
//! soon as a reader knows of another one that covers it. Pure; the records travel sealed.

use std::collections::VecDeque;

use crate::auth::AccessKey;
use crate::message::Purge;

/// The purges that a replica knows of.
#[derive(Clone, Debug, Default)]
pub(super) struct PurgeLog {
    records: VecDeque<PurgeRecord>,
}

/// One purge, wherever it was ordered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct PurgeRecord {
    /// Random: no two purges have the same.
    pub(super) id: u64,
    pub(super) purge: Purge,
}

impl PurgeRecord {
    /// A new one.
    pub(super) fn new(purge: Purge) -> Self {
        Self {
            id: rand::random(),
            purge,
        }
    }

    /// As bytes, to be sealed.
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

    /// From [`Record::to_bytes`]; `None` for anything else.
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

fn split_part(bytes: &[u8]) -> Option<(Option<&str>, &[u8])> {
    let (&there, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
    let (text, rest) = rest.split_at_checked(length)?;
    let text = std::str::from_utf8(text).ok()?;
    Some(((there == 1).then_some(text), rest))
}

impl PurgeLog {
    /// Takes in a purge; false if it is known.
    pub(super) fn add(&mut self, record: PurgeRecord) -> bool {
        if self.records.iter().any(|known| known.id == record.id) {
            return false;
        }
        if record.purge.is_everything() {
            // Who knows of it need not know of those before.
            self.records.clear();
        }
        self.records.push_back(record);
        true
    }

    /// Too many to be kept in mind: time for one that covers all.
    pub(super) fn is_full(&self) -> bool {
        self.records.len() > MAX_PURGES
    }

    /// The purges that an answer which is fetched from now on need not fear.
    pub(super) fn covering_ids(&self, access_key: &AccessKey, call_id: Option<&str>) -> Vec<u64> {
        let covering = self.records.iter();
        let covering = covering.filter(|record| record.purge.matches(access_key, call_id));
        covering.map(|record| record.id).collect()
    }

    /// Is there a purge that covers an answer, and that is none of those its replica knew of?
    pub(super) fn invalidates(
        &self,
        access_key: &AccessKey,
        call_id: Option<&str>,
        knew: &[u64],
    ) -> bool {
        self.records
            .iter()
            .any(|record| record.purge.matches(access_key, call_id) && !knew.contains(&record.id))
    }
}

/// Purges that are kept in mind, here and in the store; one more, and all is purged.
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
    fn an_answer_is_void_by_a_purge_that_its_replica_did_not_know() {
        let (ak, other) = (AccessKey::from("ak"), AccessKey::from("other"));
        let mut here = PurgeLog::default();
        let before = here.covering_ids(&ak, Some("c"));
        assert!(!here.invalidates(&ak, Some("c"), &before));
        let purge = record(Some("ak"), None);
        assert!(here.add(purge.clone()));
        assert!(!here.add(purge));
        assert!(here.invalidates(&ak, Some("c"), &before));
        assert!(!here.invalidates(&other, Some("c"), &before));
        let after = here.covering_ids(&ak, Some("c"));
        assert!(!here.invalidates(&ak, Some("c"), &after));
    }

    #[test]
    fn a_purge_of_everything_stands_for_all_before_it() {
        let ak = AccessKey::from("ak");
        let everything = record(None, None);
        let (mut old, mut new) = (PurgeLog::default(), PurgeLog::default());
        old.add(record(Some("ak"), Some("c")));
        let before = old.covering_ids(&ak, Some("c"));
        for replica in [&mut old, &mut new] {
            replica.add(everything.clone());
        }
        assert!(new.invalidates(&ak, Some("c"), &before));
        // What a replica stores that has never known the first is good for one that has.
        assert!(!old.invalidates(&ak, Some("c"), &new.covering_ids(&ak, Some("c"))));
    }

    #[test]
    fn too_many_are_told() {
        let mut purges = PurgeLog::default();
        for _ in 0..MAX_PURGES {
            purges.add(record(Some("ak"), None));
        }
        assert!(!purges.is_full());
        purges.add(record(Some("ak"), None));
        assert!(purges.is_full());
        purges.add(record(None, None));
        assert!(!purges.is_full());
    }

    proptest! {
        #[test]
        fn records_travel(ak: Option<String>, call_id: Option<String>) {
            let record = record(ak.as_deref(), call_id.as_deref());
            prop_assert_eq!(PurgeRecord::from_bytes(&record.to_bytes()), Some(record));
        }

        #[test]
        fn garbage_is_no_record(garbage: Vec<u8>) {
            let _ = PurgeRecord::from_bytes(&garbage);
        }
    }
}
