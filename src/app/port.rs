//! One listening socket: accepted in one place, each connection handed to the worker with the fewest
//! connections. One socket per listener and never SO_REUSEPORT, so that a second instance fails
//! loudly and a closing socket loses nobody.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, Socket, Type};

use super::StartError;
use super::listener_setup::ListenerSetup;
use super::socket_activation::InheritedSockets;
use super::workers::{Worker, Workers};
use crate::admin::{Admin, Connections, OpenPort};
use crate::drain::{self, Trigger, Watch};
use crate::listener::{self, AcceptedConnection, ConnectionLimits, ListenerContext};

/// An open port. The socket's end and the end of its connections are two things: the one may be
/// served on under another name, the others go on after it.
#[derive(Debug)]
pub(super) struct Port {
    /// As configured; port 0 stays 0 here.
    pub(super) bind: SocketAddr,
    /// As bound.
    pub(super) local_address: SocketAddr,
    /// Ends the accepting.
    pub(super) accept_drain: Trigger,
    /// How its connections are served; a reload replaces it.
    pub(super) setup: Arc<ArcSwap<ListenerSetup>>,
    connections: Connections,
}

/// A socket that listens, and nobody accepts from it yet.
#[derive(Debug)]
pub(super) struct BoundSocket {
    /// As configured.
    pub(super) bind: SocketAddr,
    /// As bound.
    pub(super) local_address: SocketAddr,
    socket: TcpListener,
}

impl BoundSocket {
    /// Takes the socket that was handed over for it, or opens one, non-blocking, with a long queue.
    pub(super) fn inherit_or_bind(
        what: &str,
        name: &str,
        bind: SocketAddr,
        inherited: &InheritedSockets,
    ) -> Result<Self, StartError> {
        let taken = inherited.try_clone(name, bind).and_then(|lent| match lent {
            Some(socket) => Ok(socket),
            None => listen(bind),
        });
        let bound = taken.and_then(|socket| {
            let local = socket.local_addr()?;
            Ok(Self {
                bind,
                local_address: local,
                socket,
            })
        });
        bound.map_err(|error| StartError::Bind {
            what: what.to_owned(),
            address: bind,
            error,
        })
    }
}

impl Port {
    /// Begins to accept. The accept loop runs on the first worker: with one worker, a connection
    /// never changes threads.
    pub(super) fn open(
        bound: BoundSocket,
        serving: ListenerSetup,
        caps: Arc<ConnectionLimits>,
        workers: &Workers,
    ) -> Self {
        let (accepting, watch) = drain::channel();
        let serving = Arc::new(ArcSwap::from_pointee(serving));
        let connections = Connections::default();
        let all = workers.all();
        if let Some(first) = all.first() {
            let hand_over = Dispatcher {
                setup: serving.clone(),
                workers: all.clone(),
                connections: connections.clone(),
            };
            let accept = accept(bound.socket, caps, hand_over, watch);
            first.runtime.spawn(accept);
        }
        Self {
            bind: bound.bind,
            local_address: bound.local_address,
            accept_drain: accepting,
            setup: serving,
            connections,
        }
    }

    /// For the admin interface.
    pub(super) fn to_open_port(&self, name: &Arc<str>) -> OpenPort {
        OpenPort {
            name: name.clone(),
            address: self.local_address,
            connections: self.connections.clone(),
        }
    }

    /// Is it what a configured address means?
    pub(super) fn matches_bind(&self, address: SocketAddr) -> bool {
        self.bind == address || self.local_address == address
    }
}

/// The admin interface's port, served on the current runtime until its drain ends it.
#[derive(Debug)]
pub(super) struct AdminPort {
    /// As bound.
    pub(super) local_address: SocketAddr,
    /// Ends it.
    pub(super) drain: Trigger,
    /// How its connections are served; a reload replaces it.
    pub(super) context: Arc<ArcSwap<ListenerContext<Admin>>>,
}

impl AdminPort {
    /// Begins to accept.
    pub(super) fn open(bound: BoundSocket, front: ListenerContext<Admin>) -> Self {
        let (drain, watch) = drain::channel();
        let caps =
            ConnectionLimits::new(super::listener_setup::admin_limits(), front.metrics.clone());
        let admin = front.handler.clone();
        let front = Arc::new(ArcSwap::from_pointee(front));
        let fronts = front.clone();
        let accept = async move {
            let socket = tokio::net::TcpListener::from_std(bound.socket)?;
            let connections = watch.clone();
            let hand_over = |accepted| {
                let serve = listener::serve(fronts.load_full(), accepted, connections.clone(), ());
                #[expect(clippy::disallowed_methods, reason = "ends with the admin's drain")]
                tokio::spawn(serve);
            };
            listener::accept_loop(socket, caps, |_| false, hand_over, watch).await
        };
        #[expect(clippy::disallowed_methods, reason = "ends with the admin's drain")]
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = accept => ended,
                () = admin.keep_history() => Ok(()),
            };
            if let Err(error) = ended {
                tracing::error!(%error, "the admin interface ended");
            }
        });
        Self {
            local_address: bound.local_address,
            drain,
            context: front,
        }
    }
}

/// Opens a non-blocking socket that listens, with a long queue.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // Only so that a restart does not wait for old connections; it shares no port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// What a port needs to hand a connection over.
struct Dispatcher {
    setup: Arc<ArcSwap<ListenerSetup>>,
    workers: Arc<[Worker]>,
    connections: Connections,
}

impl Dispatcher {
    fn dispatch(&self, accepted: AcceptedConnection) {
        let serving = self.setup.load();
        let chosen = Worker::least_loaded(&self.workers);
        let front = chosen.and_then(|(index, _)| serving.contexts.get(index));
        let (Some((_, worker)), Some(front)) = (chosen, front) else {
            return;
        };
        let counted = (worker.track_connection(), self.connections.enter());
        let watch = serving.connection_drain.watch();
        let serve = listener::serve(front.clone(), accepted, watch, counted);
        worker.runtime.spawn(serve);
    }
}

/// Accepts on the current runtime, until the drain closes the port.
async fn accept(
    socket: TcpListener,
    caps: Arc<ConnectionLimits>,
    hand_over: Dispatcher,
    watch: Watch,
) {
    let accept = async {
        let socket = tokio::net::TcpListener::from_std(socket)?;
        let give = |accepted| hand_over.dispatch(accepted);
        let is_proxy = |address| hand_over.setup.load().trusts_proxy(address);
        listener::accept_loop(socket, caps, is_proxy, give, watch).await
    };
    if let Err(error) = accept.await {
        tracing::error!(%error, "a listener ended");
    }
}

/// As nginx and HAProxy would ask for; the system's own cap (`somaxconn`) holds besides.
const BACKLOG: i32 = 4096;
