//! Counts of the last minutes.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// The events of the last minute (or of another window), with the time of the last one.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    /// One for each observation in which something happened.
    counts: VecDeque<(Instant, u64)>,
    sum: u64,
}

impl Recent {
    /// Adds events that happened just before `now`.
    pub(super) fn add(&mut self, now: Instant, count: u64) {
        if count > 0 {
            self.counts.push_back((now, count));
            self.sum += count;
        }
    }

    /// Forgets what is as old as `window`.
    pub(super) fn forget(&mut self, now: Instant, window: Duration) {
        while let Some(&(at, count)) = self.counts.front()
            && now.saturating_duration_since(at) >= window
        {
            self.counts.pop_front();
            self.sum -= count;
        }
    }

    /// Returns the number of events in the window.
    pub(super) fn sum(&self) -> u64 {
        self.sum
    }

    /// Returns the time of the last event; `None` if the window has none.
    pub(super) fn last(&self) -> Option<Instant> {
        self.counts.back().map(|&(at, _)| at)
    }
}

/// The growth of a counter in the last minute.
#[derive(Clone, Debug, Default)]
pub(super) struct Growth {
    total: Option<u64>,
    recent: Recent,
}

impl Growth {
    /// Takes the counter's value at `now`. The first value is the baseline.
    pub(super) fn observe(&mut self, now: Instant, total: u64, window: Duration) {
        let before = self.total.replace(total).unwrap_or(total);
        self.recent.add(now, total.saturating_sub(before));
        self.recent.forget(now, window);
    }

    /// Returns the events of the window.
    pub(super) fn recent(&self) -> &Recent {
        &self.recent
    }
}

/// Removes the entries of which nothing is left in the window.
pub(super) fn forget_all<K: Eq + Hash, V>(
    map: &mut HashMap<K, V>,
    recent: impl Fn(&mut V) -> &mut Recent,
    now: Instant,
    window: Duration,
) {
    map.retain(|_, value| {
        let recent = recent(value);
        recent.forget(now, window);
        recent.last().is_some()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_forgotten_after_their_window() {
        let start = tokio::time::Instant::now().into_std();
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let mut growth = Growth::default();
        growth.observe(start, 1000, minute);
        assert_eq!(growth.recent().sum(), 0, "the first value is the baseline");
        growth.observe(start + second, 1003, minute);
        growth.observe(start + second * 2, 1003, minute);
        assert_eq!(
            (growth.recent().sum(), growth.recent().last()),
            (3, Some(start + second))
        );
        growth.observe(start + second * 60, 1004, minute);
        assert_eq!(growth.recent().sum(), 4);
        growth.observe(start + second * 61, 1004, minute);
        assert_eq!(growth.recent().sum(), 1);
        growth.observe(start + second * 120, 1004, minute);
        assert_eq!(growth.recent().last(), None);
    }
}
