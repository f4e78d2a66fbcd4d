//! Rate limits (per access key after verification; per client address for failed and unverified
//! requests) and limits on what is in flight at once. A limit admits a request or returns how long to
//! wait; it never delays a request.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::Quota;
use governor::clock::{Clock, MonotonicClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};

mod addresses;
mod in_flight;

pub use addresses::AddressRateLimiter;
pub use in_flight::{ByteBudget, BytePermit, InFlight, Permit};

use crate::config::Rate;

/// One rate limit: GCRA on one atomic. Uses the system's monotonic clock, which has no state of its
/// own, because tens of thousands of limiters are created at start.
#[derive(Debug)]
pub struct RateLimiter {
    rate: Rate,
    limiter:
        governor::RateLimiter<NotKeyed, InMemoryState, MonotonicClock, StateInformationMiddleware>,
}

impl RateLimiter {
    /// Creates a limiter with its full burst available.
    pub fn new(rate: Rate) -> Self {
        let limiter = governor::RateLimiter::direct_with_clock(quota(rate), MonotonicClock)
            .with_middleware::<StateInformationMiddleware>();
        Self { rate, limiter }
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
        match self.limiter.check() {
            Ok(_) => Ok(()),
            Err(not_until) => Err(RateLimited {
                rate: self.rate,
                wait: not_until.wait_time_from(MonotonicClock.now()),
            }),
        }
    }
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
        (self.wait.as_secs() + u64::from(self.wait.subsec_nanos() > 0)).max(1)
    }

    /// Returns the seconds in which the full burst is replenished, at least one: the window of
    /// `RateLimit-Policy`.
    pub fn window(&self) -> u64 {
        u64::from(self.rate.burst.div_ceil(self.rate.per_second.max(1))).max(1)
    }
}

fn quota(rate: Rate) -> Quota {
    let at_least_one = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
    Quota::per_second(at_least_one(rate.per_second)).allow_burst(at_least_one(rate.burst))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_the_next_request_gets_retry_after() {
        let limiter = RateLimiter::new(Rate {
            per_second: 1,
            burst: 3,
        });
        for _ in 0..3 {
            assert_eq!(limiter.try_acquire(), Ok(()));
        }
        let limited = limiter.try_acquire().unwrap_err();
        assert_eq!(limited.retry_after(), 1);
        assert_eq!(limited.window(), 3);
    }

    #[test]
    fn retry_after_is_rounded_up() {
        let rate = Rate {
            per_second: 1,
            burst: 1,
        };
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
