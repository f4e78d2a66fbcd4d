//! Load balancing policies: the choice among the nodes of a set. Pure: shares, requests in flight and random
//! numbers are parameters, a position is returned. A policy chooses only positions that `is_eligible`.

use std::cell::Cell;

use super::shares::{Share, Shares};

/// Power of two choices: the better of two random nodes, each drawn by weight. `turn` draws the first and
/// is best evenly spread, see [`LowDiscrepancySequence`]; `random` returns numbers for the others.
/// `is_better` compares the second one with the first. `None` without eligible nodes.
pub(super) fn power_of_two_choices(
    shares: &Shares,
    turn: u32,
    mut random: impl FnMut() -> u32,
    is_better: impl Fn(usize, usize) -> bool,
    is_eligible: impl Fn(usize) -> bool,
) -> Option<usize> {
    let first = shares.draw_eligible(turn, None, &mut random, &is_eligible)?;
    let number = random();
    let Some(second) = shares.draw_eligible(number, Some(first), &mut random, &is_eligible) else {
        return Some(first);
    };
    Some(if is_better(second, first) {
        second
    } else {
        first
    })
}

/// Least request: the second node is better if it has no more load even with this request, so that an idle
/// cluster is used exactly by weight, and a busy one nearly.
pub(super) fn has_fewer_requests(
    shares: &Shares,
    in_flight: impl Fn(usize) -> usize,
) -> impl Fn(usize, usize) -> bool {
    let load = move |position: usize, more| {
        (in_flight(position) + more) as f64 / shares.capacity(position)
    };
    move |second, first| load(second, 1) <= load(first, 0)
}

/// Least time: the second node is better if its latency times its requests in flight with this one is less.
/// `latency` has any unit. The requests in flight count by weight and the latency does not, so that equal
/// nodes are used by weight.
pub(super) fn has_less_time(
    shares: &Shares,
    in_flight: impl Fn(usize) -> usize,
    latency: impl Fn(usize) -> f32,
) -> impl Fn(usize, usize) -> bool {
    let mean = shares.total() / shares.len() as f64;
    let time = move |position: usize| {
        let own = in_flight(position) as f64 * mean / shares.capacity(position);
        f64::from(latency(position)) * (own + 1.0)
    };
    move |second, first| time(second) < time(first)
}

/// A low-discrepancy sequence: multiples of the golden ratio, which fill the range evenly however few of
/// them are drawn. With them, weights are met after tens of requests; with random numbers, after tens
/// of thousands.
#[derive(Debug)]
pub(super) struct LowDiscrepancySequence(Cell<u32>);

impl LowDiscrepancySequence {
    /// Starts at a random number, so that replicas and workers are not in step.
    pub(super) fn new() -> Self {
        Self(Cell::new(rand::random()))
    }

    /// Returns the next number.
    pub(super) fn next(&self) -> u32 {
        let turn = self.0.get().wrapping_add(GOLDEN_RATIO_STEP);
        self.0.set(turn);
        turn
    }
}

/// Smooth weighted round-robin, as in nginx: at each turn every current weight grows by the node's weight;
/// the node with the largest is taken, and its current weight is reduced by the sum of all weights. Five
/// turns of weights 3 and 2 are a b a b a, not a a a b b. `current_weights` has one element per position.
pub(super) fn round_robin(
    shares: &Shares,
    current_weights: &mut [f64],
    is_eligible: impl Fn(usize) -> bool,
) -> Option<usize> {
    if current_weights.len() != shares.len() {
        return None;
    }
    for (current, share) in current_weights.iter_mut().zip(shares.iter()) {
        *current += f64::from(share.weight) * share.weight_share;
    }
    let mut total = shares.total();
    let mut passed_over: Vec<usize> = Vec::new();
    loop {
        let mut largest: Option<(usize, f64)> = None;
        for (position, &current) in current_weights.iter().enumerate() {
            if largest.is_none_or(|(_, best)| current > best) && !passed_over.contains(&position) {
                largest = Some((position, current));
            }
        }
        let (position, _) = largest?;
        let current = current_weights.get_mut(position)?;
        if is_eligible(position) {
            *current -= total;
            return Some(position);
        }
        // It takes no part in this turn, so that its weight does not pile up.
        *current -= shares.capacity(position);
        total -= shares.capacity(position);
        passed_over.push(position);
    }
}

/// Consistent hashing: rendezvous hashing (highest random weight) with bounded loads. A key goes to the
/// node with its highest score, unless that one has more than [`LOAD_BOUND`] times its fair share of all
/// requests in flight. A node that leaves moves only its own keys. The cost grows with the number of
/// nodes: each has a score for each key.
pub(super) fn consistent_hash(
    shares: &Shares,
    key: u64,
    in_flight: impl Fn(usize) -> usize,
    is_eligible: impl Fn(usize) -> bool,
) -> Option<usize> {
    let all: usize = (0..shares.len()).map(&in_flight).sum();
    let max_share = LOAD_BOUND * (all as f64 + 1.0) / shares.total();
    let is_within_bound =
        |at: usize| (in_flight(at) as f64) < (max_share * shares.capacity(at)).ceil();
    let ranking = Ranking::new(shares, key);
    // The first choice is within the bound and eligible nearly always.
    let first = ranking.best(|_| true)?;
    if is_eligible(first) && is_within_bound(first) {
        return Some(first);
    }
    ranking
        .best(|at| is_eligible(at) && is_within_bound(at))
        .or_else(|| ranking.best(is_eligible))
}

/// The order of all positions for one key.
struct Ranking<'a> {
    shares: &'a Shares,
    key: u64,
}

impl<'a> Ranking<'a> {
    fn new(shares: &'a Shares, key: u64) -> Self {
        Self {
            shares,
            key: splitmix64_finalizer(key),
        }
    }

    /// Returns the position with the highest score among those that `filter` selects.
    fn best(&self, filter: impl Fn(usize) -> bool) -> Option<usize> {
        let hash = |share: &Share| splitmix64_finalizer(share.hash_seed ^ self.key) >> 11;
        let positions = self.shares.iter().enumerate().filter(|(at, _)| filter(*at));
        if self.shares.has_equal_weights() {
            // With equal weights the score grows with the hash, so that no logarithm is needed.
            positions
                .max_by_key(|(_, share)| hash(share))
                .map(|(position, _)| position)
        } else {
            positions
                .map(|(position, share)| (position, score(share.weight, hash(share))))
                .max_by(|(_, one), (_, other)| one.total_cmp(other))
                .map(|(position, _)| position)
        }
    }
}

/// A stable hash of a node's name or of a key: 64-bit FNV-1a, with a finalizer that spreads similar
/// names.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    splitmix64_finalizer(fnv)
}

/// The weighted rendezvous score `-weight / ln(u)` with u uniform in (0, 1), from the upper 53 bits of the
/// hash of node and key. A node has the highest one with the probability of its share of all weights.
fn score(weight: u32, hash: u64) -> f64 {
    let uniform = (hash as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(weight) / uniform.ln()
}

/// The finalizer of splitmix64.
fn splitmix64_finalizer(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// 2^32 over the golden ratio, odd.
const GOLDEN_RATIO_STEP: u32 = 0x9e37_79b9;

/// The load bound of "Consistent Hashing with Bounded Loads" (Mirrokni, Thorup, Zadimoghaddam), above 1.
/// Our choice; Envoy's `hash_balance_factor` and HAProxy's `hash-balance-factor` are the same bound in
/// percent, both off by default.
const LOAD_BOUND: f64 = 1.25;

#[cfg(test)]
mod tests;
