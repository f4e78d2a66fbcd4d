//! Rate limits (per access key after verification; per client address for failed and unverified
//! requests) and limits on what is in flight at once. A limit admits a request or returns how long to
//! wait; it never delays a request.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::Quota;
use governor::clock::{Clock, MonotonicClock};
use governor::middleware::{StateInformationMiddleware, StateSnapshot};
use governor::state::{DirectStateStore, InMemoryState, NotKeyed};

mod addresses;
mod in_flight;
mod refundable;

pub use addresses::{AddressCharge, AddressRateLimiter};
pub use in_flight::{ByteBudget, BytePermit, InFlight, Permit};
pub use refundable::RefundableRateLimiter;

use crate::config::Rate;

/// One rate limit: GCRA on one atomic. Uses the system's monotonic clock, which has no state of its
/// own, because tens of thousands of limiters are created at start.
#[derive(Debug)]
pub struct RateLimiter<C: Clock = MonotonicClock, S: DirectStateStore = InMemoryState> {
    rate: Rate,
    limiter: governor::RateLimiter<NotKeyed, S, C, StateInformationMiddleware>,
    clock: C,
}

impl RateLimiter {
    /// Creates a limiter with its full burst available.
    pub fn new(rate: Rate) -> Self {
        Self::with_clock(rate, MonotonicClock)
    }
}

impl<C: Clock + Clone> RateLimiter<C> {
    /// Creates a limiter with its full burst available, with a clock of its own.
    fn with_clock(rate: Rate, clock: C) -> Self {
        Self::with_state(rate, InMemoryState::default(), clock)
    }
}

impl<C: Clock + Clone, S: DirectStateStore> RateLimiter<C, S> {
    fn with_state(rate: Rate, state: S, clock: C) -> Self {
        Self {
            rate,
            limiter: governor::RateLimiter::new(quota(rate), state, clock.clone()),
            clock,
        }
    }

    /// Returns the rate that the limiter was created with.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes one token.
    ///
    /// # Errors
    /// No token is available; the error holds the time until the next one.
    pub fn try_acquire(&self) -> Result<(), RateLimited> {
        self.check().map(drop)
    }

    /// Takes one token and returns what is left.
    ///
    /// # Errors
    /// As [`RateLimiter::try_acquire`].
    pub fn charge(&self) -> Result<Remaining, RateLimited> {
        let tokens = self.check()?.remaining_burst_capacity();
        Ok(Remaining {
            rate: self.rate,
            tokens,
            next_in: self.next_in(tokens),
        })
    }

    fn check(&self) -> Result<StateSnapshot, RateLimited> {
        self.limiter.check().map_err(|not_until| RateLimited {
            rate: self.rate,
            wait: not_until.wait_time_from(self.clock.now()),
        })
    }

    /// Returns the time until one more token than `tokens` is available, at most one interval.
    ///
    /// It matters only for intervals above a second. The limiter tells times of refusals alone, so it is
    /// asked for two tokens more than there are: that is granted only after another whole interval, and
    /// the answer is one interval later than the next token.
    fn next_in(&self, tokens: u32) -> Duration {
        let interval = self.rate.interval();
        // A bucket that was full has just begun to refill.
        let is_from_full = tokens.saturating_add(1) >= self.rate.burst;
        let two_more = NonZeroU32::new(tokens.saturating_add(2));
        if interval <= Duration::from_secs(1) || is_from_full {
            return interval;
        }
        match two_more.map(|count| self.limiter.check_n(count)) {
            Some(Ok(Err(not_until))) => not_until
                .wait_time_from(self.clock.now())
                .saturating_sub(interval)
                .min(interval),
            _ => interval,
        }
    }
}

/// What is left of a rate limit after a charge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Remaining {
    /// The rate of the limiter.
    pub rate: Rate,
    /// Requests that would be admitted at once.
    pub tokens: u32,
    /// The time until there is one more.
    pub next_in: Duration,
}

/// A rate limit was limited.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RateLimited {
    /// The rate of the limiter.
    pub rate: Rate,
    /// The time until the next token.
    pub wait: Duration,
}

impl RateLimited {
    /// Returns `Retry-After`: whole seconds, rounded up, at least one (RFC 9110, 10.2.3).
    pub fn retry_after(&self) -> u64 {
        whole_seconds(self.wait)
    }
}

/// Returns whole seconds, rounded up, at least one.
pub fn whole_seconds(time: Duration) -> u64 {
    (time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(1)
}

fn quota(rate: Rate) -> Quota {
    let at_least_one = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
    // `None` only for an interval of zero, which no valid rate has.
    Quota::with_period(rate.interval())
        .unwrap_or_else(|| Quota::per_second(at_least_one(rate.requests)))
        .allow_burst(at_least_one(rate.burst))
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;
    use crate::config::Period;

    #[test]
    fn a_burst_passes_and_the_next_request_gets_retry_after() {
        let limiter = RateLimiter::new(Rate::per_second(1, 3));
        for _ in 0..3 {
            assert_eq!(limiter.try_acquire(), Ok(()));
        }
        let limited = limiter.try_acquire().unwrap_err();
        assert_eq!(limited.retry_after(), 1);
        assert_eq!(limited.rate.window_seconds(), 3);
    }

    /// Takes all that there is, at the same moment.
    fn drain(limiter: &RateLimiter<FakeRelativeClock>) -> u64 {
        std::iter::from_fn(|| limiter.try_acquire().ok()).count() as u64
    }

    #[test]
    fn long_rates_are_exact_over_hours() {
        for (requests, period, burst) in [
            (12, Period::Minute, 1),
            (500, Period::Hour, 20),
            (7, Period::Hour, 1),
            (99_983, Period::Hour, 300),
            (1, Period::Second, 1),
        ] {
            let rate = Rate {
                requests,
                period,
                burst,
            };
            let clock = FakeRelativeClock::default();
            let limiter = RateLimiter::with_clock(rate, clock.clone());
            assert_eq!(drain(&limiter), u64::from(burst), "{rate:?}");
            // Ten hours, in steps in which no bucket overflows.
            let step = rate.interval() * burst;
            let mut passed = Duration::ZERO;
            let mut taken = 0;
            while passed < Duration::from_secs(36_000) {
                let step = step.min(Duration::from_secs(36_000) - passed);
                clock.advance(step);
                passed += step;
                taken += drain(&limiter);
            }
            let expected = u64::from(requests) * 36_000 / u64::from(period.seconds());
            assert_eq!(taken, expected, "{rate:?}");
        }
    }

    #[test]
    fn the_wait_of_a_long_rate_is_the_time_to_its_next_request() {
        let clock = FakeRelativeClock::default();
        let rate = Rate::with_default_burst(12, Period::Minute);
        let limiter = RateLimiter::with_clock(rate, clock.clone());
        assert_eq!(limiter.try_acquire(), Ok(()));
        clock.advance(Duration::from_millis(1_500));
        let limited = limiter.try_acquire().unwrap_err();
        assert_eq!(limited.wait, Duration::from_millis(3_500));
        assert_eq!((limited.retry_after(), rate.window_seconds()), (4, 5));
        clock.advance(limited.wait);
        assert_eq!(limiter.try_acquire(), Ok(()));
    }

    #[test]
    fn a_charge_tells_what_is_left_and_when_it_grows() {
        let clock = FakeRelativeClock::default();
        let seconds = Duration::from_secs;
        let rate = Rate {
            requests: 6,
            period: Period::Minute,
            burst: 4,
        };
        let limiter = RateLimiter::with_clock(rate, clock.clone());
        let left = || limiter.charge().map(|left| (left.tokens, left.next_in));
        assert_eq!(left(), Ok((3, seconds(10))));
        clock.advance(seconds(4));
        assert_eq!(left(), Ok((2, seconds(6))));
        assert_eq!(left(), Ok((1, seconds(6))));
        clock.advance(seconds(7));
        // Asking when the next token is due took none.
        assert_eq!(left(), Ok((1, seconds(9))));
        assert_eq!(left(), Ok((0, seconds(9))));
        assert_eq!(left().unwrap_err().wait, seconds(9));
        clock.advance(seconds(100));
        assert_eq!(left(), Ok((3, seconds(10))));
    }

    #[test]
    fn retry_after_is_rounded_up() {
        let rate = Rate::per_second(1, 1);
        let seconds = |millis| {
            RateLimited {
                rate,
                wait: Duration::from_millis(millis),
            }
            .retry_after()
        };
        assert_eq!(
            (seconds(0), seconds(1), seconds(1000), seconds(1001)),
            (1, 1, 1, 2)
        );
    }
}
