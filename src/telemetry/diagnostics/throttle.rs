//! Limits WARN and ERROR to one line per minute and subject, and counts the others.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::event::DiagnosticEvent;

/// The subjects of the last minute.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<HashMap<u64, Window>>);

#[derive(Debug)]
struct Window {
    ends: Instant,
    /// Events since the window began, and the last of them.
    suppressed: Option<(DiagnosticEvent, u64)>,
}

impl Throttle {
    /// Whether an event is written now. If not, it is counted, and [`Throttle::take_due`] returns it at the
    /// end of the minute.
    pub(super) fn admit(&self, event: &DiagnosticEvent, now: Instant) -> bool {
        let (callsite, subject) = event.subject();
        let mut windows = self.0.lock();
        let key = if windows.len() < MAX_SUBJECTS || windows.contains_key(&subject) {
            subject
        } else {
            callsite
        };
        let Some(window) = windows.get_mut(&key) else {
            windows.insert(key, Window::starting(now));
            return true;
        };
        match &mut window.suppressed {
            Some((last, count)) => {
                *last = event.clone();
                *count += 1;
            }
            None if window.ends > now => window.suppressed = Some((event.clone(), 1)),
            None => {
                *window = Window::starting(now);
                return true;
            }
        }
        false
    }

    /// Returns the end of the first window; `None` without windows.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0.lock().values().map(|window| window.ends).min()
    }

    /// Ends the windows that have expired. Returns the last suppressed event of each with their count, which
    /// starts a new window.
    pub(super) fn take_due(&self, now: Instant) -> Vec<(DiagnosticEvent, u64)> {
        let mut due = Vec::new();
        self.0.lock().retain(|_, window| {
            if window.ends > now {
                return true;
            }
            let suppressed = window.suppressed.take();
            let goes_on = suppressed.is_some();
            due.extend(suppressed);
            window.ends = now + WINDOW;
            goes_on
        });
        due
    }
}

impl Window {
    fn starting(now: Instant) -> Self {
        Self {
            ends: now + WINDOW,
            suppressed: None,
        }
    }
}

/// One line per subject in this time.
const WINDOW: Duration = Duration::from_secs(60);

/// Bounds memory and output. Further subjects share the window of their place in the code.
const MAX_SUBJECTS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_per_minute_and_subject_with_a_count() {
        let throttle = Throttle::default();
        let start = tokio::time::Instant::now().into_std();
        let (one, other) = (
            DiagnosticEvent::loss("one", 1),
            DiagnosticEvent::loss("other", 1),
        );
        assert!(throttle.admit(&one, start) && throttle.admit(&other, start));
        for second in 1..5 {
            assert!(!throttle.admit(&one, start + Duration::from_secs(second)));
        }
        assert!(
            throttle
                .take_due(start + Duration::from_secs(59))
                .is_empty()
        );
        let due = throttle.take_due(start + WINDOW);
        assert_eq!(due.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [4]);
        assert!(
            !throttle.admit(&one, start + WINDOW * 3 / 2),
            "a new window has begun"
        );
        assert!(throttle.admit(&other, start + WINDOW * 3 / 2));
        throttle.take_due(start + WINDOW * 4);
        throttle.take_due(start + WINDOW * 6);
        assert_eq!(throttle.next_due(), None);
    }

    #[test]
    fn many_subjects_are_bounded() {
        let throttle = Throttle::default();
        let now = tokio::time::Instant::now().into_std();
        let event = |n: usize| DiagnosticEvent::loss(&format!("subject {n}"), 1);
        let admitted = (0..MAX_SUBJECTS * 2).filter(|&n| throttle.admit(&event(n), now));
        assert_eq!(admitted.count(), MAX_SUBJECTS + 1);
    }
}
