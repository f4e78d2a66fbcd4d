//! Is a node well? Pure: observations and the time go in, a state comes out. Real requests and
//! probes feed the same state; each judges by results in a row.

use std::time::{Duration, Instant};

use super::{Ejection, HealthCheck};

/// What a try or a probe showed of a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It answered.
    Success,
    /// It answered that it has too much to do: alive, but better left alone for a moment.
    Busy,
    /// It failed.
    Failure(Fault),
    /// A probe was answered.
    ProbeSuccess,
    /// A probe failed.
    ProbeFailure(Fault),
}

/// How a node failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The connection ended before the answer did.
    Broken,
    /// Not what the interface answers.
    Garbage,
    /// A status of 500 and up, or a result code that the configuration counts as one.
    ServerError,
    /// Too late.
    Timeout,
    /// No connection.
    Unreachable,
}

impl Fault {
    /// For `/status` and the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::Garbage => "garbage",
            Self::ServerError => "server_error",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
        }
    }
}

/// What an observation changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// Probes found it dead.
    Down,
    /// Put aside for so long.
    Ejected(Duration),
    /// It answered while it was put aside.
    Restored,
    /// Probes found it alive again.
    Up,
}

/// By which numbers a node is judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    /// Passive ejection and slow start.
    pub(super) ejection: &'a Ejection,
    /// Active checks.
    pub(super) check: Option<&'a HealthCheck>,
}

/// The health of one node.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Failures of real requests in a row.
    failures: u32,
    /// Times put aside in a row: since it was last well for as long as it had been away.
    ejections: u32,
    away: Option<Away>,
    down: bool,
    /// Probe results in a row that speak against the present state.
    streak: u32,
    /// Since when it is back; its share grows from then on.
    back_since: Option<Instant>,
    busy_until: Option<Instant>,
    /// It fails, and would be put aside if the cluster could spare it.
    suspect: bool,
}

/// A time out.
#[derive(Clone, Copy, Debug)]
struct Away {
    until: Instant,
    length: Duration,
}

impl Health {
    /// Takes one observation. `may_eject`: the cluster can spare the node.
    pub(super) fn observe(
        &mut self,
        outcome: Outcome,
        now: Instant,
        rules: Rules<'_>,
        may_eject: bool,
    ) -> Option<Change> {
        match outcome {
            Outcome::Success => self.succeed(now),
            Outcome::Busy => {
                self.busy_until = Some(now + BUSY);
                self.succeed(now)
            }
            Outcome::Failure(_) => self.fail(now, rules.ejection, may_eject),
            Outcome::ProbeSuccess => self.probe(true, now, rules),
            Outcome::ProbeFailure(_) => self.probe(false, now, rules),
        }
    }

    /// May it be given requests?
    pub(super) fn usable(&self, now: Instant) -> bool {
        !self.down && !self.is_ejected(now)
    }

    /// Usable, but only because too many others are put aside?
    pub(super) fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// Is it dead by its probes?
    pub(super) fn is_down(&self) -> bool {
        self.down
    }

    /// Is it put aside?
    pub(super) fn is_ejected(&self, now: Instant) -> bool {
        self.ejected_until().is_some_and(|until| now < until)
    }

    /// Until when it is, or was last, put aside.
    pub(super) fn ejected_until(&self) -> Option<Instant> {
        self.away.map(|away| away.until)
    }

    /// Is it coming back slowly?
    pub(super) fn is_warming(&self, now: Instant, slow_start: Duration) -> bool {
        self.back_since.is_some_and(|back| now < back + slow_start)
    }

    /// The part of its weight that it carries now, above 0 and up to 1.
    pub(super) fn share(&self, now: Instant, slow_start: Duration) -> f64 {
        let warm = match self.back_since {
            Some(back) if now < back + slow_start => {
                let elapsed = now.saturating_duration_since(back).as_secs_f64();
                (elapsed / slow_start.as_secs_f64()).max(LEAST_SHARE)
            }
            _ => 1.0,
        };
        let warm = if self.suspect {
            warm * SUSPECT_SHARE
        } else {
            warm
        };
        if self.busy_until.is_some_and(|until| now < until) {
            warm * BUSY_SHARE
        } else {
            warm
        }
    }

    /// Nothing to remember: usable with its full share, and one more success changes nothing.
    pub(super) fn is_spotless(&self, now: Instant, slow_start: Duration) -> bool {
        self.failures == 0
            && self.ejections == 0
            && !self.down
            && self.streak == 0
            && !self.is_warming(now, slow_start)
            && self.busy_until.is_none_or(|until| until <= now)
    }

    fn succeed(&mut self, now: Instant) -> Option<Change> {
        self.failures = 0;
        self.suspect = false;
        let away = self.away?;
        if now < away.until {
            // Only in panic, or by a request that was under way: it answers, so it is well.
            self.away = None;
            self.back_since = Some(now);
            return Some(Change::Restored);
        }
        if now >= away.until + away.length {
            self.away = None;
            self.ejections = 0;
        }
        None
    }

    fn fail(&mut self, now: Instant, ejection: &Ejection, may_eject: bool) -> Option<Change> {
        self.failures = self.failures.saturating_add(1);
        // Who comes back from a time out is on probation: one failure is enough.
        let threshold = if self.ejections > 0 {
            1
        } else {
            ejection.consecutive_failures
        };
        if ejection.consecutive_failures == 0 || self.failures < threshold || self.is_ejected(now) {
            return None;
        }
        self.suspect = !may_eject;
        if self.suspect {
            return None;
        }
        let length = 2u32
            .checked_pow(self.ejections)
            .and_then(|factor| ejection.base_time.checked_mul(factor))
            .map_or(ejection.max_time, |time| time.min(ejection.max_time));
        self.failures = 0;
        self.ejections = self.ejections.saturating_add(1);
        let until = now + length;
        self.away = Some(Away { until, length });
        self.back_since = Some(until);
        Some(Change::Ejected(length))
    }

    fn probe(&mut self, alive: bool, now: Instant, rules: Rules<'_>) -> Option<Change> {
        let check = rules.check?;
        if alive != self.down {
            self.streak = 0;
            return None;
        }
        self.streak = self.streak.saturating_add(1);
        let needed = if alive {
            check.healthy_after
        } else {
            check.unhealthy_after
        };
        if self.streak < needed {
            return None;
        }
        self.streak = 0;
        self.down = !alive;
        if alive {
            self.back_since = Some(now);
            Some(Change::Up)
        } else {
            Some(Change::Down)
        }
    }
}

/// How long a flow-control answer is remembered.
const BUSY: Duration = Duration::from_secs(1);

/// The share of a busy node.
const BUSY_SHARE: f64 = 0.1;

/// The share of a node that fails but cannot be spared.
pub(super) const SUSPECT_SHARE: f64 = 0.1;

/// The share with which a node begins its slow start.
const LEAST_SHARE: f64 = 0.1;

#[cfg(test)]
mod tests;
