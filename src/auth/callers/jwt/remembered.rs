//! Tokens that verified, by their digest, so that a further request costs a hash instead of a signature. Readers wait
//! for nothing; whoever adds a token copies the table, which costs less than the signature did.

use std::collections::HashMap;

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{self, SHA256};
use foldhash::quality::RandomState;
use jiff::Timestamp;

use super::claims::TokenTimes;

/// The SHA-256 of a token.
pub(super) type TokenDigest = [u8; 32];

/// Computes the digest of a token.
pub(super) fn digest(text: &[u8]) -> TokenDigest {
    let digest = digest::digest(&SHA256, text);
    // Its length is 32.
    digest.as_ref().try_into().unwrap_or_default()
}

type Times = HashMap<TokenDigest, TokenTimes, RandomState>;

/// The tokens of one caller.
#[derive(Debug, Default)]
pub(super) struct RememberedTokens(ArcSwap<Times>);

impl RememberedTokens {
    /// Whether a token verified before, and counts at `now`.
    pub(super) fn contains(&self, digest: &TokenDigest, now: Timestamp) -> bool {
        let tokens = self.0.load();
        tokens
            .get(digest)
            .is_some_and(|times| times.check(now).is_ok())
    }

    /// Remembers a token. Where there is no room, the one that ends first is forgotten.
    pub(super) fn insert(&self, digest: TokenDigest, times: TokenTimes, now: Timestamp) {
        self.0.rcu(|tokens| {
            let mut tokens = Times::clone(tokens);
            if tokens.len() >= MAX_TOKENS {
                tokens.retain(|_, times| times.check(now).is_ok());
            }
            if tokens.len() >= MAX_TOKENS {
                let first = tokens.iter().min_by_key(|(_, times)| times.expires());
                if let Some(first) = first.map(|(digest, _)| *digest) {
                    tokens.remove(&first);
                }
            }
            tokens.insert(digest, times);
            tokens
        });
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.load().len()
    }
}

/// Of one caller: about 64 KiB.
pub(super) const MAX_TOKENS: usize = 1_024;
