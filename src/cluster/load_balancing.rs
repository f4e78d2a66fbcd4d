//! Which of the nodes that may be tried? Pure: views and a random number in, a place out.

use std::cell::Cell;

/// One node as a choice sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeView {
    /// Requests in flight there.
    pub(super) in_flight: usize,
    /// Its configured weight.
    pub(super) weight: u32,
    /// The part of its weight that it carries now: less than 1 while it warms up or is busy.
    pub(super) weight_share: f64,
    /// What consistent hashing knows it by; the same in every replica and after every start.
    pub(super) hash_seed: u64,
}

impl NodeView {
    /// Requests over capacity, with `more` of them.
    fn load(&self, more: usize) -> f64 {
        (self.in_flight + more) as f64 / self.capacity()
    }

    fn capacity(&self) -> f64 {
        f64::from(self.weight) * self.weight_share
    }
}

/// Power of two choices: the better of two random nodes, each drawn by its weight. `turn` draws the
/// first and is best evenly spread, see [`Turns`]; `random` draws the second. `None` without nodes.
///
/// The first one stays unless the other would still be no busier for its size with this request, so
/// that an idle cluster is used by weight exactly, and a busy one nearly.
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

/// Numbers that fill their range evenly, however few of them are taken: multiples of the golden
/// ratio. Drawn with them, weights are met after tens of requests, with random numbers after tens of
/// thousands.
#[derive(Debug)]
pub(super) struct LowDiscrepancySequence(Cell<u32>);

impl LowDiscrepancySequence {
    /// From anywhere, so that gateways and workers do not go in step.
    pub(super) fn new() -> Self {
        Self(Cell::new(rand::random()))
    }

    /// The next one.
    pub(super) fn next(&self) -> u32 {
        let turn = self.0.get().wrapping_add(GOLDEN_RATIO_STEP);
        self.0.set(turn);
        turn
    }
}

/// Smoothly weighted: each node gains its weight each turn, the richest is taken and pays for all.
/// So five turns of weights 3 and 2 are a b a b a, not a a a b b. `credits` has one place per view.
pub(super) fn round_robin(views: &[NodeView], credits: &mut [f64]) -> Option<usize> {
    let mut total = 0.0;
    let mut richest: Option<usize> = None;
    for (place, view) in views.iter().enumerate() {
        total += view.capacity();
        *credits.get_mut(place)? += view.capacity();
        if richest.is_none_or(|best| credits[place] > credits[best]) {
            richest = Some(place);
        }
    }
    let richest = richest?;
    credits[richest] -= total;
    Some(richest)
}

/// Consistent hashing by highest random weight, with bounded load: a key goes to the node that it
/// scores highest with, unless that one has more than [`BOUND`] of its fair part of all requests in
/// flight. A node that leaves moves only its own keys, and each of them by its own order.
pub(super) fn consistent_hash(views: &[NodeView], key: u64) -> Option<usize> {
    let in_flight: usize = views.iter().map(|view| view.in_flight).sum();
    let capacity: f64 = views.iter().map(NodeView::capacity).sum();
    let fair = LOAD_BOUND * (in_flight as f64 + 1.0) / capacity;
    let within = |view: &NodeView| (view.in_flight as f64) < (fair * view.capacity()).ceil();
    let best = |among: &dyn Fn(&NodeView) -> bool| {
        let scored = views
            .iter()
            .enumerate()
            .filter(|(_, view)| among(view))
            .map(|(place, view)| (place, score(view, key)));
        scored
            .max_by(|(_, one), (_, other)| one.total_cmp(other))
            .map(|(place, _)| place)
    };
    best(&within).or_else(|| best(&|_| true))
}

/// A stable hash of a node's name or of a key: FNV-1a, finished so that near names lie far apart.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    splitmix64_finalizer(fnv)
}

/// A random place by weight, `except` left out.
fn draw_weighted(views: &[NodeView], except: Option<usize>, random: u32) -> Option<usize> {
    let others = || {
        views
            .iter()
            .enumerate()
            .filter(move |(place, _)| Some(*place) != except)
    };
    let total: f64 = others().map(|(_, view)| view.capacity()).sum();
    let mut point = f64::from(random) / (f64::from(u32::MAX) + 1.0) * total;
    let mut last = None;
    for (place, view) in others() {
        point -= view.capacity();
        last = Some(place);
        if point < 0.0 {
            break;
        }
    }
    last
}

/// `-weight / ln(u)` with u uniform in (0, 1) by node and key: the highest wins with a probability
/// that is its weight's part.
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

/// How far above its fair part a node may be loaded before a key goes elsewhere.
const LOAD_BOUND: f64 = 1.25;

#[cfg(test)]
mod tests;
