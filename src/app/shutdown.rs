//! Graceful shutdown, of one listener or of the whole gateway.
//!
//! Order of a full shutdown:
//! 1. `/readyz` turns 503; every connection is notified ([`Phase::Notified`]): each response from now
//!    on carries `Connection: close`, HTTP/2 connections receive a GOAWAY.
//! 2. `drain_delay` passes, so that a load balancer notices.
//! 3. The accept loops stop; each accepts until its backlog is empty, then closes its socket.
//! 4. Idle connections close after [`IDLE_CONNECTION_GRACE`] ([`Phase::Closing`]).
//! 5. Requests in flight finish within `grace`.
//! 6. The remaining connections are closed ([`Phase::Forced`]); cluster tasks, admin interface with its
//!    followers of requests, watchdog and workers stop.
//! 7. The last spans are exported, within the remainder of `grace` and [`SPAN_FLUSH_TIMEOUT`].
//! 8. The access log is flushed when the `App` is dropped.
//!
//! A second signal skips to step 6 and leaves out step 7. A removed listener takes only steps 1 to 6.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::notifier::Notifier;
use super::{App, ShutdownReport};
use crate::admin::AdminCommand;
use crate::config::Server;
use crate::drain::{Phase, Trigger};
use crate::gateway::GatewayState;
use crate::task::boxed;
use crate::telemetry;

/// A listener that a reload removed or moved to another address, while its connections drain.
#[derive(Debug)]
pub(super) struct DrainingListener {
    /// Its name.
    pub(super) listener: Arc<str>,
    /// Drains its connections.
    pub(super) connection_drain: Arc<Trigger>,
    socket: Option<ClosingSocket>,
    task: JoinHandle<()>,
}

/// A socket to close, with the trigger of its accept loop.
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
    /// Starts the drain: first of the socket, if it closes, then of the connections.
    pub(super) fn start(
        listener: Arc<str>,
        connection_drain: Arc<Trigger>,
        socket: Option<ClosingSocket>,
        server: &Server,
    ) -> Self {
        let (delay, grace) = (server.drain_delay, server.grace);
        let all = [connection_drain.clone()];
        let closing_socket = socket.clone();
        let name = listener.clone();
        let drain = async move {
            all[0].advance(Phase::Notified);
            sleep(delay).await;
            if let Some(socket) = closing_socket {
                socket.close().await;
            }
            if !wait_for_connections(&all, grace).await {
                tracing::warn!(listener = %name, ?grace, "drain timed out: closing the remaining connections of the listener");
            }
            all[0].advance(Phase::Forced);
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with its `DrainingListener`"
        )]
        let task = tokio::spawn(boxed(drain));
        Self {
            listener,
            connection_drain,
            socket,
            task,
        }
    }

    /// Closes the socket now if a new listener needs its port.
    pub(super) async fn release_address(&self, address: SocketAddr) {
        // A wildcard address conflicts with every address of the port.
        if let Some(socket) = &self.socket
            && socket.local_address.port() == address.port()
        {
            socket.close().await;
        }
    }

    /// Whether connections are still open.
    pub(super) fn is_active(&self) -> bool {
        !self.connection_drain.is_complete() || !self.task.is_finished()
    }
}

/// Waits for notified connections whose sockets are closed. Returns false if some are still open after
/// `grace`.
async fn wait_for_connections(all: &[Arc<Trigger>], grace: Duration) -> bool {
    let started = Instant::now();
    let closed = async {
        for connections in all {
            connections.completed().await;
        }
    };
    let mut closed = std::pin::pin!(closed);
    // A request may be on its way to a connection that looks idle here. It is answered, and its response
    // tells the client that the connection closes.
    let idle_deadline = started + IDLE_CONNECTION_GRACE.min(grace);
    let mut complete = timeout_at(idle_deadline, closed.as_mut()).await.is_ok();
    if !complete {
        all.iter().for_each(|one| one.advance(Phase::Closing));
        complete = timeout_at(started + grace, closed).await.is_ok();
    }
    complete
}

impl App {
    /// Shuts down after the command `first`. After [`AdminCommand::Drain`], the next signal still counts
    /// as the first one.
    pub(super) async fn shut_down(
        mut self,
        first: &AdminCommand,
        mut commands: mpsc::Receiver<AdminCommand>,
    ) -> ShutdownReport {
        // Steps 1 to 5: notify, stop accepting, wait.
        let server = self.config.load().server.clone();
        tracing::info!(drain_delay = ?server.drain_delay, grace = ?server.grace, "draining");
        self.notifier.stopping("draining");
        self.drain_state.0.advance(Phase::Notified);
        let ports: Vec<_> = std::mem::take(&mut self.ports).into_values().collect();
        let open = ports.iter().map(|port| port.setup.load());
        let open = open.map(|setup| setup.connection_drain.clone());
        let draining = self.draining_listeners.iter();
        let draining = draining.map(|one| one.connection_drain.clone());
        let all: Vec<_> = open.chain(draining).collect();
        all.iter().for_each(|one| one.advance(Phase::Notified));
        // After the connections know, so that these responses say that they close.
        self.shared.waits.close();
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
        let logs = (self.access_log.as_ref(), self.audit_log.as_ref());
        let grace_ends = Instant::now() + server.drain_delay + server.grace;
        let (complete, interrupted) = tokio::select! {
            complete = finished => (complete, false),
            () = second_signal(&mut commands, logs, first) => (false, true),
            () = report_drain_progress(self.notifier.clone(), &self.shared) => (false, false),
        };
        if !complete {
            let connections = self.workers.connections();
            tracing::warn!(connections, grace = ?server.grace, "drain timed out: closing the remaining connections");
        }
        // Step 6: close and stop the rest.
        for port in &ports {
            port.accept_drain.advance(Phase::Forced);
        }
        all.iter().for_each(|one| one.advance(Phase::Forced));
        self.cluster_tasks.stop();
        self.tail.close();
        if let Some(port) = self.admin.take() {
            port.drain.advance(Phase::Closing);
            let _ = tokio::time::timeout(FORCED_CLOSE_TIMEOUT, port.drain.completed()).await;
        }
        self.watchdog = None;
        self.workers.stop();
        // Step 7: export the last spans.
        if let Some(traces) = self.trace_exporter.take()
            && !interrupted
        {
            let left = grace_ends.saturating_duration_since(Instant::now());
            tokio::select! {
                () = traces.shutdown(left.clamp(FORCED_CLOSE_TIMEOUT, SPAN_FLUSH_TIMEOUT)) => {}
                () = second_signal(&mut commands, logs, first) => {}
            }
        }
        tracing::info!(complete, "shutdown complete");
        ShutdownReport { complete }
    }
}

/// Resolves at the second signal. Until then, of all other commands only the reopening of the logs
/// is carried out.
async fn second_signal(
    commands: &mut mpsc::Receiver<AdminCommand>,
    (access_log, audit_log): (Option<&telemetry::AccessLog>, Option<&telemetry::AuditLog>),
    first: &AdminCommand,
) {
    let mut signals = u8::from(matches!(first, AdminCommand::Terminate));
    while signals < 2 {
        match commands.recv().await {
            Some(AdminCommand::Terminate) => signals += 1,
            Some(AdminCommand::ReopenLog) => {
                access_log
                    .into_iter()
                    .for_each(telemetry::AccessLog::reopen);
                audit_log.into_iter().for_each(telemetry::AuditLog::reopen);
            }
            // Dropping the reply of a reload tells its caller that the gateway is shutting down.
            Some(AdminCommand::Drain | AdminCommand::Reload(_)) => {}
            None => std::future::pending().await,
        }
    }
    tracing::warn!("second signal received: shutting down immediately");
}

/// Extends the service manager's stop timeout for as long as the drain makes progress.
async fn report_drain_progress(notifier: Notifier, shared: &GatewayState) {
    loop {
        let in_flight = shared.snapshot.load().in_flight.in_use();
        notifier.extend_timeout(
            &format!("draining, {in_flight} requests in flight"),
            NOTIFY_INTERVAL * 3,
        );
        sleep(NOTIFY_INTERVAL).await;
    }
}

/// How long idle connections stay open after the sockets have closed, within `grace`. Our choice: longer
/// than a round trip between continents, so that a request already on its way is answered.
const IDLE_CONNECTION_GRACE: Duration = Duration::from_millis(500);

/// Upper bound for closing the admin connections, lower bound for the last export. Our choice.
const FORCED_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Upper bound for exporting the last spans, within the remainder of `grace`: the deadline of one
/// gRPC call (`otlp::TIMEOUT`).
const SPAN_FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval of status notifications. Each extends the stop timeout by three intervals, so that one lost
/// notification does not end the process.
const NOTIFY_INTERVAL: Duration = Duration::from_secs(5);
