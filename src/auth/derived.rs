//! A cache of derived signing keys: a further request of the same caller in the same second costs one HMAC
//! instead of three. One small table per thread, without sharing or locks.

use std::cell::RefCell;
use std::hash::BuildHasher;

use super::Secret;
use super::mac::Mac;

/// Returns the cached MAC, keyed with the key derived from `secret` for `prefix`.
pub(super) fn get(prefix: &str, secret: &Secret) -> Option<Mac> {
    TABLE.with_borrow_mut(|table| table.get(prefix, secret.id()).cloned())
}

/// Caches the MAC keyed with the key derived from `secret` for `prefix`.
pub(super) fn insert(prefix: &str, secret: &Secret, key: Mac) {
    TABLE.with_borrow_mut(|table| table.insert(prefix, secret.id(), key));
}

/// A set-associative cache, each set in the order of last use: as fast to search as a hash map, and bounded
/// without bookkeeping.
struct Table {
    hasher: foldhash::fast::RandomState,
    sets: Vec<[Option<Slot>; WAYS]>,
}

/// The hash is beside the pointer, so a set is searched without touching its entries.
struct Slot {
    hash: u64,
    entry: Box<Entry>,
}

struct Entry {
    /// A rotated secret has another id, so it never matches keys derived from the old one.
    secret_id: u64,
    key: Mac,
    length: usize,
    /// Beside the key, so that a lookup touches one allocation.
    prefix: [u8; MAX_PREFIX],
}

impl Entry {
    fn matches(&self, prefix: &str, secret_id: u64) -> bool {
        self.secret_id == secret_id && self.prefix.get(..self.length) == Some(prefix.as_bytes())
    }
}

impl Table {
    fn new() -> Self {
        Self {
            hasher: foldhash::fast::RandomState::default(),
            sets: std::iter::repeat_with(Default::default)
                .take(SETS)
                .collect(),
        }
    }

    fn get(&mut self, prefix: &str, secret_id: u64) -> Option<&Mac> {
        let hash = self.hash(prefix, secret_id);
        let set = self.set(hash);
        let is_it = |slot: &Slot| slot.hash == hash && slot.entry.matches(prefix, secret_id);
        let way = set
            .iter()
            .position(|slot| slot.as_ref().is_some_and(is_it))?;
        set[..=way].rotate_right(1);
        set[0].as_ref().map(|slot| &slot.entry.key)
    }

    fn insert(&mut self, prefix: &str, secret_id: u64, key: Mac) {
        let mut kept = [0; MAX_PREFIX];
        let Some(room) = kept.get_mut(..prefix.len()) else {
            return;
        };
        room.copy_from_slice(prefix.as_bytes());
        let hash = self.hash(prefix, secret_id);
        let set = self.set(hash);
        set.rotate_right(1);
        let entry = Box::new(Entry {
            secret_id,
            key,
            length: prefix.len(),
            prefix: kept,
        });
        set[0] = Some(Slot { hash, entry });
    }

    fn hash(&self, prefix: &str, secret_id: u64) -> u64 {
        self.hasher.hash_one((prefix, secret_id))
    }

    fn set(&mut self, hash: u64) -> &mut [Option<Slot>; WAYS] {
        &mut self.sets[hash as usize % SETS]
    }
}

thread_local! {
    static TABLE: RefCell<Table> = RefCell::new(Table::new());
}

/// With eight ways: 8,192 keys, at most 2.2 MiB a thread. A key is useful during the second of its prefix,
/// and for a minute where a client signs ahead: 50 such callers need three times the 1,024 keys that a
/// smaller table had, and each of their requests then took 0.6 us longer.
const SETS: usize = 1024;

const WAYS: usize = 8;

/// Fits the prefixes of observed clients with an access key of 48 characters, and makes an entry 256 bytes.
/// The key of a longer prefix is derived each time.
const MAX_PREFIX: usize = 96;

#[cfg(test)]
mod tests;
