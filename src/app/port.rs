//! One listening socket: accepted in one place, each connection handed to the worker with the fewest
//! connections. One socket per listener and never SO_REUSEPORT, so that a second instance fails
//! loudly and a closing socket loses nobody.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{Request, Response};
use http_body_util::BodyExt;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::StartError;
use super::serving::Serving;
use super::workers::{Worker, Workers};
use crate::admin::Admin;
use crate::drain::{self, Trigger, Watch};
use crate::gateway::{Gateway, ReadError, Rejection, ReplyBody};
use crate::listener::{self, BodyFault, Caps, Handler, Peer, RequestBody, Violation};
use crate::metrics::Shard;
use crate::telemetry::Origin;

/// An open port and its own drain.
#[derive(Debug)]
pub(super) struct Port {
    /// As configured; port 0 stays 0 here.
    pub(super) bind: SocketAddr,
    /// As bound.
    pub(super) local: SocketAddr,
    /// Ends it.
    pub(super) drain: Trigger,
    /// How its connections are served; a reload replaces it.
    pub(super) serving: Arc<ArcSwap<Serving>>,
}

impl Port {
    /// Binds and begins to accept. The accept loop runs on the first worker: with one worker, a
    /// connection never changes threads.
    pub(super) fn open(
        name: &Arc<str>,
        bind: SocketAddr,
        serving: Serving,
        caps: Arc<Caps>,
        workers: &Workers,
    ) -> Result<Self, StartError> {
        let socket = listen(&format!("listener {name}"), bind)?;
        let local = socket.local_addr().unwrap_or(bind);
        let (drain, watch) = drain::channel();
        let serving = Arc::new(ArcSwap::from_pointee(serving));
        let all = workers.all();
        if let Some(first) = all.first() {
            let front = Front { name: name.clone(), port: local.port(), serving: serving.clone() };
            first.runtime.spawn(accept(socket, front, caps, all.clone(), watch));
        }
        Ok(Self { bind, local, drain, serving })
    }
}

/// Binds the admin interface's port and serves it on the current runtime.
pub(super) fn open_admin(
    socket: TcpListener,
    local: SocketAddr,
    admin: Arc<Admin>,
    serving: Serving,
    metrics: Arc<Shard>,
) -> (Port, Trigger) {
    let (drain, watch) = drain::channel();
    let serving = Arc::new(ArcSwap::from_pointee(serving));
    let caps = Caps::new(super::serving::admin_caps(), metrics.clone());
    let current = serving.load_full();
    let loop_watch = watch.clone();
    let accept = async move {
        let Ok(socket) = tokio::net::TcpListener::from_std(socket) else { return };
        let hand_over = |accepted| {
            let (admin, metrics) = (admin.clone(), metrics.clone());
            let settings = current.settings(&"admin".into(), local.port());
            let serve = listener::serve(
                accepted,
                current.tls.clone(),
                admin,
                settings,
                watch.clone(),
                metrics,
            );
            #[expect(clippy::disallowed_methods, reason = "ends with the admin's drain")]
            tokio::spawn(serve);
        };
        let _ = listener::accept_loop(socket, caps, |_| false, hand_over, loop_watch).await;
    };
    #[expect(clippy::disallowed_methods, reason = "ends with the admin's drain")]
    tokio::spawn(accept);
    let (own, _) = drain::channel();
    (Port { bind: local, local, drain: own, serving }, drain)
}

/// A socket of one listener, non-blocking, with a long queue.
pub(super) fn listen(what: &str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // Only so that a restart does not wait for old connections; it shares no port.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(TcpListener::from(socket))
    };
    bind().map_err(|source| StartError::Bind { what: what.to_owned(), address, source })
}

#[derive(Debug)]
struct Front {
    name: Arc<str>,
    port: u16,
    serving: Arc<ArcSwap<Serving>>,
}

async fn accept(
    socket: TcpListener,
    front: Front,
    caps: Arc<Caps>,
    workers: Arc<[Worker]>,
    watch: Watch,
) {
    let result = async {
        let _ = SockRef::from(&socket);
        let socket = tokio::net::TcpListener::from_std(socket)?;
        let is_proxy = |address| front.serving.load().trusts(address);
        let connections = watch.clone();
        let hand_over = |accepted| {
            let Some(worker) = Worker::least_loaded(&workers) else { return };
            let serving = front.serving.load_full();
            let load = worker.take_one();
            let serve = listener::serve(
                accepted,
                serving.tls.clone(),
                Arc::new(Adapter(worker.gateway.clone())),
                serving.settings(&front.name, front.port),
                connections.clone(),
                worker.metrics.clone(),
            );
            worker.runtime.spawn(async move {
                serve.await;
                drop(load);
            });
        };
        listener::accept_loop(socket, caps, is_proxy, hand_over, watch).await
    };
    if let Err(error) = result.await {
        tracing::error!(listener = %front.name, %error, "the listener ended");
    }
}

/// The gateway as a listener sees it.
#[derive(Debug)]
struct Adapter(Arc<Gateway>);

impl Handler for Adapter {
    type Body = ReplyBody;

    async fn handle(&self, peer: &Arc<Peer>, request: Request<RequestBody>) -> Response<ReplyBody> {
        let request = request.map(|body| {
            body.map_err(|fault| match fault {
                BodyFault::Gone => ReadError::Gone,
                BodyFault::Malformed => ReadError::Malformed,
            })
        });
        self.0.handle(origin(peer), request).await
    }

    fn refuse(&self, peer: &Arc<Peer>, violation: &Violation) -> Response<bytes::Bytes> {
        let rejection = match violation {
            Violation::HeadTimeout => Rejection::RequestTimeout,
            Violation::Malformed(rule) => Rejection::Malformed(rule),
            Violation::TooLarge => Rejection::HeadersTooLarge,
        };
        self.0.refuse(origin(peer), rejection)
    }
}

fn origin(peer: &Peer) -> Origin {
    Origin {
        listener: peer.listener.clone(),
        port: peer.port,
        client: peer.address.ip(),
        tls: peer.tls,
    }
}

/// As nginx and HAProxy would ask for; the system's own cap (`somaxconn`) holds besides.
const BACKLOG: i32 = 4096;
