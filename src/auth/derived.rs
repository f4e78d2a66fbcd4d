//! The signing keys of recent successes, so that a busy caller's next request costs one HMAC and not
//! three. One small table per thread: nothing is shared, nothing is locked.

use std::cell::RefCell;
use std::hash::BuildHasher;

use aws_lc_rs::hmac;

use super::Secret;

/// The start of a signature with the key derived from `secret` for `prefix`, if it was kept.
pub(super) fn find(prefix: &str, secret: &Secret) -> Option<hmac::Context> {
    TABLE.with_borrow_mut(|table| table.find(prefix, secret.id()).map(hmac::Context::with_key))
}

/// Keeps the key derived from `secret` for `prefix`.
pub(super) fn keep(prefix: &str, secret: &Secret, key: hmac::Key) {
    TABLE.with_borrow_mut(|table| table.keep(prefix, secret.id(), key));
}

/// Many small sets, each in the order of last use: as quick to search as a hash map, and bounded
/// without any bookkeeping.
struct Table {
    hasher: foldhash::fast::RandomState,
    sets: Vec<[Option<Box<Entry>>; WAYS]>,
}

struct Entry {
    hash: u64,
    /// A rotated secret has another id, and so never meets the keys of the old one.
    secret_id: u64,
    prefix: Box<str>,
    key: hmac::Key,
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

    fn find(&mut self, prefix: &str, secret_id: u64) -> Option<&hmac::Key> {
        let hash = self.hash(prefix, secret_id);
        let set = self.set(hash);
        let is_it = |entry: &Entry| {
            entry.hash == hash && entry.secret_id == secret_id && *entry.prefix == *prefix
        };
        let way = set
            .iter()
            .position(|entry| entry.as_deref().is_some_and(is_it))?;
        set[..=way].rotate_right(1);
        set[0].as_deref().map(|entry| &entry.key)
    }

    fn keep(&mut self, prefix: &str, secret_id: u64, key: hmac::Key) {
        let hash = self.hash(prefix, secret_id);
        let set = self.set(hash);
        set.rotate_right(1);
        set[0] = Some(Box::new(Entry {
            hash,
            secret_id,
            prefix: prefix.into(),
            key,
        }));
    }

    fn hash(&self, prefix: &str, secret_id: u64) -> u64 {
        self.hasher.hash_one((prefix, secret_id))
    }

    fn set(&mut self, hash: u64) -> &mut [Option<Box<Entry>>; WAYS] {
        &mut self.sets[hash as usize % SETS]
    }
}

thread_local! {
    static TABLE: RefCell<Table> = RefCell::new(Table::new());
}

/// With four ways: 1,024 keys, at most 1.5 MiB a thread. A key is of use for the second in which its
/// prefix was written, so this is the number of callers that one thread serves in a second.
const SETS: usize = 256;

const WAYS: usize = 4;

#[cfg(test)]
mod tests;
