//! Tokens that verified, by their digest, so that a further request costs a hash instead of a signature. Readers wait
//! for nothing; whoever adds a token copies the table, which costs less than the signature did.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{Context, SHA256};
use foldhash::quality::RandomState;
use jiff::Timestamp;

use super::claims::TokenTimes;

/// The SHA-256 of a token and of the callers among which it identifies one.
pub(super) type TokenDigest = [u8; 32];

/// Computes the digest of a token among callers: what is remembered among some counts for no others, of which it may
/// fit two.
pub(super) fn digest(among: &[VerifierId], text: &[u8]) -> TokenDigest {
    let mut digest = Context::new(&SHA256);
    digest.update(&(among.len() as u64).to_be_bytes());
    for id in among {
        digest.update(&id.0.to_be_bytes());
    }
    digest.update(text);
    // Its length is 32.
    digest.finish().as_ref().try_into().unwrap_or_default()
}

/// Names the verifier of a caller with its rules; no other one of the process has the same.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct VerifierId(u64);

impl VerifierId {
    /// Returns one that was not given out before.
    pub(super) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
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
