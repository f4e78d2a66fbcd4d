//! What the doctor's thread remembers from tick to tick: its time, and what it does not work on again.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use super::{Case, Claimant};

/// The state of the thread that ticks.
#[derive(Debug)]
pub struct Rounds {
    /// CPU time that may be spent, in microseconds; negative after a long case.
    allowance: i64,
    /// Access keys and addresses of which nothing fitted, until when.
    blocked: HashMap<Claimant, Timestamp>,
}

impl Rounds {
    /// Creates the state of a thread that begins now.
    pub fn new() -> Self {
        Self {
            allowance: MAX_ALLOWANCE,
            blocked: HashMap::new(),
        }
    }

    /// Begins a tick: adds its share of CPU time.
    pub fn begin_tick(&mut self) {
        self.allowance = (self.allowance + ALLOWANCE_PER_TICK).min(MAX_ALLOWANCE);
    }

    pub(super) fn has_time(&self) -> bool {
        self.allowance > 0
    }

    /// Runs `work`, and takes the CPU time of it off.
    pub(super) fn spend<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let before = cpu_time();
        let result = work();
        self.allowance -= cpu_time() - before;
        result
    }

    pub(super) fn is_blocked(&self, case: &Case, now: Timestamp) -> bool {
        let blocked = claimant(case).and_then(|claimant| self.blocked.get(&claimant));
        blocked.is_some_and(|until| now < *until)
    }

    /// Works on no further case of this access key from this address for a minute.
    pub(super) fn block(&mut self, case: &Case, now: Timestamp) {
        self.blocked.retain(|_, until| now < *until);
        if let (Some(claimant), Ok(until)) = (claimant(case), now.checked_add(BLOCKED_FOR)) {
            self.blocked.insert(claimant, until);
        }
    }
}

impl Default for Rounds {
    fn default() -> Self {
        Self::new()
    }
}

fn claimant(case: &Case) -> Option<Claimant> {
    Some((case.claimed()?.into(), case.client))
}

/// Returns the CPU time of this thread, in microseconds.
fn cpu_time() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec.saturating_mul(1_000_000) + time.tv_nsec / 1000
}

/// One per cent of a tick of 100 ms, in microseconds.
const ALLOWANCE_PER_TICK: i64 = 1000;

/// What is saved at most: a tenth of what a minute allows.
const MAX_ALLOWANCE: i64 = 60_000;

const BLOCKED_FOR: Duration = Duration::from_secs(60);
