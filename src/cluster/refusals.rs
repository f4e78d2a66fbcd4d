//! Nodes that refuse signatures (401), by access key.
//!
//! A client's own signature says little about a node: the client may be slow, or its clock may be off.
//! So after a refusal the gateway signs anew whatever that access key sends to that node; only a refusal of
//! such a signature counts.
//!
//! | what | then |
//! |---|---|
//! | a node refuses an access key that another node accepts | it is avoided for that key, [`AVOIDED_FOR`] |
//! | it does so for [`MANY_KEYS`] keys within [`WINDOW`], or for all that asked in it | it is ejected |
//! | two nodes refuse an access key, none accepts it | one attempt a request, at each node in turn, [`ONE_ATTEMPT_FOR`] |
//!
//! A key that more nodes refuse than accept says something about the key, not about those nodes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::load_balancing::stable_hash;
use super::recent_keys::{RecentKeys, WINDOW_SECONDS};
use super::{Node, NodeId};

/// What one response says about the access key whose request it answers. The gateway has verified that
/// request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SignatureOutcome {
    /// A 200: the node knows the access key.
    Accepted,
    /// A 401 to a signature of the gateway, made for this attempt.
    Refused,
    /// A 401 to the client's own signature.
    RefusedFromClient,
    /// A 403: only counted.
    Forbidden,
}

/// What the refusals of an access key mean for its next request.
#[derive(Clone, Debug, Default)]
pub struct RefusalAdvice {
    /// The nodes to avoid, the latest refusal first.
    pub avoided: Vec<NodeId>,
    /// The nodes to which the gateway signs anew.
    sign_anew: Vec<NodeId>,
    /// Whether another attempt after a 401 would be for nothing.
    pub one_attempt: bool,
}

impl RefusalAdvice {
    /// Whether the gateway signs anew what goes to this node.
    pub fn signs_anew(&self, node: NodeId) -> bool {
        self.sign_anew.contains(&node)
    }
}

/// The refusals of one access key by one node in the last minute, for people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignatureRefusal {
    /// `host:port` of the node, as configured.
    pub node: Arc<str>,
    /// The access key.
    pub access_key: Arc<str>,
    /// Answers with 401 or 403 to verified requests since the first one.
    pub count: u64,
    /// When the last one came.
    pub last: Instant,
    /// Whether another node accepts the access key.
    pub is_accepted_elsewhere: bool,
}

/// The refusals in one cluster. Reloads keep them.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Whether there is any; without one, a request costs one relaxed load.
    is_any: AtomicBool,
    recent: RecentKeys,
    /// The start of `recent`'s seconds; set by the first request.
    epoch: OnceLock<Instant>,
    by_key: Mutex<HashMap<Arc<str>, KeyState>>,
}

/// What the nodes say about one access key.
#[derive(Debug, Default)]
struct KeyState {
    refusals: Vec<Refusal>,
    /// Who accepted it, and when last; kept only while there are refusals.
    accepted: Vec<(NodeId, Instant)>,
    one_attempt_until: Option<Instant>,
}

#[derive(Debug)]
struct Refusal {
    node: NodeId,
    name: Arc<str>,
    /// The first and the last refusal of a signature of the gateway.
    refused: Option<(Instant, Instant)>,
    avoided_until: Option<Instant>,
    /// The last refusal of any kind.
    last: Instant,
    /// A 401 of any kind came, not only 403.
    is_suspect: bool,
    count: u64,
}

impl Refusals {
    /// Records that an access key asks, and returns what is known about it.
    pub(super) fn begin(&self, access_key: &str, now: Instant) -> Option<RefusalAdvice> {
        self.recent.record(key_hash(access_key), self.second(now));
        if !self.is_any.load(Ordering::Relaxed) {
            return None;
        }
        self.advice(access_key, now)
    }

    fn advice(&self, access_key: &str, now: Instant) -> Option<RefusalAdvice> {
        let mut by_key = self.by_key.lock();
        let state = by_key.get_mut(access_key)?;
        state.drop_old(now);
        if state.refusals.is_empty() {
            by_key.remove(access_key);
            self.is_any.store(!by_key.is_empty(), Ordering::Relaxed);
            return None;
        }
        let one_attempt = state.one_attempt_until.is_some_and(|until| now < until);
        let mut avoided: Vec<&Refusal> = state
            .refusals
            .iter()
            .filter(|refusal| {
                let in_turn = one_attempt && refusal.refused.is_some();
                in_turn || refusal.avoided_until.is_some_and(|until| now < until)
            })
            .collect();
        avoided.sort_by_key(|refusal| std::cmp::Reverse(refusal.last));
        let suspects = state.refusals.iter().filter(|refusal| refusal.is_suspect);
        Some(RefusalAdvice {
            avoided: avoided.iter().map(|refusal| refusal.node).collect(),
            sign_anew: suspects.map(|refusal| refusal.node).collect(),
            one_attempt,
        })
    }

    /// Records an outcome; returns whether `node` or another one is to be judged: a refusal stands against
    /// an acceptance.
    pub(super) fn record(
        &self,
        access_key: &Arc<str>,
        node: &Node,
        outcome: SignatureOutcome,
        now: Instant,
    ) -> bool {
        if outcome == SignatureOutcome::Accepted && !self.is_any.load(Ordering::Relaxed) {
            return false;
        }
        let mut by_key = self.by_key.lock();
        if outcome == SignatureOutcome::Accepted {
            let Some(state) = by_key.get_mut(access_key) else {
                return false;
            };
            state.accept(node.id(), now);
            return state.is_disputed(now);
        }
        if !by_key.contains_key(access_key) && by_key.len() >= MAX_KEYS {
            by_key.retain(|_, state| state.is_alive(now));
            if by_key.len() >= MAX_KEYS {
                return false;
            }
        }
        self.is_any.store(true, Ordering::Relaxed);
        let state = by_key.entry(access_key.clone()).or_default();
        state.refuse(node, outcome, now);
        state.is_disputed(now)
    }

    /// Returns the nodes that are to be ejected now.
    pub(super) fn condemned(&self, now: Instant) -> Vec<NodeId> {
        let by_key = self.by_key.lock();
        let few = self.recent.all_if_few(self.second(now));
        // By node: the keys that it refuses and another one accepts, and since when.
        let mut against: HashMap<NodeId, Vec<(u32, Instant)>> = HashMap::new();
        for (key, state) in by_key.iter() {
            for (node, since) in state.held_against(now) {
                against
                    .entry(node)
                    .or_default()
                    .push((key_hash(key), since));
            }
        }
        let is_condemned = |keys: &[(u32, Instant)]| {
            let refuses_all = few.as_ref().is_some_and(|all| {
                let settled = keys.iter().all(|(_, since)| now >= *since + SETTLED_AFTER);
                settled
                    && all
                        .iter()
                        .all(|asked| keys.iter().any(|(key, _)| key == asked))
            });
            keys.len() >= MANY_KEYS || refuses_all
        };
        let nodes = against.into_iter();
        nodes
            .filter(|(_, keys)| is_condemned(keys))
            .map(|(node, _)| node)
            .collect()
    }

    /// Makes the avoidances of an ejected node end with its ejection.
    pub(super) fn forget(&self, node: NodeId, until: Instant) {
        for state in self.by_key.lock().values_mut() {
            for refusal in state.refusals.iter_mut().filter(|it| it.node == node) {
                refusal.refused = None;
                refusal.avoided_until = refusal.avoided_until.map(|end| end.min(until));
            }
        }
    }

    /// Returns the refusals of the last minute.
    pub(super) fn list(&self, now: Instant) -> Vec<SignatureRefusal> {
        if !self.is_any.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut by_key = self.by_key.lock();
        by_key.retain(|_, state| state.is_alive(now));
        self.is_any.store(!by_key.is_empty(), Ordering::Relaxed);
        let refusals = by_key.iter().flat_map(|(key, state)| {
            let is_accepted_elsewhere = !state.accepted.is_empty();
            state.refusals.iter().map(move |refusal| SignatureRefusal {
                node: refusal.name.clone(),
                access_key: key.clone(),
                count: refusal.count,
                last: refusal.last,
                is_accepted_elsewhere,
            })
        });
        refusals.collect()
    }

    fn second(&self, now: Instant) -> u32 {
        let epoch = *self.epoch.get_or_init(|| now);
        let elapsed = now.saturating_duration_since(epoch).as_secs();
        // Counts from 1: 0 is an unused place.
        u32::try_from(elapsed + 1).unwrap_or(u32::MAX)
    }
}

impl KeyState {
    fn refuse(&mut self, node: &Node, outcome: SignatureOutcome, now: Instant) {
        self.drop_old(now);
        let known = self.refusals.iter().position(|it| it.node == node.id());
        let index = known.unwrap_or_else(|| {
            if self.refusals.len() >= MAX_NODES {
                let oldest = (0..self.refusals.len()).min_by_key(|&at| self.refusals[at].last);
                self.refusals.swap_remove(oldest.unwrap_or_default());
            }
            self.refusals.push(Refusal {
                node: node.id(),
                name: node.name().clone(),
                refused: None,
                avoided_until: None,
                last: now,
                is_suspect: false,
                count: 0,
            });
            self.refusals.len() - 1
        });
        let Some(refusal) = self.refusals.get_mut(index) else {
            return;
        };
        refusal.count += 1;
        refusal.last = now;
        if outcome == SignatureOutcome::Forbidden {
            return;
        }
        refusal.is_suspect = true;
        if outcome == SignatureOutcome::Refused {
            let first = refusal.refused.map_or(now, |(first, _)| first);
            refusal.refused = Some((first, now));
            self.accepted
                .retain(|(accepting, _)| *accepting != node.id());
            self.avoid(now);
            let refused = self.refusals.iter().filter(|it| it.refused.is_some());
            if self.accepted.is_empty() && refused.count() >= 2 {
                self.one_attempt_until = Some(now + ONE_ATTEMPT_FOR);
            }
        }
    }

    fn accept(&mut self, node: NodeId, now: Instant) {
        self.drop_old(now);
        self.one_attempt_until = None;
        self.refusals
            .retain(|refusal| refusal.node != node || !refusal.is_suspect);
        let known = self.accepted.iter_mut().find(|(known, _)| *known == node);
        if let Some((_, at)) = known {
            *at = now;
        } else if self.accepted.len() < MAX_NODES {
            self.accepted.push((node, now));
        }
        self.avoid(now);
    }

    /// Avoids the nodes that refuse what another one accepts.
    fn avoid(&mut self, now: Instant) {
        if self.accepted.is_empty() {
            return;
        }
        for refusal in &mut self.refusals {
            if let (Some((_, last)), None) = (refusal.refused, refusal.avoided_until)
                && now.saturating_duration_since(last) <= WINDOW
            {
                refusal.avoided_until = Some(last + AVOIDED_FOR);
            }
        }
    }

    /// Whether nodes disagree about the key.
    fn is_disputed(&self, now: Instant) -> bool {
        self.held_against(now).next().is_some()
    }

    /// The nodes against which the key speaks, and since when they have refused it.
    fn held_against(&self, now: Instant) -> impl Iterator<Item = (NodeId, Instant)> {
        let is_recent = move |at: Instant| now.saturating_duration_since(at) <= WINDOW;
        let refusing = self.refusals.iter().filter_map(move |refusal| {
            let (first, last) = refusal.refused?;
            is_recent(last).then_some((refusal.node, first))
        });
        let accepting = self.accepted.iter().filter(|(_, at)| is_recent(*at));
        let (refused, accepted) = (refusing.clone().count(), accepting.count());
        refusing.filter(move |_| accepted > 0 && refused <= accepted)
    }

    /// Forgets a refusal when its avoidance is over, so that the node is tried again as any other.
    fn drop_old(&mut self, now: Instant) {
        self.refusals.retain(|refusal| {
            refusal.avoided_until.is_none_or(|until| now < until)
                && now.saturating_duration_since(refusal.last) <= AVOIDED_FOR
        });
        self.accepted
            .retain(|(_, at)| now.saturating_duration_since(*at) <= AVOIDED_FOR);
    }

    fn is_alive(&self, now: Instant) -> bool {
        let mut refusals = self.refusals.iter();
        refusals.any(|refusal| now.saturating_duration_since(refusal.last) <= AVOIDED_FOR)
    }
}

/// A hash that tells the few access keys of [`RecentKeys`] apart.
fn key_hash(access_key: &str) -> u32 {
    (stable_hash(access_key.as_bytes()) >> 32) as u32 | 1
}

/// How long a node is avoided for an access key that it refuses.
const AVOIDED_FOR: Duration = Duration::from_secs(60);

/// The time within which the refusals of a node are counted together.
const WINDOW: Duration = Duration::from_secs(WINDOW_SECONDS as u64);

/// From so many refused access keys on, a node is ejected, however many others it accepts.
const MANY_KEYS: usize = 3;

/// How long an access key that two nodes refused gets one attempt a request.
const ONE_ATTEMPT_FOR: Duration = Duration::from_secs(10);

/// With fewer than [`MANY_KEYS`] access keys, a node is judged only after this, when the other nodes have
/// been asked too. Our choice.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// Access keys with refusals that are remembered; the others are tried as ever.
const MAX_KEYS: usize = 1024;

/// Nodes that are remembered for one access key.
const MAX_NODES: usize = 32;

#[cfg(test)]
mod tests;
