//! The service manager (systemd): inherited sockets, state notifications and the watchdog. Without a
//! service manager all of these do nothing.
//!
//! Protocols: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3).

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::socket_activation::InheritedSockets;
use super::workers::Worker;

/// The service manager, or none (the default).
#[derive(Debug, Default)]
pub struct ServiceManager {
    pub(super) sockets: InheritedSockets,
    notifier: Notifier,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// Reads the environment variables of systemd. Call once, before any thread is started, because it
    /// removes the socket variables. The others stay: the gateway starts no child processes.
    ///
    /// # Errors
    /// A passed socket is invalid.
    pub fn from_environment() -> std::io::Result<Self> {
        Ok(Self {
            sockets: InheritedSockets::from_environment()?,
            notifier: Notifier { is_enabled: true },
            watchdog: sd_notify::watchdog_enabled(),
        })
    }

    /// Returns the sender of notifications.
    pub(super) fn notifier(&self) -> Notifier {
        self.notifier
    }

    /// Starts to ping the watchdog for as long as every worker responds; `None` without `WatchdogSec=`.
    pub(super) fn start_watchdog(&self, workers: Arc<[Worker]>) -> Option<Watchdog> {
        let period = self.watchdog?;
        #[expect(clippy::disallowed_methods, reason = "ends with its `Watchdog`")]
        let task = tokio::spawn(ping_watchdog(workers, period / 2));
        Some(Watchdog(task))
    }
}

/// Sends state notifications (sd_notify(3)). A failed notification is logged and otherwise ignored.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Notifier {
    is_enabled: bool,
}

impl Notifier {
    /// All sockets are bound and the configuration is in force; also ends a reload.
    pub(super) fn ready(self, status: &str) {
        self.notify(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// A reload has started. [`Notifier::ready`] ends it, also when it was rejected.
    pub(super) fn reloading(self) {
        // Without the timestamp systemd attributes the message to an earlier reload.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.notify(&[NotifyState::Reloading, now]);
        }
    }

    /// The drain has started.
    pub(super) fn stopping(self, status: &str) {
        self.notify(&[NotifyState::Stopping, NotifyState::Status(status)]);
    }

    /// The drain continues and may take `longer` from now.
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
            tracing::warn!(%error, "the service manager cannot be notified");
        }
    }
}

/// The ping task; aborted on drop.
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
                    "a worker is unresponsive: the watchdog is not pinged"
                );
            }
        }
    }
}

/// Returns the index of the first worker that does not run a spawned task before the deadline.
async fn first_unresponsive(workers: &[Worker], deadline: Instant) -> Option<usize> {
    let probes: Vec<_> = workers
        .iter()
        .map(|worker| worker.runtime.spawn(async {}))
        .collect();
    for (index, probe) in probes.into_iter().enumerate() {
        if !matches!(tokio::time::timeout_at(deadline, probe).await, Ok(Ok(()))) {
            return Some(index);
        }
    }
    None
}
