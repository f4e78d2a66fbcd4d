//! Orders that disable and enable access keys, from whichever replica they came. Each has a number that
//! grows with the orders of its access key: the larger number wins, and of equal numbers the one that
//! disables. No IO; records are sealed in transit and in the store.

use std::collections::{BTreeMap, BTreeSet};

use crate::auth::AccessKey;
use crate::config::TableDigest;

/// One order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OrderRecord {
    /// Grows with each order of the access key.
    pub number: u64,
    /// Whether it disables the access key.
    pub is_disabled: bool,
    /// The table of the access key when the order was given, at the replica that got it.
    pub table: TableDigest,
    /// The access key.
    pub access_key: AccessKey,
}

/// When an order of another replica was given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OrderOrigin {
    /// Now: it holds for the table that the access key has here, too.
    Live,
    /// At any time before: it holds only for the table that it was given for.
    Stored,
}

impl OrderRecord {
    /// Whether this order prevails over another one of the same access key.
    fn prevails_over(&self, other: &Self) -> bool {
        (self.number, self.is_disabled) > (other.number, other.is_disabled)
    }

    /// Returns the encoding that is sealed: number (8 bytes), disabled (1), table (16), access key.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.number.to_be_bytes().to_vec();
        bytes.push(u8::from(self.is_disabled));
        bytes.extend_from_slice(&self.table.to_bytes());
        bytes.extend_from_slice(self.access_key.as_str().as_bytes());
        bytes
    }

    /// Decodes [`OrderRecord::to_bytes`]; returns `None` for anything else.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (number, rest) = bytes.split_first_chunk()?;
        let (&is_disabled, rest) = rest.split_first()?;
        let (table, name) = rest.split_first_chunk()?;
        let name = std::str::from_utf8(name).ok()?;
        let is_valid = is_disabled <= 1 && AccessKey::is_well_formed(name);
        is_valid.then(|| Self {
            number: u64::from_be_bytes(*number),
            is_disabled: is_disabled == 1,
            table: TableDigest::from_bytes(*table),
            access_key: name.into(),
        })
    }
}

/// The last order of each access key, and those that the store has not acknowledged.
#[derive(Clone, Debug, Default)]
pub(super) struct OrderLog {
    records: BTreeMap<AccessKey, OrderRecord>,
    unpublished: BTreeSet<AccessKey>,
}

impl OrderLog {
    /// Makes the next order of an access key, which is to be published.
    pub(super) fn give(
        &mut self,
        access_key: &AccessKey,
        is_disabled: bool,
        table: TableDigest,
    ) -> OrderRecord {
        let before = self
            .records
            .get(access_key)
            .map_or(0, |record| record.number);
        let record = OrderRecord {
            number: before.saturating_add(1),
            is_disabled,
            table,
            access_key: access_key.clone(),
        };
        self.records.insert(access_key.clone(), record.clone());
        self.unpublished.insert(access_key.clone());
        record
    }

    /// Takes an order of another replica; returns whether it prevails.
    pub(super) fn take(&mut self, record: &OrderRecord) -> bool {
        let known = self.records.get(&record.access_key);
        if known.is_some_and(|known| !record.prevails_over(known)) {
            return false;
        }
        if known.is_none() && self.records.len() >= MAX_ORDERS {
            return false;
        }
        self.unpublished.remove(&record.access_key);
        self.records
            .insert(record.access_key.clone(), record.clone());
        true
    }

    /// Returns an order that is not published.
    pub(super) fn next_unpublished(&self) -> Option<OrderRecord> {
        let access_key = self.unpublished.first()?;
        self.records.get(access_key).cloned()
    }

    /// Records that the store has an order.
    pub(super) fn acknowledge(&mut self, record: &OrderRecord) {
        if self.records.get(&record.access_key) == Some(record) {
            self.unpublished.remove(&record.access_key);
        }
    }

    /// Whether an order of the access key is not published yet.
    pub(super) fn is_unpublished(&self, access_key: &AccessKey) -> bool {
        self.unpublished.contains(access_key)
    }

    /// Returns the last order of each access key.
    pub(super) fn all(&self) -> Vec<OrderRecord> {
        self.records.values().cloned().collect()
    }
}

/// As many as there are access keys at most; further ones are only what other systems write.
const MAX_ORDERS: usize = 100_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(number: u64, is_disabled: bool) -> OrderRecord {
        OrderRecord {
            number,
            is_disabled,
            table: TableDigest::from_bytes([7; 16]),
            access_key: "ak".into(),
        }
    }

    #[test]
    fn the_larger_number_wins_and_a_tie_is_disabled() {
        let mut log = OrderLog::default();
        assert!(log.take(&record(3, false)));
        assert!(!log.take(&record(2, true)) && !log.take(&record(3, false)));
        assert!(log.take(&record(3, true)));
        assert!(!log.take(&record(3, false)));
        assert!(log.take(&record(4, false)));
        let given = log.give(&"ak".into(), true, TableDigest::default());
        assert_eq!((given.number, given.is_disabled), (5, true));
        assert_eq!(log.next_unpublished(), Some(given.clone()));
        log.acknowledge(&record(4, false));
        assert!(log.is_unpublished(&"ak".into()));
        log.acknowledge(&given);
        assert_eq!(log.next_unpublished(), None);
        log.give(&"ak".into(), false, TableDigest::default());
        assert!(log.take(&record(9, true)), "another replica was faster");
        assert_eq!(log.next_unpublished(), None);
    }

    proptest! {
        #[test]
        fn a_record_round_trips(number: u64, is_disabled: bool, table: [u8; 16], name in "[!-.0-~]{1,128}") {
            let record = OrderRecord {
                number,
                is_disabled,
                table: TableDigest::from_bytes(table),
                access_key: name.as_str().into(),
            };
            prop_assert_eq!(OrderRecord::from_bytes(&record.to_bytes()), Some(record));
        }

        #[test]
        fn decoding_arbitrary_bytes_does_not_panic(bytes: Vec<u8>) {
            let _ = OrderRecord::from_bytes(&bytes);
        }
    }
}
