//! The cases that wait for the doctor. Bounded in number and in bytes.

use super::Case;

#[derive(Debug, Default)]
pub(super) struct Inbox {
    cases: Vec<Case>,
    /// Of all cases.
    bytes: usize,
}

impl Inbox {
    /// Adds a case. A full inbox gives up cases at random, so that the clients of a moment do not keep out
    /// those of the next.
    pub(super) fn add(&mut self, case: Case) {
        if case.bytes > MAX_BYTES {
            return;
        }
        while self.cases.len() >= MAX_CASES || self.bytes + case.bytes > MAX_BYTES {
            self.remove_any();
        }
        self.bytes += case.bytes;
        self.cases.push(case);
    }

    /// Takes one case at random, after dropping all that `is_blocked`.
    pub(super) fn take(&mut self, is_blocked: impl Fn(&Case) -> bool) -> Option<Case> {
        self.cases.retain(|case| !is_blocked(case));
        self.bytes = self.cases.iter().map(|case| case.bytes).sum();
        self.remove_any()
    }

    fn remove_any(&mut self) -> Option<Case> {
        if self.cases.is_empty() {
            return None;
        }
        let index = rand::random_range(0..self.cases.len());
        let case = self.cases.swap_remove(index);
        self.bytes -= case.bytes;
        Some(case)
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        (self.cases.len(), self.bytes)
    }
}

/// Cases held at once.
const MAX_CASES: usize = 64;

/// Bytes of all cases.
const MAX_BYTES: usize = 4 << 20;
