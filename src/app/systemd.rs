//! The service manager (systemd): inherited sockets, state notifications and the watchdog. Without a
//! service manager all of these do nothing.
//!
//! Protocols: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3).

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::notifier::Notifier;
use super::socket_activation::InheritedSockets;
use super::workers::Worker;
use crate::task::boxed;

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
            notifier: Notifier::from_environment(),
            watchdog: sd_notify::watchdog_enabled(),
        })
    }

    /// Returns the sender of notifications.
    pub(super) fn notifier(&self) -> Notifier {
        self.notifier.clone()
    }

    /// Starts to ping the watchdog for as long as every worker responds; `None` without `WatchdogSec=`.
    pub(super) fn start_watchdog(&self, workers: Arc<[Worker]>) -> Option<Watchdog> {
        let period = self.watchdog?;
        #[expect(clippy::disallowed_methods, reason = "ends with its `Watchdog`")]
        let task = tokio::spawn(boxed(ping_watchdog(self.notifier(), workers, period / 2)));
        Some(Watchdog(task))
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

async fn ping_watchdog(notifier: Notifier, workers: Arc<[Worker]>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match first_unresponsive(&workers, Instant::now() + every).await {
            None => notifier.watchdog(),
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
