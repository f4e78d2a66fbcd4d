//! Flow control as a node does it: how many requests of a class it takes at once and a second. The rest
//! is refused with 0300008 or 0300009, at once and without being executed. Can be changed while the
//! stand-in runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The requests that share a limit.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum FlowClass {
    /// Downloads and playback, refused with 0300008.
    Download,
    /// All other interfaces, refused with 0300009.
    Query,
}

/// What a node takes of one class. The default takes everything.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FlowLimit {
    /// Requests at once, from their last byte to the last byte of their response.
    pub max_at_once: Option<u32>,
    /// Requests a second.
    pub max_per_second: Option<u32>,
    /// How requests a second are counted.
    pub window: RateWindow,
    /// Whether each access key has the limit for itself. Unsigned requests share one.
    pub per_access_key: bool,
}

/// How requests a second are counted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RateWindow {
    /// A token bucket that holds one second's worth, full at the start.
    #[default]
    Bucket,
    /// Windows of one second, one after the other: what is left at the end of one is lost.
    Fixed,
}

impl RateWindow {
    /// Returns the window of a name: `bucket` or `fixed`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "bucket" => Some(Self::Bucket),
            "fixed" => Some(Self::Fixed),
            _ => None,
        }
    }
}

/// The limits of one stand-in with their counts.
#[derive(Debug, Default)]
pub(super) struct FlowLimits(Arc<Mutex<FlowState>>);

#[derive(Debug, Default)]
struct FlowState {
    download: FlowLimit,
    query: FlowLimit,
    usage: HashMap<UsageKey, Usage>,
    accepted: u64,
    refused: u64,
}

/// The class, and the access key of a limit that each of them has for itself.
type UsageKey = (FlowClass, Option<String>);

#[derive(Debug, Default)]
struct Usage {
    at_once: u32,
    rate: RateUsage,
}

#[derive(Debug, Default)]
struct RateUsage {
    /// When the bucket was last filled, or its window began; `None` before the first request.
    since: Option<Instant>,
    /// Tokens in the bucket, or what is left of the window.
    left: f64,
}

/// One accepted request; counts as one at once until it is dropped.
#[derive(Debug)]
pub(super) struct FlowPermit {
    state: Arc<Mutex<FlowState>>,
    key: UsageKey,
}

impl Drop for FlowPermit {
    fn drop(&mut self) {
        if let Some(usage) = self.state.lock().usage.get_mut(&self.key) {
            usage.at_once = usage.at_once.saturating_sub(1);
        }
    }
}

impl FlowLimits {
    /// Replaces the limit of a class. Requests in progress keep counting; windows begin anew.
    pub(super) fn set(&self, class: FlowClass, limit: FlowLimit) {
        let mut state = self.0.lock();
        *state.limit_mut(class) = limit;
        for ((of, _), usage) in &mut state.usage {
            if *of == class {
                usage.rate = RateUsage::default();
            }
        }
    }

    /// Takes a request, or refuses it.
    pub(super) fn admit(
        &self,
        class: FlowClass,
        access_key: Option<&str>,
        now: Instant,
    ) -> Option<FlowPermit> {
        let mut state = self.0.lock();
        let limit = *state.limit_mut(class);
        let owner = access_key.filter(|_| limit.per_access_key);
        let key = (class, owner.map(str::to_owned));
        let admitted = state.usage.entry(key.clone()).or_default().take(limit, now);
        if admitted {
            state.accepted += 1;
        } else {
            state.refused += 1;
        }
        admitted.then(|| FlowPermit {
            state: self.0.clone(),
            key,
        })
    }

    /// Returns how many requests were accepted and refused.
    pub(super) fn counts(&self) -> (u64, u64) {
        let state = self.0.lock();
        (state.accepted, state.refused)
    }
}

impl FlowState {
    fn limit_mut(&mut self, class: FlowClass) -> &mut FlowLimit {
        match class {
            FlowClass::Download => &mut self.download,
            FlowClass::Query => &mut self.query,
        }
    }
}

impl Usage {
    fn take(&mut self, limit: FlowLimit, now: Instant) -> bool {
        if limit.max_at_once.is_some_and(|max| self.at_once >= max) {
            return false;
        }
        let has_token = limit
            .max_per_second
            .is_none_or(|rate| self.rate.take(f64::from(rate), limit.window, now));
        self.at_once += u32::from(has_token);
        has_token
    }
}

impl RateUsage {
    fn take(&mut self, rate: f64, window: RateWindow, now: Instant) -> bool {
        match (self.since, window) {
            (None, _) => (self.since, self.left) = (Some(now), rate),
            (Some(since), RateWindow::Bucket) => {
                let filled = now.saturating_duration_since(since).as_secs_f64() * rate;
                self.left = (self.left + filled).min(rate);
                self.since = Some(now);
            }
            (Some(since), RateWindow::Fixed) => {
                let elapsed = now.saturating_duration_since(since).as_secs();
                if elapsed > 0 {
                    (self.since, self.left) = (Some(since + Duration::from_secs(elapsed)), rate);
                }
            }
        }
        let has_token = self.left >= 1.0;
        if has_token {
            self.left -= 1.0;
        }
        has_token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(limit: FlowLimit) -> FlowLimits {
        let limits = FlowLimits::default();
        limits.set(FlowClass::Query, limit);
        limits
    }

    /// How many of a hundred requests at `now` are taken.
    fn taken(limits: &FlowLimits, now: Instant) -> usize {
        let admitted = |_: &i32| limits.admit(FlowClass::Query, None, now).is_some();
        (0..100).filter(admitted).count()
    }

    #[test]
    fn at_once_counts_until_the_permit_is_dropped() {
        let limits = limits(FlowLimit {
            max_at_once: Some(2),
            per_access_key: true,
            ..FlowLimit::default()
        });
        let now = Instant::now();
        let admit = |key| limits.admit(FlowClass::Query, Some(key), now);
        let held = [admit("a"), admit("a"), admit("b")];
        assert!(held.iter().all(Option::is_some) && admit("a").is_none());
        assert!(limits.admit(FlowClass::Download, Some("a"), now).is_some());
        drop(held);
        assert!(admit("a").is_some());
        assert_eq!(limits.counts(), (5, 1));
        limits.set(FlowClass::Query, FlowLimit::default());
        assert_eq!(taken(&limits, now), 100);
    }

    #[test]
    fn a_bucket_fills_evenly_and_a_window_at_its_boundary() {
        for (window, expected) in [
            (RateWindow::Bucket, [10, 5, 5, 10]),
            (RateWindow::Fixed, [10, 0, 10, 10]),
        ] {
            let limits = limits(FlowLimit {
                max_per_second: Some(10),
                window,
                ..FlowLimit::default()
            });
            let start = Instant::now();
            let at = |millis| taken(&limits, start + Duration::from_millis(millis));
            assert_eq!([at(0), at(500), at(1000), at(9000)], expected, "{window:?}");
        }
    }
}
