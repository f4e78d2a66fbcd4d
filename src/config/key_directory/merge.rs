//! Which place an access key is taken from. An access key is in force in one place: the place that had
//! it keeps it, and a file that brings it a second time is refused as a whole. If no place had it, it is
//! in force in none of them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::AccountSource;
use crate::auth::AccessKey;
use crate::config::{AccessKeys, AccountSettings};

/// Access keys that are in several places, with the account in each.
pub(super) type Contested = BTreeMap<AccessKey, Vec<Arc<AccountSettings>>>;

/// New accounts of one place.
pub(super) struct Candidate<'a> {
    pub(super) source: AccountSource,
    /// The access keys that the place held before.
    pub(super) before: &'a [AccessKey],
    /// All accounts that it holds now; none if it is gone.
    pub(super) accounts: &'a [Arc<AccountSettings>],
}

/// A place that brought an access key which another place holds; all that it brought is refused.
#[derive(Debug)]
pub(super) struct Conflict {
    pub(super) source: AccountSource,
    pub(super) access_key: AccessKey,
    pub(super) holder: AccountSource,
}

/// The accounts of all places.
pub(super) struct Merged {
    pub(super) access_keys: AccessKeys,
    pub(super) contested: Contested,
    pub(super) conflicts: Vec<Conflict>,
}

/// The accounts of one access key in the candidates.
struct Claim<'a> {
    first: &'a Arc<AccountSettings>,
    others: Vec<&'a Arc<AccountSettings>>,
}

struct Merge<'a> {
    before: &'a AccessKeys,
    contested: &'a Contested,
    claims: HashMap<&'a AccessKey, Claim<'a>, RandomState>,
    /// The places whose new accounts count: candidates that are not refused.
    active: HashSet<AccountSource, RandomState>,
}

/// Merges the new accounts of some places with those of all others.
pub(super) fn merge(
    before: &AccessKeys,
    contested: &Contested,
    candidates: &[Candidate<'_>],
) -> Merged {
    if before.is_empty()
        && contested.is_empty()
        && let Some(access_keys) = first(candidates)
    {
        return Merged {
            access_keys,
            contested: Contested::new(),
            conflicts: Vec::new(),
        };
    }
    let mut merge = Merge {
        before,
        contested,
        claims: claims(candidates),
        active: candidates.iter().map(|it| it.source).collect(),
    };
    let mut conflicts = Vec::new();
    // A refused place keeps its accounts, which can conflict with those of another candidate.
    loop {
        let found = merge.conflicts();
        if found.is_empty() {
            break;
        }
        for conflict in found {
            merge.active.remove(&conflict.source);
            conflicts.push(conflict);
        }
    }
    let (access_keys, contested) = merge.apply(candidates);
    Merged {
        access_keys,
        contested,
        conflicts,
    }
}

/// Returns the accounts of the first generation; `None` if two places have the same access key.
fn first(candidates: &[Candidate<'_>]) -> Option<AccessKeys> {
    let mut access_keys = AccessKeys::default();
    for account in candidates.iter().flat_map(|it| it.accounts) {
        let access_key = account.credential.access_key().clone();
        if access_keys.insert(access_key, account.clone()).is_some() {
            return None;
        }
    }
    Some(access_keys)
}

fn claims<'a>(candidates: &[Candidate<'a>]) -> HashMap<&'a AccessKey, Claim<'a>, RandomState> {
    let count = candidates.iter().map(|it| it.accounts.len()).sum();
    let mut claims: HashMap<_, Claim<'a>, _> =
        HashMap::with_capacity_and_hasher(count, RandomState::default());
    for account in candidates.iter().flat_map(|it| it.accounts) {
        claims
            .entry(account.credential.access_key())
            .and_modify(|claim| claim.others.push(account))
            .or_insert(Claim {
                first: account,
                others: Vec::new(),
            });
    }
    claims
}

impl<'a> Merge<'a> {
    /// Returns the accounts of an access key in the places whose new accounts count.
    fn active_claims(
        &self,
        access_key: &AccessKey,
    ) -> impl Iterator<Item = &'a Arc<AccountSettings>> {
        let claim = self.claims.get(access_key);
        let all = claim
            .into_iter()
            .flat_map(|claim| std::iter::once(claim.first).chain(claim.others.iter().copied()));
        all.filter(|account| self.active.contains(&account.source))
    }

    /// Returns the place that had an access key and still has it.
    fn holder(&self, access_key: &AccessKey) -> Option<AccountSource> {
        let source = self.before.get(access_key)?.source;
        let has_it = !self.active.contains(&source)
            || self.active_claims(access_key).any(|it| it.source == source);
        has_it.then_some(source)
    }

    /// Returns one conflict of each place that has any.
    fn conflicts(&self) -> Vec<Conflict> {
        let mut found: BTreeMap<AccountSource, Conflict> = BTreeMap::new();
        for &access_key in self.claims.keys() {
            let Some(holder) = self.holder(access_key) else {
                continue;
            };
            for account in self.active_claims(access_key) {
                let source = account.source;
                if source != holder {
                    let access_key = access_key.clone();
                    found.entry(source).or_insert(Conflict {
                        source,
                        access_key,
                        holder,
                    });
                }
            }
        }
        found.into_values().collect()
    }

    fn apply(&self, candidates: &[Candidate<'_>]) -> (AccessKeys, Contested) {
        let mut access_keys = self.before.clone();
        let mut contested = self.contested.clone();
        let active = candidates
            .iter()
            .filter(|it| self.active.contains(&it.source));
        for candidate in active {
            for access_key in candidate.before {
                let is_held = access_keys
                    .get(access_key)
                    .is_some_and(|account| account.source == candidate.source);
                let mut claims = self.active_claims(access_key);
                if is_held && !claims.any(|account| account.source == candidate.source) {
                    access_keys.remove(access_key);
                }
            }
        }
        let was_contested = self
            .contested
            .keys()
            .filter(|it| !self.claims.contains_key(it));
        for access_key in self.claims.keys().copied().chain(was_contested) {
            let holder = self.holder(access_key);
            let mut claims: Vec<_> = self.active_claims(access_key).collect();
            if let Some(holder) = holder {
                claims.retain(|account| account.source == holder);
            } else if let Some(before) = self.contested.get(access_key) {
                let kept = before.iter();
                claims.extend(kept.filter(|account| !self.active.contains(&account.source)));
            }
            match claims[..] {
                [] => {
                    contested.remove(access_key);
                }
                [account] => {
                    contested.remove(access_key);
                    let is_same = |before: &Arc<AccountSettings>| **before == **account;
                    if !access_keys.get(access_key).is_some_and(is_same) {
                        access_keys.insert(access_key.clone(), account.clone());
                    }
                }
                _ => {
                    let claims = claims.into_iter().cloned().collect();
                    contested.insert(access_key.clone(), claims);
                }
            }
        }
        (access_keys, contested)
    }
}
