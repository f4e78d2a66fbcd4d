//! How things end, one listener or all of it: the word goes round, the socket closes once it is
//! empty, idle connections go, what is in flight finishes, the rest is dropped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::systemd::Voice;
use super::{App, Report};
use crate::admin::Order;
use crate::config::Server;
use crate::drain::{Phase, Trigger};
use crate::gateway::Shared;
use crate::telemetry;

/// Connections of a listener that a reload took away, or put on another address.
#[derive(Debug)]
pub(super) struct Retired {
    /// Its name.
    pub(super) listener: Arc<str>,
    /// Their end.
    pub(super) connections: Arc<Trigger>,
    socket: Option<Socket>,
    task: JoinHandle<()>,
}

/// A socket that is to close, and what ends the accepting.
#[derive(Clone, Debug)]
pub(super) struct Socket {
    pub(super) local: SocketAddr,
    pub(super) accepting: Arc<Trigger>,
}

impl Socket {
    async fn close(&self) {
        self.accepting.advance(Phase::Closing);
        self.accepting.all_gone().await;
    }
}

impl Drop for Retired {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Retired {
    /// Lets connections end by themselves, and the socket before them if it is to close.
    pub(super) fn begin(
        listener: Arc<str>,
        connections: Arc<Trigger>,
        socket: Option<Socket>,
        server: &Server,
    ) -> Self {
        let (delay, grace) = (server.drain_delay, server.grace);
        let all = [connections.clone()];
        let closes = socket.clone();
        let name = listener.clone();
        let drain = async move {
            all[0].advance(Phase::Announced);
            sleep(delay).await;
            if let Some(socket) = closes {
                socket.close().await;
            }
            if !finish(&all, grace).await {
                tracing::warn!(listener = %name, ?grace, "its last connections are cut: grace was not enough");
            }
            all[0].advance(Phase::Forced);
        };
        #[expect(clippy::disallowed_methods, reason = "ends with its `Retired`")]
        let task = tokio::spawn(drain);
        Self {
            listener,
            connections,
            socket,
            task,
        }
    }

    /// Gives up an address that somebody else is to have, now.
    pub(super) async fn make_way(&self, address: SocketAddr) {
        // A wildcard takes the port from every address.
        if let Some(socket) = &self.socket
            && socket.local.port() == address.port()
        {
            socket.close().await;
        }
    }

    /// Do some of the connections still live?
    pub(super) fn lives(&self) -> bool {
        !self.connections.is_over() || !self.task.is_finished()
    }
}

/// After the word went round and the sockets are closed: false if `grace` was not enough, and
/// connections are left.
async fn finish(all: &[Arc<Trigger>], grace: Duration) -> bool {
    let begun = Instant::now();
    let gone = async {
        for connections in all {
            connections.all_gone().await;
        }
    };
    let mut gone = std::pin::pin!(gone);
    // A request that is on its way to a connection that looks idle must not be lost: most learn from
    // the answer to it that the connection ends.
    let noticed = begun + NOTICE.min(grace);
    let mut complete = timeout_at(noticed, gone.as_mut()).await.is_ok();
    if !complete {
        all.iter().for_each(|one| one.advance(Phase::Closing));
        complete = timeout_at(begun + grace, gone).await.is_ok();
    }
    complete
}

impl App {
    /// Drains and ends. `first` began it: a signal after an order to drain is the first signal.
    pub(super) async fn end(mut self, first: &Order) -> Report {
        let server = self.config.load().server.clone();
        tracing::info!(?server.drain_delay, ?server.grace, "draining");
        self.voice.stopping("draining");
        self.announced.0.advance(Phase::Announced);
        let ports: Vec<_> = std::mem::take(&mut self.ports).into_values().collect();
        let mut all: Vec<_> = ports
            .iter()
            .map(|port| port.serving.load().connections.clone())
            .collect();
        all.extend(self.retired.iter().map(|one| one.connections.clone()));
        all.iter().for_each(|one| one.advance(Phase::Announced));
        let finished = async {
            sleep(server.drain_delay).await;
            for port in &ports {
                port.accepting.advance(Phase::Closing);
            }
            for port in &ports {
                port.accepting.all_gone().await;
            }
            finish(&all, server.grace).await
        };
        let grace_ends = Instant::now() + server.drain_delay + server.grace;
        let (complete, in_a_hurry) = tokio::select! {
            complete = finished => (complete, false),
            () = second_signal(&mut self.orders.1, self.log.as_ref(), first) => (false, true),
            () = tell(self.voice, &self.shared) => (false, false),
        };
        if !complete {
            let connections = self.workers.connections();
            tracing::warn!(connections, ?server.grace, "connections are cut: there is no more time");
        }
        for port in &ports {
            port.accepting.advance(Phase::Forced);
        }
        all.iter().for_each(|one| one.advance(Phase::Forced));
        self.probes.end();
        if let Some(port) = self.admin.take() {
            port.drain.advance(Phase::Closing);
            let _ = tokio::time::timeout(FORCED, port.drain.all_gone()).await;
        }
        self.watchdog = None;
        self.workers.stop();
        if let Some(traces) = self.traces.take()
            && !in_a_hurry
        {
            let left = grace_ends.saturating_duration_since(Instant::now());
            tokio::select! {
                () = traces.finish(left.clamp(FORCED, FLUSH)) => {}
                () = second_signal(&mut self.orders.1, self.log.as_ref(), first) => {}
            }
        }
        tracing::info!(complete, "ended");
        Report { complete }
    }
}

/// Resolves at the second signal. Nothing else can be ordered any more, but for a rotation of the log.
async fn second_signal(
    orders: &mut mpsc::Receiver<Order>,
    log: Option<&telemetry::AccessLog>,
    first: &Order,
) {
    let mut signals = u8::from(matches!(first, Order::End));
    while signals < 2 {
        match orders.recv().await {
            Some(Order::End) => signals += 1,
            Some(Order::ReopenLog) => log.into_iter().for_each(telemetry::AccessLog::reopen),
            // Whoever asked for a reload learns that the gateway is ending by its dropped answer.
            Some(Order::Drain | Order::Reload(_)) => {}
            None => std::future::pending().await,
        }
    }
    tracing::warn!("a second signal: ending at once");
}

/// Tells the service manager that the drain goes on, so that it does not kill what is in order.
async fn tell(voice: Voice, shared: &Shared) {
    loop {
        let in_flight = shared.snapshot.load().in_flight.used();
        voice.draining(
            &format!("draining, {in_flight} requests in flight"),
            TELL_EVERY * 3,
        );
        sleep(TELL_EVERY).await;
    }
}

/// How long connections that look idle stay after sockets are closed, within `grace`.
const NOTICE: Duration = Duration::from_millis(500);

/// How long dropping what is left may take.
const FORCED: Duration = Duration::from_secs(1);

/// How long the last spans may be on their way to a collector, within what is left of `grace`.
const FLUSH: Duration = Duration::from_secs(5);

/// Between two words to the service manager.
const TELL_EVERY: Duration = Duration::from_secs(5);
