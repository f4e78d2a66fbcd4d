//! A rate limit of which a charge can be given back, for requests that a second limit refuses afterwards.

use std::sync::Arc;

use governor::clock::{Clock, MonotonicClock};
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};

use super::{RateLimited, RateLimiter, Remaining};
use crate::config::Rate;

/// One rate limit with refunds.
#[derive(Debug)]
pub struct RefundableRateLimiter<C: Clock = MonotonicClock> {
    limiter: RateLimiter<C, SharedState>,
    state: SharedState,
}

impl RefundableRateLimiter {
    /// Creates a limiter with its full burst available.
    pub fn new(rate: Rate) -> Self {
        Self::with_clock(rate, MonotonicClock)
    }
}

impl<C: Clock + Clone> RefundableRateLimiter<C> {
    fn with_clock(rate: Rate, clock: C) -> Self {
        let state = SharedState::default();
        Self {
            limiter: RateLimiter::with_state(rate, state.clone(), clock),
            state,
        }
    }

    /// Returns the rate that the limiter was created with.
    pub fn rate(&self) -> Rate {
        self.limiter.rate()
    }

    /// Takes one token and returns what is left.
    ///
    /// # Errors
    /// No token is available; the error holds the time until the next one.
    pub fn charge(&self) -> Result<Remaining, RateLimited> {
        self.limiter.charge()
    }

    /// Gives one token back that [`RefundableRateLimiter::charge`] took.
    pub fn refund(&self) {
        give_back(&self.state, &NotKeyed::NonKey, self.rate());
    }
}

/// Gives one token back to the limiter with the state of `key`.
pub(super) fn give_back<S: StateStore>(states: &S, key: &S::Key, rate: Rate) {
    let interval = u64::try_from(rate.interval().as_nanos()).unwrap_or(u64::MAX);
    let _never: Result<(), std::convert::Infallible> = states.measure_and_replace(key, |arrival| {
        let arrival = arrival.unwrap_or_default().as_u64();
        Ok(((), Nanos::new(arrival.saturating_sub(interval))))
    });
}

/// The theoretical arrival time of the limiter (GCRA), which both a charge and a refund move.
#[derive(Clone, Debug, Default)]
struct SharedState(Arc<InMemoryState>);

impl StateStore for SharedState {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, key: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.measure_and_replace(key, decide)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_refund_undoes_a_charge() {
        let clock = FakeRelativeClock::default();
        let limiter = RefundableRateLimiter::with_clock(Rate::per_second(1, 2), clock.clone());
        for _ in 0..10 {
            assert!(limiter.charge().is_ok());
            limiter.refund();
        }
        let taken = || std::iter::from_fn(|| limiter.charge().ok()).count();
        assert_eq!(taken(), 2);
        clock.advance(Duration::from_secs(1));
        assert_eq!(taken(), 1);
    }

    proptest! {
        /// Whatever is charged and given back, never more passes than without refunds.
        #[test]
        fn refunds_never_grant_more(steps in prop::collection::vec((0..3_000u64, any::<bool>()), 1..60)) {
            let clock = FakeRelativeClock::default();
            let rate = Rate::per_second(1, 3);
            let limiter = RefundableRateLimiter::with_clock(rate, clock.clone());
            let plain = RateLimiter::with_clock(rate, clock.clone());
            for (millis, is_refused_later) in steps {
                clock.advance(Duration::from_millis(millis));
                if is_refused_later {
                    if limiter.charge().is_ok() {
                        limiter.refund();
                    }
                } else {
                    prop_assert_eq!(limiter.charge().is_ok(), plain.try_acquire().is_ok());
                }
            }
        }
    }
}
