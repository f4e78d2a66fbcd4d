//! A set of nodes with their shares of the requests, from which one is drawn by weight at a cost that does
//! not grow with their number. Pure: random numbers are parameters.

/// One node's part of a set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// Its configured weight.
    pub(super) weight: u32,
    /// The part of its weight that it gets now: less than 1 in slow start or under flow control.
    pub(super) weight_share: f64,
    /// Its identity in consistent hashing; the same in every replica and after every start.
    pub(super) hash_seed: u64,
}

impl Share {
    fn capacity(&self) -> f64 {
        f64::from(self.weight) * self.weight_share
    }
}

/// The shares of several nodes, by position.
#[derive(Clone, Debug, Default)]
pub(super) struct Shares {
    shares: Vec<Share>,
    /// The sums of the capacities up to and including each position, so that a draw is a binary search.
    ends: Vec<f64>,
    /// Whether all weights are equal.
    has_equal_weights: bool,
}

impl Shares {
    pub(super) fn len(&self) -> usize {
        self.shares.len()
    }

    /// Whether all configured weights are equal.
    pub(super) fn has_equal_weights(&self) -> bool {
        self.has_equal_weights
    }

    /// Returns the shares in the order of their positions.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Share> {
        self.shares.iter()
    }

    /// Returns weight times share of one position; 0 if there is no such position.
    pub(super) fn capacity(&self, position: usize) -> f64 {
        self.shares.get(position).map_or(0.0, Share::capacity)
    }

    /// Returns the sum of all capacities.
    pub(super) fn total(&self) -> f64 {
        self.ends.last().copied().unwrap_or_default()
    }

    /// Draws a position by weight, leaving out `except`. `random` is uniform over its whole range. `None`
    /// if no other position is left.
    pub(super) fn draw(&self, random: u32, except: Option<usize>) -> Option<usize> {
        let (gap_start, gap) = match except {
            Some(position) => {
                let gap = self.capacity(position);
                (self.ends.get(position)? - gap, gap)
            }
            None => (f64::INFINITY, 0.0),
        };
        let others = self.len() - usize::from(except.is_some());
        if others == 0 {
            return None;
        }
        let mut point = unit(random) * (self.total() - gap);
        if point >= gap_start {
            point += gap;
        }
        let position = self.ends.partition_point(|&end| end <= point);
        // Rounding may lead beyond the end, or to the position that is left out.
        let position = position.min(self.len() - 1);
        Some(if Some(position) == except {
            if position + 1 < self.len() {
                position + 1
            } else {
                position.checked_sub(1)?
            }
        } else {
            position
        })
    }

    /// Draws a position that `is_eligible`, leaving out `except`. `first` is the first random number, which
    /// may be evenly spread; `random` returns further ones. `None` if no position is eligible.
    pub(super) fn draw_eligible(
        &self,
        first: u32,
        except: Option<usize>,
        random: &mut impl FnMut() -> u32,
        is_eligible: &impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut number = first;
        for _ in 0..BLIND_DRAWS {
            let position = self.draw(number, except)?;
            if is_eligible(position) {
                return Some(position);
            }
            number = random();
        }
        // Few are eligible: an exact draw among them.
        let eligible = || (0..self.len()).filter(|&at| Some(at) != except && is_eligible(at));
        let total: f64 = eligible().map(|at| self.capacity(at)).sum();
        let mut point = unit(number) * total;
        let mut last = None;
        for at in eligible() {
            point -= self.capacity(at);
            last = Some(at);
            if point < 0.0 {
                break;
            }
        }
        last
    }
}

impl FromIterator<Share> for Shares {
    fn from_iter<T: IntoIterator<Item = Share>>(shares: T) -> Self {
        let shares: Vec<Share> = shares.into_iter().collect();
        let mut end = 0.0;
        let ends = shares.iter().map(|share| {
            end += share.capacity();
            end
        });
        let first = shares.first().map(|share| share.weight);
        Self {
            ends: ends.collect(),
            has_equal_weights: shares.iter().all(|share| Some(share.weight) == first),
            shares,
        }
    }
}

/// A number from 0 up to, but not including, 1.
fn unit(random: u32) -> f64 {
    f64::from(random) / (f64::from(u32::MAX) + 1.0)
}

/// How often a position is drawn among all before the eligible ones are listed. Our choice: with half of
/// the nodes eligible, listing is needed once in sixteen times.
const BLIND_DRAWS: usize = 4;
