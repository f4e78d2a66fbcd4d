//! Is a node well? Pure: observations and the time go in, a state comes out. Real requests and
//! probes feed the same state; each judges by results in a row.

use std::time::{Duration, Instant};

use super::{EjectionSettings, HealthCheck};

/// What a try or a probe showed of a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NodeOutcome {
    /// It answered.
    Success,
    /// It answered that it has too much to do: alive, but better left alone for a moment.
    FlowControlled,
    /// It failed.
    Failure(FailureKind),
    /// A probe was answered.
    ProbeSuccess,
    /// A probe failed.
    ProbeFailure(FailureKind),
}

/// How a node failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FailureKind {
    /// The connection ended before the answer did.
    ConnectionClosed,
    /// Not what the interface answers.
    InvalidResponse,
    /// A status of 500 and up, or a result code that the configuration counts as one.
    ServerError,
    /// Too late.
    Timeout,
    /// No connection.
    ConnectFailed,
}

impl FailureKind {
    /// For `/status` and the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectionClosed => "broken",
            Self::InvalidResponse => "garbage",
            Self::ServerError => "server_error",
            Self::Timeout => "timeout",
            Self::ConnectFailed => "unreachable",
        }
    }
}

/// What an observation changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HealthChange {
    /// Probes found it dead.
    Down,
    /// Put aside for so long.
    Ejected(Duration),
    /// It answered while it was put aside.
    Returned,
    /// Probes found it alive again.
    Up,
}

/// By which numbers a node is judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct HealthPolicy<'a> {
    /// Passive ejection and slow start.
    pub(super) ejection: &'a EjectionSettings,
    /// Active checks.
    pub(super) health_check: Option<&'a HealthCheck>,
}

/// The health of one node.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Failures of real requests in a row.
    consecutive_failures: u32,
    /// Times put aside in a row: since it was last well for as long as it had been away.
    consecutive_ejections: u32,
    last_ejection: Option<EjectionPeriod>,
    down: bool,
    /// Probe results in a row that speak against the present state.
    probe_streak: u32,
    /// Since when it is back; its share grows from then on.
    returned_at: Option<Instant>,
    busy_until: Option<Instant>,
    /// It fails, and would be put aside if the cluster could spare it.
    ejection_pending: bool,
}

/// A time out.
#[derive(Clone, Copy, Debug)]
struct EjectionPeriod {
    until: Instant,
    length: Duration,
}

impl Health {
    /// Takes one observation. `may_eject`: the cluster can spare the node.
    pub(super) fn record(
        &mut self,
        outcome: NodeOutcome,
        now: Instant,
        rules: HealthPolicy<'_>,
        may_eject: bool,
    ) -> Option<HealthChange> {
        match outcome {
            NodeOutcome::Success => self.record_success(now),
            NodeOutcome::FlowControlled => {
                self.busy_until = Some(now + FLOW_CONTROL_PERIOD);
                self.record_success(now)
            }
            NodeOutcome::Failure(_) => self.record_failure(now, rules.ejection, may_eject),
            NodeOutcome::ProbeSuccess => self.record_probe(true, now, rules),
            NodeOutcome::ProbeFailure(_) => self.record_probe(false, now, rules),
        }
    }

    /// May it be given requests?
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        !self.down && !self.is_ejected(now)
    }

    /// Usable, but only because too many others are put aside?
    pub(super) fn is_ejection_pending(&self) -> bool {
        self.ejection_pending
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
        self.last_ejection.map(|away| away.until)
    }

    /// Is it coming back slowly?
    pub(super) fn is_in_slow_start(&self, now: Instant, slow_start: Duration) -> bool {
        self.returned_at.is_some_and(|back| now < back + slow_start)
    }

    /// The part of its weight that it carries now, above 0 and up to 1.
    pub(super) fn weight_share(&self, now: Instant, slow_start: Duration) -> f64 {
        let warm = match self.returned_at {
            Some(back) if now < back + slow_start => {
                let elapsed = now.saturating_duration_since(back).as_secs_f64();
                (elapsed / slow_start.as_secs_f64()).max(SLOW_START_MIN_SHARE)
            }
            _ => 1.0,
        };
        let warm = if self.ejection_pending {
            warm * EJECTION_PENDING_SHARE
        } else {
            warm
        };
        if self.busy_until.is_some_and(|until| now < until) {
            warm * FLOW_CONTROL_SHARE
        } else {
            warm
        }
    }

    /// Nothing to remember: usable with its full share, and one more success changes nothing.
    pub(super) fn is_untroubled(&self, now: Instant, slow_start: Duration) -> bool {
        self.consecutive_failures == 0
            && self.consecutive_ejections == 0
            && !self.down
            && self.probe_streak == 0
            && !self.is_in_slow_start(now, slow_start)
            && self.busy_until.is_none_or(|until| until <= now)
    }

    fn record_success(&mut self, now: Instant) -> Option<HealthChange> {
        self.consecutive_failures = 0;
        self.ejection_pending = false;
        let away = self.last_ejection?;
        if now < away.until {
            // Only in panic, or by a request that was under way: it answers, so it is well.
            self.last_ejection = None;
            self.returned_at = Some(now);
            return Some(HealthChange::Returned);
        }
        if now >= away.until + away.length {
            self.last_ejection = None;
            self.consecutive_ejections = 0;
        }
        None
    }

    fn record_failure(
        &mut self,
        now: Instant,
        ejection: &EjectionSettings,
        may_eject: bool,
    ) -> Option<HealthChange> {
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        // Who comes back from a time out is on probation: one failure is enough.
        let threshold = if self.consecutive_ejections > 0 {
            1
        } else {
            ejection.consecutive_failures
        };
        if ejection.consecutive_failures == 0
            || self.consecutive_failures < threshold
            || self.is_ejected(now)
        {
            return None;
        }
        self.ejection_pending = !may_eject;
        if self.ejection_pending {
            return None;
        }
        let length = 2u32
            .checked_pow(self.consecutive_ejections)
            .and_then(|factor| ejection.base_time.checked_mul(factor))
            .map_or(ejection.max_time, |time| time.min(ejection.max_time));
        self.consecutive_failures = 0;
        self.consecutive_ejections = self.consecutive_ejections.saturating_add(1);
        let until = now + length;
        self.last_ejection = Some(EjectionPeriod { until, length });
        self.returned_at = Some(until);
        Some(HealthChange::Ejected(length))
    }

    fn record_probe(
        &mut self,
        alive: bool,
        now: Instant,
        rules: HealthPolicy<'_>,
    ) -> Option<HealthChange> {
        let check = rules.health_check?;
        if alive != self.down {
            self.probe_streak = 0;
            return None;
        }
        self.probe_streak = self.probe_streak.saturating_add(1);
        let needed = if alive {
            check.healthy_after
        } else {
            check.unhealthy_after
        };
        if self.probe_streak < needed {
            return None;
        }
        self.probe_streak = 0;
        self.down = !alive;
        if alive {
            self.returned_at = Some(now);
            Some(HealthChange::Up)
        } else {
            Some(HealthChange::Down)
        }
    }
}

/// How long a flow-control answer is remembered.
const FLOW_CONTROL_PERIOD: Duration = Duration::from_secs(1);

/// The share of a busy node.
const FLOW_CONTROL_SHARE: f64 = 0.1;

/// The share of a node that fails but cannot be spared.
pub(super) const EJECTION_PENDING_SHARE: f64 = 0.1;

/// The share with which a node begins its slow start.
const SLOW_START_MIN_SHARE: f64 = 0.1;

#[cfg(test)]
mod tests;
