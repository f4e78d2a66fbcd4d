//! A count of the last ten minutes, cheap enough for the path of a request.

use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;

/// Counts events by minute and forgets them after ten. 48 bytes, no lock.
///
/// Events that are counted while a minute ends may be counted in either minute.
#[derive(Debug, Default)]
pub struct RecentCount {
    /// The current minute since 1970; 0 before the first event.
    minute: AtomicU32,
    /// By minute modulo their number.
    counts: [AtomicU32; MINUTES],
}

impl RecentCount {
    /// Counts one event.
    pub fn count(&self, now: Timestamp) {
        let minute = minute_of(now);
        if self.minute.load(Ordering::Relaxed) != minute {
            self.begin(minute);
        }
        if let Some(count) = self.counts.get(minute as usize % MINUTES) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the number of events in the last ten minutes.
    pub fn recent(&self, now: Timestamp) -> u64 {
        let minute = minute_of(now);
        if self.minute.load(Ordering::Relaxed) != minute {
            self.begin(minute);
        }
        let counts = self.counts.iter();
        counts
            .map(|count| u64::from(count.load(Ordering::Relaxed)))
            .sum()
    }

    /// Empties the counts of the minutes that have begun since the last event. A clock that went back changes
    /// nothing.
    #[cold]
    fn begin(&self, minute: u32) {
        let before = self.minute.load(Ordering::Relaxed);
        let swapped =
            self.minute
                .compare_exchange(before, minute, Ordering::Relaxed, Ordering::Relaxed);
        if swapped.is_err() {
            return;
        }
        let passed = minute.saturating_sub(before).min(MINUTES as u32);
        for minute in (0..passed).map(|back| minute.wrapping_sub(back)) {
            if let Some(count) = self.counts.get(minute as usize % MINUTES) {
                count.store(0, Ordering::Relaxed);
            }
        }
    }
}

fn minute_of(time: Timestamp) -> u32 {
    u32::try_from(time.as_second() / 60).unwrap_or_default()
}

const MINUTES: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_minutes_are_counted() {
        let count = RecentCount::default();
        let at = |minute: i64| Timestamp::from_second(28_000_000 * 60 + minute * 60).unwrap();
        assert_eq!(count.recent(at(0)), 0);
        for minute in 0..10 {
            count.count(at(minute));
            count.count(at(minute));
        }
        assert_eq!(count.recent(at(9)), 20);
        assert_eq!(count.recent(at(10)), 18);
        count.count(at(12));
        assert_eq!(count.recent(at(12)), 15);
        assert_eq!(count.recent(at(21)), 1);
        assert_eq!(count.recent(at(22)), 0);
        count.count(at(5000));
        assert_eq!(count.recent(at(5000)), 1);
    }
}
