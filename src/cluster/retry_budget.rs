//! The retry budget: a share of recent requests and a small minimum, so that retries cannot multiply the
//! load of a cluster that is already failing. Lock-free; the time is a parameter.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::RetrySettings;

/// The requests and the retries of the last ten seconds.
#[derive(Debug, Default)]
pub struct RetryBudget {
    epoch: OnceLock<Instant>,
    requests: SlidingWindow,
    retries: SlidingWindow,
}

impl RetryBudget {
    /// Records a request.
    pub fn record_request(&self, now: Instant) {
        self.requests.add(self.second(now));
    }

    /// Takes one retry out of the budget; returns false if it is exhausted.
    pub fn try_withdraw(&self, now: Instant, limits: &RetrySettings) -> bool {
        let second = self.second(now);
        let share = self.requests.sum(second) * u64::from(limits.budget_percent) / 100;
        let allowed = self.retries.sum(second) < share
            || self.retries.at(second) < u64::from(limits.min_per_second);
        if allowed {
            self.retries.add(second);
        }
        allowed
    }

    /// The second since the first use. Counts from 1, because 0 is the second of an unused bucket.
    fn second(&self, now: Instant) -> u32 {
        let epoch = *self.epoch.get_or_init(|| now);
        u32::try_from(now.saturating_duration_since(epoch).as_secs() + 1).unwrap_or(u32::MAX)
    }
}

/// Ten buckets of one second. The upper half of each is its second, the lower half its count.
#[derive(Debug, Default)]
struct SlidingWindow([AtomicU64; WINDOW_SECONDS]);

impl SlidingWindow {
    fn add(&self, second: u32) {
        let bucket = &self.0[second as usize % WINDOW_SECONDS];
        let fresh = u64::from(second) << 32;
        let counted = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            Some(if held >> 32 == u64::from(second) {
                // Saturates, so that the count never overflows into the second.
                held + u64::from(held as u32 != u32::MAX)
            } else {
                fresh + 1
            })
        });
        debug_assert!(counted.is_ok(), "the update never declines");
    }

    fn at(&self, second: u32) -> u64 {
        let held = self.0[second as usize % WINDOW_SECONDS].load(Ordering::Relaxed);
        if held >> 32 == u64::from(second) {
            u64::from(held as u32)
        } else {
            0
        }
    }

    fn sum(&self, second: u32) -> u64 {
        let oldest = second.saturating_sub(WINDOW_SECONDS as u32 - 1);
        (oldest..=second).map(|second| self.at(second)).sum()
    }
}

/// The length of the window; as long as in Finagle and linkerd, where it is the budget's TTL.
const WINDOW_SECONDS: usize = 10;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn retries(budget: u8, floor: u32) -> RetrySettings {
        RetrySettings {
            budget_percent: budget,
            min_per_second: floor,
        }
    }

    #[test]
    fn the_budget_is_a_fifth_of_ten_seconds_and_a_minimum() {
        let start = tokio::time::Instant::now().into_std();
        let budget = RetryBudget::default();
        for _ in 0..100 {
            budget.record_request(start);
        }
        let now = start + Duration::from_secs(9);
        let granted = (0..1000).filter(|_| budget.try_withdraw(now, &retries(20, 3)));
        assert_eq!(granted.count(), 20);
        let later = start + Duration::from_secs(10);
        let granted = (0..1000).filter(|_| budget.try_withdraw(later, &retries(20, 3)));
        assert_eq!(
            granted.count(),
            3,
            "the traffic is forgotten, the floor stays"
        );
    }

    proptest! {
        #[test]
        fn never_more_than_the_share_and_the_minimum(
            steps in prop::collection::vec((0u64..1500, any::<bool>()), 1..400),
            percent in 0u8..=100, floor in 0u32..5,
        ) {
            let start = tokio::time::Instant::now().into_std();
            let budget = RetryBudget::default();
            let limits = retries(percent, floor);
            let (mut millis, mut requests, mut granted) = (0, 0u64, 0u64);
            for (pause, request) in steps {
                millis += pause;
                let now = start + Duration::from_millis(millis);
                if request {
                    budget.record_request(now);
                    requests += 1;
                } else {
                    granted += u64::from(budget.try_withdraw(now, &limits));
                }
            }
            let seconds = millis / 1000 + 1;
            // Each window of ten seconds allows its own share, so all together at most that of all.
            let most = requests * u64::from(percent) / 100 + u64::from(floor) * seconds;
            prop_assert!(granted <= most, "{granted} of {requests} in {seconds} s");
        }
    }
}
