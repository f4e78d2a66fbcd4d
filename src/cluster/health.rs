//! The health of a node: passive ejection by real requests (outlier detection), active health checks,
//! slow start. Pure: outcomes and times are parameters. Both ejection and health checks count
//! consecutive results.
//!
//! ```text
//!            consecutive failures                         end of the ejection
//!   up ---------------------------------> ejected --------------------------------> slow start --> up
//!    |   unhealthy_after failed probes       | success while ejected (panic mode)       ^
//!    +-----------------------------> down    +------------------------------------------+
//!                                     |   healthy_after successful probes               |
//!                                     +-------------------------------------------------+
//! ```
//!
//! After an ejection one failure ejects again, for twice as long, until the node has been healthy for as
//! long as it was ejected.

use std::time::{Duration, Instant};

use super::{EjectionSettings, HealthCheck};

/// The outcome of an attempt or a probe, for the health of its node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NodeOutcome {
    /// A response that does not count as a failure.
    Success,
    /// Flow control: alive, but with a reduced share for a moment.
    FlowControlled,
    /// The attempt failed.
    Failure(FailureKind),
    /// A probe succeeded.
    ProbeSuccess,
    /// A probe failed.
    ProbeFailure(FailureKind),
}

/// How an attempt or a probe failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FailureKind {
    /// The connection was closed before the response was complete.
    ConnectionClosed,
    /// Not a response that the interface can have.
    InvalidResponse,
    /// A status or a configured result code that counts as a failure.
    ServerError,
    /// No response in time.
    Timeout,
    /// No connection was established.
    ConnectFailed,
}

impl FailureKind {
    /// Returns the name in `/status` and the log.
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

/// Why a node is ejected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EjectionReason {
    /// Requests failed there.
    Failures,
    /// It refuses signatures that other nodes accept.
    RefusesSignatures,
}

impl EjectionReason {
    /// Returns the name in `/status` and the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::RefusesSignatures => "refuses-signatures",
        }
    }
}

/// What an outcome changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HealthChange {
    /// Its health checks fail now.
    Down,
    /// Ejected for this long.
    Ejected(Duration),
    /// Returned from an ejection early, by a successful request.
    Returned,
    /// Its health checks succeed again.
    Up,
}

/// What an outcome does.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct OutcomeEffect {
    /// The change, if the outcome made one.
    pub(super) change: Option<HealthChange>,
    /// Whether the node is usable now and was not, or the reverse, or has another share.
    pub(super) changes_table: bool,
}

/// The settings that decide about health.
#[derive(Clone, Copy, Debug)]
pub(super) struct HealthPolicy<'a> {
    /// Passive ejection and slow start.
    pub(super) ejection: &'a EjectionSettings,
    /// Active health checks.
    pub(super) health_check: Option<&'a HealthCheck>,
}

/// The health of one node.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Failures of requests in a row.
    consecutive_failures: u32,
    /// Ejections in a row: since it was last healthy for as long as it had been ejected.
    consecutive_ejections: u32,
    last_ejection: Option<EjectionPeriod>,
    down: bool,
    /// Probe results in a row that contradict `down`.
    probe_streak: u32,
    /// The start of its slow start.
    returned_at: Option<Instant>,
    flow_controlled_until: Option<Instant>,
    /// It fails, and would be ejected if the cluster could spare it.
    ejection_pending: bool,
}

/// One ejection.
#[derive(Clone, Copy, Debug)]
struct EjectionPeriod {
    until: Instant,
    length: Duration,
    reason: EjectionReason,
}

impl Health {
    /// Records one outcome. `may_eject`: whether the cluster can spare the node.
    pub(super) fn record(
        &mut self,
        outcome: NodeOutcome,
        now: Instant,
        policy: HealthPolicy<'_>,
        may_eject: bool,
    ) -> OutcomeEffect {
        let standing = |health: &Self| {
            let is_flow_controlled = health.is_flow_controlled(now);
            (
                health.is_usable(now),
                health.ejection_pending,
                is_flow_controlled,
            )
        };
        let before = standing(self);
        let change = self.apply(outcome, now, policy, may_eject);
        OutcomeEffect {
            change,
            changes_table: standing(self) != before,
        }
    }

    fn apply(
        &mut self,
        outcome: NodeOutcome,
        now: Instant,
        policy: HealthPolicy<'_>,
        may_eject: bool,
    ) -> Option<HealthChange> {
        match outcome {
            NodeOutcome::Success => self.record_success(now),
            NodeOutcome::FlowControlled => {
                self.flow_controlled_until = Some(now + FLOW_CONTROL_PERIOD);
                self.record_success(now)
            }
            NodeOutcome::Failure(_) => self.record_failure(now, policy.ejection, may_eject),
            NodeOutcome::ProbeSuccess => self.record_probe(true, now, policy),
            NodeOutcome::ProbeFailure(_) => self.record_probe(false, now, policy),
        }
    }

    /// Whether it may be given requests.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        !self.down && !self.is_ejected(now)
    }

    /// Whether it is usable only because too many other nodes are ejected.
    pub(super) fn is_ejection_pending(&self) -> bool {
        self.ejection_pending
    }

    /// Whether its health checks fail.
    pub(super) fn is_down(&self) -> bool {
        self.down
    }

    /// Whether it is ejected.
    pub(super) fn is_ejected(&self, now: Instant) -> bool {
        self.ejected_until().is_some_and(|until| now < until)
    }

    /// Why it is ejected.
    pub(super) fn ejection_reason(&self, now: Instant) -> Option<EjectionReason> {
        let ejection = self.last_ejection.filter(|ejection| now < ejection.until);
        ejection.map(|ejection| ejection.reason)
    }

    /// The end of its current or last ejection.
    pub(super) fn ejected_until(&self) -> Option<Instant> {
        self.last_ejection.map(|ejection| ejection.until)
    }

    /// Whether it is in slow start.
    pub(super) fn is_in_slow_start(&self, now: Instant, slow_start: Duration) -> bool {
        self.returned_at
            .is_some_and(|returned| now < returned + slow_start)
    }

    /// The part of its weight that it gets now, above 0 and up to 1.
    pub(super) fn weight_share(&self, now: Instant, slow_start: Duration) -> f64 {
        let share = match self.returned_at {
            Some(returned) if now < returned + slow_start => {
                let elapsed = now.saturating_duration_since(returned).as_secs_f64();
                (elapsed / slow_start.as_secs_f64()).max(SLOW_START_MIN_SHARE)
            }
            _ => 1.0,
        };
        let share = if self.ejection_pending {
            share * EJECTION_PENDING_SHARE
        } else {
            share
        };
        if self.is_flow_controlled(now) {
            share * FLOW_CONTROL_SHARE
        } else {
            share
        }
    }

    /// When it becomes usable or gets another share by itself; in a slow start the next of
    /// [`SLOW_START_STEPS`].
    pub(super) fn next_change(&self, now: Instant, slow_start: Duration) -> Option<Instant> {
        let flow_control = self.flow_controlled_until.filter(|until| now < *until);
        let ejection = self.ejected_until().filter(|until| now < *until);
        let returned = self
            .returned_at
            .filter(|_| self.is_in_slow_start(now, slow_start));
        let step = returned.map(|returned| now.max(returned) + slow_start / SLOW_START_STEPS);
        [flow_control, ejection, step].into_iter().flatten().min()
    }

    fn is_flow_controlled(&self, now: Instant) -> bool {
        self.flow_controlled_until.is_some_and(|until| now < until)
    }

    /// Whether it is usable with its full share, and one more success changes nothing.
    pub(super) fn is_untroubled(&self, now: Instant, slow_start: Duration) -> bool {
        self.consecutive_failures == 0
            && self.consecutive_ejections == 0
            && !self.down
            && self.probe_streak == 0
            && !self.is_in_slow_start(now, slow_start)
            && !self.is_flow_controlled(now)
    }

    fn record_success(&mut self, now: Instant) -> Option<HealthChange> {
        self.consecutive_failures = 0;
        self.ejection_pending = false;
        let ejection = self.last_ejection?;
        if now < ejection.until && ejection.reason == EjectionReason::RefusesSignatures {
            // One access key that it accepts says nothing about the others.
            return None;
        }
        if now < ejection.until {
            // In panic mode, or by a request that was in flight: the node works, so it returns.
            self.last_ejection = None;
            self.returned_at = Some(now);
            return Some(HealthChange::Returned);
        }
        if now >= ejection.until + ejection.length {
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
        // After an ejection one failure is enough.
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
        Some(HealthChange::Ejected(self.eject(
            EjectionReason::Failures,
            now,
            ejection,
        )))
    }

    /// Ejects the node, and returns for how long.
    pub(super) fn eject(
        &mut self,
        reason: EjectionReason,
        now: Instant,
        ejection: &EjectionSettings,
    ) -> Duration {
        let length = 2u32
            .checked_pow(self.consecutive_ejections)
            .and_then(|factor| ejection.base_time.checked_mul(factor))
            .map_or(ejection.max_time, |time| time.min(ejection.max_time));
        self.consecutive_failures = 0;
        self.consecutive_ejections = self.consecutive_ejections.saturating_add(1);
        let until = now + length;
        self.last_ejection = Some(EjectionPeriod {
            until,
            length,
            reason,
        });
        self.returned_at = Some(until);
        length
    }

    fn record_probe(
        &mut self,
        alive: bool,
        now: Instant,
        policy: HealthPolicy<'_>,
    ) -> Option<HealthChange> {
        let check = policy.health_check?;
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

/// How long a flow-control response reduces the share. CC-FS gives no time; its limits are per second.
const FLOW_CONTROL_PERIOD: Duration = Duration::from_secs(1);

/// The share of a node under flow control: not 0, since only its responses show when that ends.
const FLOW_CONTROL_SHARE: f64 = 0.1;

/// The share of a node that fails but cannot be spared: enough to notice when it works again.
pub(super) const EJECTION_PENDING_SHARE: f64 = 0.1;

/// The share at the beginning of a slow start; Envoy's `min_weight_percent` is 10 % too.
const SLOW_START_MIN_SHARE: f64 = 0.1;

/// In how many steps the share grows during a slow start: each rebuilds the table of the cluster's nodes.
/// Our choice.
const SLOW_START_STEPS: u32 = 20;

#[cfg(test)]
mod tests;
