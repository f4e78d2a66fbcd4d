//! The queue of requests that wait for a node: bounded, in turn over access keys, first come first served
//! within one. Pure.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;

/// The waiting requests of one class. `T` is what the owner needs to wake one.
#[derive(Debug)]
pub(super) struct WaitQueue<T> {
    lanes: HashMap<u64, VecDeque<(WaiterId, T)>, RandomState>,
    /// The access keys with a waiter; the front one's turn is next.
    turns: VecDeque<u64>,
    len: usize,
    next_id: u64,
}

/// Identifies a waiter; a smaller one came earlier.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct WaiterId(u64);

impl<T> Default for WaitQueue<T> {
    fn default() -> Self {
        Self {
            lanes: HashMap::default(),
            turns: VecDeque::new(),
            len: 0,
            next_id: 0,
        }
    }
}

impl<T> WaitQueue<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns the place of a request that begins to wait.
    pub(super) fn new_id(&mut self) -> WaiterId {
        self.next_id += 1;
        WaiterId(self.next_id)
    }

    /// Adds a waiter at its place in the lane of its access key. If the queue then has more than `limit`
    /// waiters, the newest one of the access key with the most is removed and returned.
    pub(super) fn push(&mut self, key: u64, id: WaiterId, waiter: T, limit: usize) -> Option<T> {
        let lane = self.lanes.entry(key).or_default();
        if lane.is_empty() {
            self.turns.push_back(key);
        }
        let at = lane.partition_point(|(other, _)| *other < id);
        lane.insert(at, (id, waiter));
        self.len += 1;
        if self.len <= limit {
            return None;
        }
        let longest = self
            .turns
            .iter()
            .rev()
            .max_by_key(|key| self.lanes.get(key).map_or(0, VecDeque::len));
        let longest = *longest?;
        let newest = self.lanes.get_mut(&longest)?.pop_back();
        self.removed_from(longest);
        newest.map(|(_, waiter)| waiter)
    }

    /// Removes a waiter that gives up; false if it is not there any more.
    pub(super) fn remove(&mut self, key: u64, id: WaiterId) -> bool {
        let Some(lane) = self.lanes.get_mut(&key) else {
            return false;
        };
        let Some(at) = lane.iter().position(|(other, _)| *other == id) else {
            return false;
        };
        lane.remove(at);
        self.removed_from(key);
        true
    }

    /// Removes and returns all waiters that `matches`.
    pub(super) fn remove_all(&mut self, matches: impl Fn(&T) -> bool) -> Vec<T> {
        let mut removed = Vec::new();
        for lane in self.lanes.values_mut() {
            for (id, waiter) in std::mem::take(lane) {
                if matches(&waiter) {
                    removed.push(waiter);
                } else {
                    lane.push_back((id, waiter));
                }
            }
        }
        self.len -= removed.len();
        self.lanes.retain(|_, lane| !lane.is_empty());
        self.turns.retain(|key| self.lanes.contains_key(key));
        removed
    }

    /// Returns the waiter whose turn is next.
    pub(super) fn head(&self) -> Option<(WaiterId, &T)> {
        let lane = self.lanes.get(self.turns.front()?)?;
        lane.front().map(|(id, waiter)| (*id, waiter))
    }

    /// Offers places to the waiters in turn until one says that there are no more. An access key whose
    /// first waiter cannot use a place keeps its turn.
    pub(super) fn offer(&mut self, mut offer: impl FnMut(WaiterId, &T) -> Offer) {
        let mut at = 0;
        while let Some(&key) = self.turns.get(at) {
            let Some(lane) = self.lanes.get_mut(&key) else {
                return;
            };
            let Some((id, waiter)) = lane.front() else {
                return;
            };
            match offer(*id, waiter) {
                Offer::Taken => {
                    lane.pop_front();
                    let is_empty = lane.is_empty();
                    self.len -= 1;
                    self.turns.remove(at);
                    if is_empty {
                        self.lanes.remove(&key);
                    } else {
                        self.turns.push_back(key);
                    }
                }
                Offer::Unusable => at += 1,
                Offer::NoRoom => return,
            }
        }
    }

    /// Ends the removal of a waiter of `key`.
    fn removed_from(&mut self, key: u64) {
        self.len -= 1;
        if self.lanes.get(&key).is_some_and(VecDeque::is_empty) {
            self.lanes.remove(&key);
            self.turns.retain(|other| *other != key);
        }
    }
}

/// What became of a place that was offered to a waiter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Offer {
    /// There is no room at any node, whoever asks.
    NoRoom,
    /// The waiter has it and leaves the queue.
    Taken,
    /// This waiter cannot use the room that there is.
    Unusable,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(queue: &mut WaitQueue<u32>, key: u64, waiter: u32, limit: usize) -> Option<u32> {
        let id = queue.new_id();
        queue.push(key, id, waiter, limit)
    }

    fn take(queue: &mut WaitQueue<u32>, places: usize) -> Vec<u32> {
        let mut taken = Vec::new();
        queue.offer(|_, waiter| {
            if taken.len() == places {
                return Offer::NoRoom;
            }
            taken.push(*waiter);
            Offer::Taken
        });
        taken
    }

    #[test]
    fn access_keys_take_turns() {
        let mut queue = WaitQueue::default();
        for waiter in 0..6 {
            assert_eq!(push(&mut queue, 1, waiter, 8), None);
        }
        push(&mut queue, 2, 20, 8);
        push(&mut queue, 3, 30, 8);
        assert_eq!(take(&mut queue, 4), [0, 20, 30, 1]);
        push(&mut queue, 2, 21, 8);
        assert_eq!(take(&mut queue, 9), [2, 21, 3, 4, 5]);
        assert!(queue.len() == 0 && queue.head().is_none());
    }

    #[test]
    fn a_full_queue_loses_the_newest_waiter_of_the_longest_lane() {
        let mut queue = WaitQueue::default();
        for waiter in 0..3 {
            push(&mut queue, 1, waiter, 4);
        }
        push(&mut queue, 2, 20, 4);
        assert_eq!(push(&mut queue, 3, 30, 4), Some(2));
        assert_eq!(push(&mut queue, 1, 3, 4), Some(3), "the newcomer itself");
        assert_eq!(push(&mut queue, 9, 90, 0), Some(1));
        assert_eq!(queue.len(), 4);
    }

    #[test]
    fn a_waiter_that_cannot_use_a_place_keeps_its_turn() {
        let mut queue = WaitQueue::default();
        for key in 1..=3 {
            push(&mut queue, key, u32::try_from(key).unwrap(), 8);
        }
        let mut order = Vec::new();
        queue.offer(|_, waiter| {
            order.push(*waiter);
            match waiter {
                1 => Offer::Unusable,
                _ => Offer::Taken,
            }
        });
        assert_eq!((order, queue.len()), (vec![1, 2, 3], 1));
        assert_eq!(queue.head().map(|(_, waiter)| *waiter), Some(1));
    }

    #[test]
    fn waiters_that_are_removed_leave_the_turns_of_the_others() {
        let mut queue = WaitQueue::default();
        for (key, waiter) in [(1, 1), (2, 2), (1, 3), (3, 4)] {
            push(&mut queue, key, waiter, 8);
        }
        assert_eq!(queue.remove_all(|waiter| *waiter % 2 == 1), [1, 3]);
        assert_eq!((queue.len(), take(&mut queue, 9)), (2, vec![2, 4]));
        assert!(queue.remove_all(|_| true).is_empty() && queue.len() == 0);
    }

    #[test]
    fn a_waiter_that_returns_has_its_old_place() {
        let mut queue = WaitQueue::default();
        let first = queue.new_id();
        push(&mut queue, 1, 2, 8);
        assert!(!queue.remove(1, first));
        queue.push(1, first, 1, 8);
        assert_eq!(queue.head(), Some((first, &1)));
        assert!(queue.remove(1, first));
        assert_eq!(take(&mut queue, 9), [2]);
    }
}
