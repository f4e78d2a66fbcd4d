//! One listening socket: one accept loop, and each connection is dispatched to the worker with the
//! fewest connections. There is one socket per listener and never SO_REUSEPORT: a second instance
//! fails to bind, and no accept queue is lost when a socket closes.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, Socket, Type};

use super::StartError;
use super::listener_setup::ListenerSetup;
use super::socket_activation::InheritedSockets;
use super::workers::{Worker, Workers};
use crate::admin::{Connections, OpenPort};
use crate::drain::{self, Trigger, Watch};
use crate::listener::{self, AcceptedConnection, ConnectionLimits};
use crate::task::boxed;

/// An open port. The socket and its connections end separately: a reload may give the socket to another
/// listener, and connections outlive their socket.
#[derive(Debug)]
pub(super) struct Port {
    /// The configured address; port 0 stays 0 here.
    pub(super) bind: SocketAddr,
    /// The bound address.
    pub(super) local_address: SocketAddr,
    /// Stops the accept loop.
    pub(super) accept_drain: Trigger,
    /// How new connections are served; a reload replaces it.
    pub(super) setup: Arc<ArcSwap<ListenerSetup>>,
    connections: Connections,
}

/// A listening socket without an accept loop yet.
#[derive(Debug)]
pub(super) struct BoundSocket {
    /// The configured address.
    pub(super) bind: SocketAddr,
    /// The bound address.
    pub(super) local_address: SocketAddr,
    pub(super) socket: TcpListener,
}

impl BoundSocket {
    /// Returns the inherited socket of this name and address, or opens one: non-blocking, with a backlog
    /// of [`BACKLOG`].
    pub(super) fn inherit_or_bind(
        what: &str,
        name: &str,
        bind: SocketAddr,
        inherited: &InheritedSockets,
    ) -> Result<Self, StartError> {
        let socket = inherited
            .try_clone(name, bind)
            .and_then(|inherited| match inherited {
                Some(socket) => Ok(socket),
                None => listen(bind),
            });
        let bound = socket.and_then(|socket| {
            let local_address = socket.local_addr()?;
            Ok(Self {
                bind,
                local_address,
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
    /// Starts the accept loop on the first worker: with one worker, a connection never changes threads.
    pub(super) fn open(
        bound: BoundSocket,
        setup: ListenerSetup,
        limits: Arc<ConnectionLimits>,
        workers: &Workers,
    ) -> Self {
        let (accept_drain, watch) = drain::channel();
        let setup = Arc::new(ArcSwap::from_pointee(setup));
        let connections = Connections::default();
        let all = workers.all();
        if let Some(first) = all.first() {
            let dispatcher = Dispatcher {
                setup: setup.clone(),
                workers: all.clone(),
                connections: connections.clone(),
            };
            let accept = accept(bound.socket, limits, dispatcher, watch);
            first.runtime.spawn(boxed(accept));
        }
        Self {
            bind: bound.bind,
            local_address: bound.local_address,
            accept_drain,
            setup,
            connections,
        }
    }

    /// Returns the port as the admin interface shows it.
    pub(super) fn to_open_port(&self, name: &Arc<str>) -> OpenPort {
        OpenPort {
            name: name.clone(),
            address: self.local_address,
            connections: self.connections.clone(),
        }
    }

    /// Whether the port serves a configured address.
    pub(super) fn matches_bind(&self, address: SocketAddr) -> bool {
        self.bind == address || self.local_address == address
    }
}

/// Opens a non-blocking socket that listens, with a long queue.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restart can bind while old connections are in TIME_WAIT; the port is not shared.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// Dispatches accepted connections of one port to the workers.
struct Dispatcher {
    setup: Arc<ArcSwap<ListenerSetup>>,
    workers: Arc<[Worker]>,
    connections: Connections,
}

impl Dispatcher {
    fn dispatch(&self, accepted: AcceptedConnection) {
        let setup = self.setup.load();
        let chosen = Worker::least_loaded(&self.workers);
        let context = chosen.and_then(|(index, _)| setup.contexts.get(index));
        let (Some((_, worker)), Some(context)) = (chosen, context) else {
            return;
        };
        let counters = (worker.track_connection(), self.connections.enter());
        let watch = setup.connection_drain.watch();
        let serve = listener::serve(context.clone(), accepted, watch, counters);
        worker.runtime.spawn(serve);
    }
}

/// Runs the accept loop on the current runtime until the port drains.
async fn accept(
    socket: TcpListener,
    limits: Arc<ConnectionLimits>,
    dispatcher: Dispatcher,
    watch: Watch,
) {
    let accept = async {
        let socket = tokio::net::TcpListener::from_std(socket)?;
        let dispatch = |accepted| dispatcher.dispatch(accepted);
        let is_trusted_proxy = |address| dispatcher.setup.load().trusts_proxy(address);
        listener::accept_loop(socket, limits, is_trusted_proxy, dispatch, watch).await
    };
    if let Err(error) = accept.await {
        tracing::error!(%error, "a listener stopped accepting");
    }
}

/// The accept backlog: at least the default `somaxconn` of Linux (4096 since 5.4), which caps it.
const BACKLOG: i32 = 4096;
