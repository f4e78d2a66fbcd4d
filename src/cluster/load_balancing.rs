//! Load balancing policies: the choice among the candidates. Pure: views and random numbers are
//! parameters, the index of a view is returned.

use std::cell::Cell;

/// A candidate as the policies see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeView {
    /// Its requests in flight.
    pub(super) in_flight: usize,
    /// Its configured weight.
    pub(super) weight: u32,
    /// The part of its weight that it gets now: less than 1 in slow start or under flow control.
    pub(super) weight_share: f64,
    /// Its identity in consistent hashing; the same in every replica and after every start.
    pub(super) hash_seed: u64,
}

impl NodeView {
    /// Requests in flight and `more` of them, over capacity.
    fn load(&self, more: usize) -> f64 {
        (self.in_flight + more) as f64 / self.capacity()
    }

    fn capacity(&self) -> f64 {
        f64::from(self.weight) * self.weight_share
    }
}

/// Power of two choices: the better of two random nodes, each drawn by weight. `turn` draws the first and
/// is best evenly spread, see [`LowDiscrepancySequence`]; `random` draws the second. `None` without nodes.
///
/// The first one is taken unless the second would have no more load even with this request, so that an
/// idle cluster is used exactly by weight, and a busy one nearly.
pub(super) fn least_request(views: &[NodeView], turn: u32, random: u32) -> Option<usize> {
    if views.len() < 2 {
        return (!views.is_empty()).then_some(0);
    }
    let first = draw_weighted(views, None, turn)?;
    let second = draw_weighted(views, Some(first), random)?;
    Some(if views[second].load(1) <= views[first].load(0) {
        second
    } else {
        first
    })
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
/// turns of weights 3 and 2 are a b a b a, not a a a b b. `current_weights` has one element per view.
pub(super) fn round_robin(views: &[NodeView], current_weights: &mut [f64]) -> Option<usize> {
    let mut total = 0.0;
    let mut largest: Option<usize> = None;
    for (index, view) in views.iter().enumerate() {
        total += view.capacity();
        *current_weights.get_mut(index)? += view.capacity();
        if largest.is_none_or(|best| current_weights[index] > current_weights[best]) {
            largest = Some(index);
        }
    }
    let largest = largest?;
    current_weights[largest] -= total;
    Some(largest)
}

/// Consistent hashing: rendezvous hashing (highest random weight) with bounded loads. A key goes to the
/// node with its highest score, unless that one has more than [`LOAD_BOUND`] times its fair share of all
/// requests in flight. A node that leaves moves only its own keys.
pub(super) fn consistent_hash(views: &[NodeView], key: u64) -> Option<usize> {
    let in_flight: usize = views.iter().map(|view| view.in_flight).sum();
    let capacity: f64 = views.iter().map(NodeView::capacity).sum();
    let max_share = LOAD_BOUND * (in_flight as f64 + 1.0) / capacity;
    let within = |view: &NodeView| (view.in_flight as f64) < (max_share * view.capacity()).ceil();
    let best = |among: &dyn Fn(&NodeView) -> bool| {
        let scored = views
            .iter()
            .enumerate()
            .filter(|(_, view)| among(view))
            .map(|(index, view)| (index, score(view, key)));
        scored
            .max_by(|(_, one), (_, other)| one.total_cmp(other))
            .map(|(index, _)| index)
    };
    best(&within).or_else(|| best(&|_| true))
}

/// A stable hash of a node's name or of a key: 64-bit FNV-1a, with a finalizer that spreads similar
/// names.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    splitmix64_finalizer(fnv)
}

/// Draws an index by weight, leaving out `except`.
fn draw_weighted(views: &[NodeView], except: Option<usize>, random: u32) -> Option<usize> {
    let others = || {
        views
            .iter()
            .enumerate()
            .filter(move |(index, _)| Some(*index) != except)
    };
    let total: f64 = others().map(|(_, view)| view.capacity()).sum();
    let mut point = f64::from(random) / (f64::from(u32::MAX) + 1.0) * total;
    let mut last = None;
    for (index, view) in others() {
        point -= view.capacity();
        last = Some(index);
        if point < 0.0 {
            break;
        }
    }
    last
}

/// The weighted rendezvous score `-weight / ln(u)` with u uniform in (0, 1), from node and key. A node
/// has the highest one with the probability of its share of all weights.
fn score(view: &NodeView, key: u64) -> f64 {
    let hash = splitmix64_finalizer(view.hash_seed ^ splitmix64_finalizer(key));
    let uniform = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(view.weight) / uniform.ln()
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
