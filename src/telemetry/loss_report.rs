//! Lost lines are counted at once and reported once a minute.

use std::time::{Duration, Instant};

/// Reports lost lines at most once a minute.
#[derive(Debug, Default)]
pub(super) struct LossReport {
    lines: u64,
    not_before: Option<Instant>,
}

impl LossReport {
    /// Adds lost lines. Returns how many to report now, if the last report is a minute ago.
    pub(super) fn add(&mut self, lost: u64, now: Instant) -> Option<u64> {
        self.lines += lost;
        let is_due = self.not_before.is_none_or(|not_before| now >= not_before);
        if self.lines == 0 || !is_due {
            return None;
        }
        self.not_before = Some(now + REPORT_INTERVAL);
        Some(std::mem::take(&mut self.lines))
    }

    /// Returns when unreported lines are due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.not_before.filter(|_| self.lines > 0)
    }
}

/// One report of lost lines in this time.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_reported_once_a_minute() {
        let start = tokio::time::Instant::now().into_std();
        let mut losses = LossReport::default();
        assert_eq!(losses.add(0, start), None);
        assert_eq!(losses.add(3, start), Some(3));
        assert_eq!(losses.add(4, start), None);
        assert_eq!(losses.next_due(), Some(start + REPORT_INTERVAL));
        assert_eq!(losses.add(5, start + REPORT_INTERVAL), Some(9));
        assert_eq!(losses.next_due(), None);
    }
}
