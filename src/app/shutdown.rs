//! How things end, one listener or all of it: the word goes round, the socket closes once it is
//! empty, idle connections go, what is in flight finishes, the rest is dropped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::systemd::Notifier;
use super::{App, ShutdownReport};
use crate::admin::AdminCommand;
use crate::config::Server;
use crate::drain::{Phase, Trigger};
use crate::gateway::GatewayState;
use crate::telemetry;

/// Connections of a listener that a reload took away, or put on another address.
#[derive(Debug)]
pub(super) struct DrainingListener {
    /// Its name.
    pub(super) listener: Arc<str>,
    /// Their end.
    pub(super) connection_drain: Arc<Trigger>,
    socket: Option<ClosingSocket>,
    task: JoinHandle<()>,
}

/// A socket that is to close, and what ends the accepting.
#[derive(Clone, Debug)]
pub(super) struct ClosingSocket {
    pub(super) local_address: SocketAddr,
    pub(super) accept_drain: Arc<Trigger>,
}

impl ClosingSocket {
    async fn close(&self) {
        self.accept_drain.advance(Phase::Closing);
        self.accept_drain.completed().await;
    }
}

impl Drop for DrainingListener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl DrainingListener {
    /// Lets connections end by themselves, and the socket before them if it is to close.
    pub(super) fn start(
        listener: Arc<str>,
        connections: Arc<Trigger>,
        socket: Option<ClosingSocket>,
        server: &Server,
    ) -> Self {
        let (delay, grace) = (server.drain_delay, server.grace);
        let all = [connections.clone()];
        let closes = socket.clone();
        let name = listener.clone();
        let drain = async move {
            all[0].advance(Phase::Notified);
            sleep(delay).await;
            if let Some(socket) = closes {
                socket.close().await;
            }
            if !wait_for_connections(&all, grace).await {
                tracing::warn!(listener = %name, ?grace, "its last connections are cut: grace was not enough");
            }
            all[0].advance(Phase::Forced);
        };
        #[expect(clippy::disallowed_methods, reason = "ends with its `Retired`")]
        let task = tokio::spawn(drain);
        Self {
            listener,
            connection_drain: connections,
            socket,
            task,
        }
    }

    /// Gives up an address that somebody else is to have, now.
    pub(super) async fn release_address(&self, address: SocketAddr) {
        // A wildcard takes the port from every address.
        if let Some(socket) = &self.socket
            && socket.local_address.port() == address.port()
        {
            socket.close().await;
        }
    }

    /// Do some of the connections still live?
    pub(super) fn is_active(&self) -> bool {
        !self.connection_drain.is_complete() || !self.task.is_finished()
    }
}

/// After the word went round and the sockets are closed: false if `grace` was not enough, and
/// connections are left.
async fn wait_for_connections(all: &[Arc<Trigger>], grace: Duration) -> bool {
    let begun = Instant::now();
    let gone = async {
        for connections in all {
            connections.completed().await;
        }
    };
    let mut gone = std::pin::pin!(gone);
    // A request that is on its way to a connection that looks idle must not be lost: most learn from
    // the answer to it that the connection ends.
    let noticed = begun + IDLE_CONNECTION_GRACE.min(grace);
    let mut complete = timeout_at(noticed, gone.as_mut()).await.is_ok();
    if !complete {
        all.iter().for_each(|one| one.advance(Phase::Closing));
        complete = timeout_at(begun + grace, gone).await.is_ok();
    }
    complete
}

impl App {
    /// Drains and ends. `first` began it: a signal after an order to drain is the first signal.
    pub(super) async fn shut_down(mut self, first: &AdminCommand) -> ShutdownReport {
        let server = self.config.load().server.clone();
        tracing::info!(?server.drain_delay, ?server.grace, "draining");
        self.notifier.stopping("draining");
        self.drain_state.0.advance(Phase::Notified);
        let ports: Vec<_> = std::mem::take(&mut self.ports).into_values().collect();
        let mut all: Vec<_> = ports
            .iter()
            .map(|port| port.setup.load().connection_drain.clone())
            .collect();
        all.extend(
            self.draining_listeners
                .iter()
                .map(|one| one.connection_drain.clone()),
        );
        all.iter().for_each(|one| one.advance(Phase::Notified));
        let finished = async {
            sleep(server.drain_delay).await;
            for port in &ports {
                port.accept_drain.advance(Phase::Closing);
            }
            for port in &ports {
                port.accept_drain.completed().await;
            }
            wait_for_connections(&all, server.grace).await
        };
        let grace_ends = Instant::now() + server.drain_delay + server.grace;
        let (complete, in_a_hurry) = tokio::select! {
            complete = finished => (complete, false),
            () = second_signal(&mut self.commands.1, self.access_log.as_ref(), first) => (false, true),
            () = report_drain_progress(self.notifier, &self.shared) => (false, false),
        };
        if !complete {
            let connections = self.workers.connections();
            tracing::warn!(connections, ?server.grace, "connections are cut: there is no more time");
        }
        for port in &ports {
            port.accept_drain.advance(Phase::Forced);
        }
        all.iter().for_each(|one| one.advance(Phase::Forced));
        self.cluster_tasks.stop();
        if let Some(port) = self.admin.take() {
            port.drain.advance(Phase::Closing);
            let _ = tokio::time::timeout(FORCED_CLOSE_TIMEOUT, port.drain.completed()).await;
        }
        self.watchdog = None;
        self.workers.stop();
        if let Some(traces) = self.trace_exporter.take()
            && !in_a_hurry
        {
            let left = grace_ends.saturating_duration_since(Instant::now());
            tokio::select! {
                () = traces.shutdown(left.clamp(FORCED_CLOSE_TIMEOUT, SPAN_FLUSH_TIMEOUT)) => {}
                () = second_signal(&mut self.commands.1, self.access_log.as_ref(), first) => {}
            }
        }
        tracing::info!(complete, "ended");
        ShutdownReport { complete }
    }
}

/// Resolves at the second signal. Nothing else can be ordered any more, but for a rotation of the log.
async fn second_signal(
    orders: &mut mpsc::Receiver<AdminCommand>,
    log: Option<&telemetry::AccessLog>,
    first: &AdminCommand,
) {
    let mut signals = u8::from(matches!(first, AdminCommand::Terminate));
    while signals < 2 {
        match orders.recv().await {
            Some(AdminCommand::Terminate) => signals += 1,
            Some(AdminCommand::ReopenLog) => log.into_iter().for_each(telemetry::AccessLog::reopen),
            // Whoever asked for a reload learns that the gateway is ending by its dropped answer.
            Some(AdminCommand::Drain | AdminCommand::Reload(_)) => {}
            None => std::future::pending().await,
        }
    }
    tracing::warn!("a second signal: ending at once");
}

/// Tells the service manager that the drain goes on, so that it does not kill what is in order.
async fn report_drain_progress(voice: Notifier, shared: &GatewayState) {
    loop {
        let in_flight = shared.snapshot.load().in_flight.in_use();
        voice.extend_timeout(
            &format!("draining, {in_flight} requests in flight"),
            NOTIFY_INTERVAL * 3,
        );
        sleep(NOTIFY_INTERVAL).await;
    }
}

/// How long connections that look idle stay after sockets are closed, within `grace`.
const IDLE_CONNECTION_GRACE: Duration = Duration::from_millis(500);

/// How long dropping what is left may take.
const FORCED_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the last spans may be on their way to a collector, within what is left of `grace`.
const SPAN_FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two words to the service manager.
const NOTIFY_INTERVAL: Duration = Duration::from_secs(5);
