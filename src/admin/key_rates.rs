//! How many requests a second each access key makes. Pure: the time is a parameter.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The rates of all access keys that were ever used.
#[derive(Debug, Default)]
pub(super) struct KeyRates(Mutex<Rates>);

#[derive(Debug, Default)]
struct Rates {
    keys: HashMap<Arc<str>, KeyUsage>,
    at: Option<Instant>,
}

/// The usage of one access key.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyUsage {
    /// Requests admitted.
    pub(super) count: u64,
    /// Exponentially decaying average of requests per second.
    pub(super) rate: f64,
}

impl KeyRates {
    /// Takes the total of admitted requests of each access key.
    pub(super) fn observe(&self, now: Instant, keys: impl Iterator<Item = (Arc<str>, u64)>) {
        let mut rates = self.0.lock();
        let elapsed = rates.at.map_or(Duration::ZERO, |before| {
            now.saturating_duration_since(before)
        });
        rates.at = Some(now);
        rates.keys = keys
            .filter(|&(_, count)| count > 0)
            .map(|(key, count)| {
                let usage = rates.keys.get(&key).copied();
                (key, KeyUsage::updated(usage, count, elapsed))
            })
            .collect();
    }

    /// Returns the usage of an access key.
    pub(super) fn usage(&self, access_key: &str) -> KeyUsage {
        let rates = self.0.lock();
        rates.keys.get(access_key).copied().unwrap_or_default()
    }

    /// Returns up to `limit` access keys with the highest current rate.
    pub(super) fn top(&self, limit: usize) -> Vec<(Arc<str>, KeyUsage)> {
        let rates = self.0.lock();
        let mut keys: Vec<_> = rates.keys.iter().collect();
        let compare = |(one, a): &(&Arc<str>, &KeyUsage), (other, b): &(&Arc<str>, &KeyUsage)| {
            let by_usage = b.rate.total_cmp(&a.rate).then(b.count.cmp(&a.count));
            by_usage.then_with(|| one.cmp(other))
        };
        if keys.len() > limit {
            keys.select_nth_unstable_by(limit, compare);
            keys.truncate(limit);
        }
        keys.sort_by(compare);
        keys.into_iter()
            .map(|(key, usage)| (key.clone(), *usage))
            .collect()
    }
}

impl KeyUsage {
    /// Returns the usage after `count` requests in total, with the rate decayed by `HALF_LIFE_SECONDS`.
    #[expect(clippy::cast_precision_loss, reason = "rates are rounded for display")]
    fn updated(before: Option<Self>, count: u64, elapsed: Duration) -> Self {
        let seconds = elapsed.as_secs_f64();
        let before = before.unwrap_or_default();
        if seconds <= 0.0 {
            return Self { count, ..before };
        }
        let now = count.saturating_sub(before.count) as f64 / seconds;
        let kept = 0.5_f64.powf(seconds / HALF_LIFE_SECONDS);
        Self {
            count,
            rate: before.rate * kept + now * (1.0 - kept),
        }
    }
}

/// Half-life of an access key's rate. Our choice: steady enough to read, and the rate of an unused
/// key decays within minutes.
const HALF_LIFE_SECONDS: f64 = 30.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_current_rates_come_first() {
        let rates = KeyRates::default();
        let mut now = tokio::time::Instant::now().into_std();
        for (old, new) in [(1000, 0), (1000, 0), (1000, 100)] {
            now += Duration::from_secs(100);
            let keys = [("old", old), ("new", new), ("never", 0)];
            let keys = keys.map(|(key, count)| (Arc::from(key), count));
            rates.observe(now, keys.into_iter());
        }
        let top: Vec<_> = rates.top(5);
        let names: Vec<_> = top.iter().map(|(key, _)| &**key).collect();
        assert_eq!(names, ["new", "old"]);
        assert_eq!(top[1].1.count, 1000);
        assert_eq!(rates.top(1).len(), 1);
        assert!(rates.usage("new").rate > 0.5);
        assert_eq!(rates.usage("never").count, 0);
    }
}
