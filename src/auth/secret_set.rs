//! The set of all configured secrets, to recognise one that a client sent where it does not belong.

use std::hash::BuildHasher;

use foldhash::quality::RandomState;

use super::Secret;
use crate::sharded_map::ShardedMap;

/// Keyed hashes of secrets. It holds no secret, and its answer only decides how a text is shown, and whether a request
/// that did not verify is kept from the nodes.
pub struct SecretSet {
    hasher: RandomState,
    /// How many secrets have each hash.
    hashes: ShardedMap<u64, u32>,
}

impl SecretSet {
    /// Creates the set of these secrets.
    pub fn new<'a>(secrets: impl Iterator<Item = &'a Secret>) -> Self {
        let mut set = Self {
            hasher: RandomState::default(),
            hashes: ShardedMap::default(),
        };
        secrets.for_each(|secret| set.add(secret));
        set
    }

    /// Returns the set without some of its secrets and with others. Costs what changed.
    #[must_use]
    pub fn changed<'a>(
        &self,
        removed: impl Iterator<Item = &'a Secret>,
        added: impl Iterator<Item = &'a Secret>,
    ) -> Self {
        let mut set = Self {
            hasher: self.hasher.clone(),
            hashes: self.hashes.clone(),
        };
        added.for_each(|secret| set.add(secret));
        for secret in removed {
            let hash = set.hasher.hash_one(secret.bytes());
            match set.hashes.get(&hash) {
                Some(count) if *count > 1 => drop(set.hashes.insert(hash, count - 1)),
                _ => drop(set.hashes.remove(&hash)),
            }
        }
        set
    }

    fn add(&mut self, secret: &Secret) {
        let hash = self.hasher.hash_one(secret.bytes());
        let count = self.hashes.get(&hash).copied().unwrap_or_default();
        self.hashes.insert(hash, count.saturating_add(1));
    }

    /// Whether `text` equals one of the secrets.
    pub fn contains(&self, text: impl AsRef<[u8]>) -> bool {
        self.hashes
            .contains_key(&self.hasher.hash_one(text.as_ref()))
    }
}

impl std::fmt::Debug for SecretSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretSet({} secrets)", self.hashes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_secrets_are_recognised() {
        let secrets = ["first", "second"].map(|text| Secret::new(text.into()));
        let set = SecretSet::new(secrets.iter());
        assert!(set.contains("first") && set.contains("second"));
        assert!(!set.contains("firs") && !set.contains(""));
        assert_eq!(format!("{set:?}"), "SecretSet(2 secrets)");
    }

    #[test]
    fn a_secret_that_two_access_keys_have_stays_until_both_are_gone() {
        let [first, second] = ["first", "second"].map(|text| Secret::new(text.into()));
        let both = SecretSet::new([&first, &first].into_iter());
        let one = both.changed([&first].into_iter(), [&second].into_iter());
        assert!(one.contains("first") && one.contains("second"));
        let none = one.changed([&first, &second].into_iter(), std::iter::empty());
        assert!(!none.contains("first") && !none.contains("second"));
        assert!(both.contains("first") && !both.contains("second"));
    }
}
