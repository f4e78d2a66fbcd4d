//! The service manager (systemd): what it handed over at the start, and what it is told since. Without
//! one, nothing is handed over and nobody is told.
//!
//! Protocols: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3).

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::socket_activation::InheritedSockets;
use super::workers::Worker;

/// A service manager, or none.
#[derive(Debug, Default)]
pub struct ServiceManager {
    pub(super) sockets: InheritedSockets,
    notifier: Notifier,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// What the environment says. Call it once, before there are threads: it takes the sockets out of
    /// the environment. The other variables stay: no child process is ever started.
    ///
    /// # Errors
    /// Sockets were announced that are not there.
    pub fn from_environment() -> std::io::Result<Self> {
        Ok(Self {
            sockets: InheritedSockets::from_environment()?,
            notifier: Notifier { is_enabled: true },
            watchdog: sd_notify::watchdog_enabled(),
        })
    }

    /// To tell it things.
    pub(super) fn notifier(&self) -> Notifier {
        self.notifier
    }

    /// Pings the watchdog for as long as every worker answers; nothing if nobody waits for pings.
    pub(super) fn start_watchdog(&self, workers: Arc<[Worker]>) -> Option<Watchdog> {
        let period = self.watchdog?;
        #[expect(clippy::disallowed_methods, reason = "ends with its `Watchdog`")]
        let task = tokio::spawn(ping_watchdog(workers, period / 2));
        Some(Watchdog(task))
    }
}

/// Tells the service manager what happens. A manager that does not listen is no reason to stop.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Notifier {
    is_enabled: bool,
}

impl Notifier {
    /// Everything is bound and in force.
    pub(super) fn ready(self, status: &str) {
        self.notify(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// A reload has begun; [`Voice::ready`] ends it, also when it was refused.
    pub(super) fn reloading(self) {
        // Without the time systemd takes the message for one of an earlier reload.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.notify(&[NotifyState::Reloading, now]);
        }
    }

    /// The drain has begun.
    pub(super) fn stopping(self, status: &str) {
        self.notify(&[NotifyState::Stopping, NotifyState::Status(status)]);
    }

    /// The drain goes on, and may need so much longer.
    pub(super) fn extend_timeout(self, status: &str, longer: Duration) {
        let micros = u32::try_from(longer.as_micros()).unwrap_or(u32::MAX);
        self.notify(&[
            NotifyState::ExtendTimeoutUsec(micros),
            NotifyState::Status(status),
        ]);
    }

    fn notify(self, states: &[NotifyState<'_>]) {
        if !self.is_enabled {
            return;
        }
        if let Err(error) = sd_notify::notify(states) {
            tracing::warn!(%error, "the service manager cannot be told");
        }
    }
}

/// Ends with its drop.
#[derive(Debug)]
pub(super) struct Watchdog(JoinHandle<()>);

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn ping_watchdog(workers: Arc<[Worker]>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match first_unresponsive(&workers, Instant::now() + every).await {
            None => Notifier { is_enabled: true }.notify(&[NotifyState::Watchdog]),
            Some(worker) => {
                tracing::error!(
                    worker,
                    "a worker does not answer: the watchdog gets no ping"
                );
            }
        }
    }
}

/// The first worker that does not run a task before the deadline.
async fn first_unresponsive(workers: &[Worker], deadline: Instant) -> Option<usize> {
    let answers: Vec<_> = workers
        .iter()
        .map(|worker| worker.runtime.spawn(async {}))
        .collect();
    for (index, answer) in answers.into_iter().enumerate() {
        if !matches!(tokio::time::timeout_at(deadline, answer).await, Ok(Ok(()))) {
            return Some(index);
        }
    }
    None
}
