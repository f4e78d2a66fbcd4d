//! A token-bucket rate: requests in a second, a minute or an hour, and a burst.

use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// A token-bucket rate. Serialized in the form of the file: `{ "per_minute": 12, "burst": 1 }`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// Sustained requests in each `period`; at least 1.
    pub requests: u32,
    /// The time in which `requests` tokens are replenished.
    pub period: Period,
    /// Size of the bucket in requests; at least 1.
    pub burst: u32,
}

/// The unit of time of a rate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Period {
    /// `per_second`.
    Second,
    /// `per_minute`.
    Minute,
    /// `per_hour`.
    Hour,
}

impl Rate {
    /// Creates a rate of `requests` per second.
    pub const fn per_second(requests: u32, burst: u32) -> Self {
        Self {
            requests,
            period: Period::Second,
            burst,
        }
    }

    /// Creates a rate with the default burst: what one second gives, rounded up, at least 1.
    pub fn with_default_burst(requests: u32, period: Period) -> Self {
        Self {
            requests,
            period,
            burst: requests.div_ceil(period.seconds()).max(1),
        }
    }

    /// Returns the time in which one token is replenished, rounded down to nanoseconds.
    pub fn interval(self) -> Duration {
        self.period.duration() / self.requests.max(1)
    }

    /// Returns the time in which the full burst is replenished, in whole seconds, rounded up, at least 1.
    pub fn window_seconds(self) -> u64 {
        let seconds = u64::from(self.burst) * u64::from(self.period.seconds());
        seconds.div_ceil(u64::from(self.requests.max(1))).max(1)
    }
}

impl Period {
    /// Returns the key of the file.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Second => "per_second",
            Self::Minute => "per_minute",
            Self::Hour => "per_hour",
        }
    }

    /// Returns its length.
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.seconds() as u64)
    }

    /// Returns its length in seconds.
    pub const fn seconds(self) -> u32 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
        }
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut table = serializer.serialize_map(Some(2))?;
        table.serialize_entry(self.period.key(), &self.requests)?;
        table.serialize_entry("burst", &self.burst)?;
        table.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_burst_is_what_one_second_gives() {
        for (requests, period, burst, window) in [
            (50, Period::Second, 50, 1),
            (12, Period::Minute, 1, 5),
            (61, Period::Minute, 2, 2),
            (500, Period::Hour, 1, 8),
            (3_601, Period::Hour, 2, 2),
            (1, Period::Hour, 1, 3_600),
        ] {
            let rate = Rate::with_default_burst(requests, period);
            assert_eq!(
                (rate.burst, rate.window_seconds()),
                (burst, window),
                "{rate:?}"
            );
        }
    }

    #[test]
    fn a_rate_is_shown_as_it_is_written() {
        let rate = Rate::with_default_burst(12, Period::Minute);
        let json = serde_json::to_string(&rate).unwrap();
        assert_eq!(json, r#"{"per_minute":12,"burst":1}"#);
    }
}
