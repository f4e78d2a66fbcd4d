//! The set of all configured secrets, to recognise one that a client sent where an access key belongs.

use std::collections::HashSet;
use std::hash::BuildHasher;

use foldhash::quality::RandomState;

use super::Secret;

/// Keyed hashes of secrets. It holds no secret, and its answer only decides how a text is shown.
pub struct SecretSet {
    hasher: RandomState,
    hashes: HashSet<u64, RandomState>,
}

impl SecretSet {
    /// Creates the set of these secrets.
    pub fn new<'a>(secrets: impl Iterator<Item = &'a Secret>) -> Self {
        let hasher = RandomState::default();
        Self {
            hashes: secrets
                .map(|secret| hasher.hash_one(secret.bytes()))
                .collect(),
            hasher,
        }
    }

    /// Whether `text` equals one of the secrets.
    pub fn contains(&self, text: &str) -> bool {
        self.hashes.contains(&self.hasher.hash_one(text.as_bytes()))
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
}
