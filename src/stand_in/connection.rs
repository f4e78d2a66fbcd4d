//! One connection: TLS, then HTTP/1.1 by hyper, until a wire fault takes the stream over.

use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::faults::AcceptBehavior;
use super::node::Node;
use super::response_plan::NodeAction;
use super::wire;

/// Serves a connection until it ends. Errors are not reported: the peer observes them.
pub(super) async fn serve(node: Arc<Node>, mut stream: TcpStream, tls: TlsAcceptor) {
    let guard = ConnectionGuard::new(node);
    match guard.node.faults.accept_behavior() {
        AcceptBehavior::Serve => {}
        AcceptBehavior::Reset => {
            let _ = wire::reset_on_drop(&stream);
            return;
        }
        AcceptBehavior::Stall => {
            let mut ignored = [0; 1024];
            while stream.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
            return;
        }
    }
    let _ = stream.set_nodelay(true);
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream));
    let Ok(Ok(stream)) = handshake.await else {
        return;
    };

    let (script_sender, mut scripts) = mpsc::channel(1);
    let service = service_fn(|request| {
        let (node, number, script_sender) = (&guard.node, guard.number, script_sender.clone());
        async move {
            match node.handle(number, request).await {
                NodeAction::Respond(response) => Ok::<_, Infallible>(response),
                NodeAction::RunScript(script) => {
                    let _ = script_sender.send(script).await;
                    pending().await
                }
            }
        }
    });
    let mut http = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let script = tokio::select! {
        _ = pin!(&mut http) => None,
        script = scripts.recv() => script,
    };
    if let Some(script) = script {
        let stream = http.into_parts().io.into_inner();
        if script.run(stream).await.unwrap_or(false) {
            guard.node.recorder.count_forbidden_reuse();
        }
    }
}

/// Counts a connection as open until it is dropped.
struct ConnectionGuard {
    node: Arc<Node>,
    number: u64,
}

impl ConnectionGuard {
    fn new(node: Arc<Node>) -> Self {
        let number = node.recorder.connected();
        Self { node, number }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.node.recorder.disconnected();
    }
}

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Longer than any pool keeps an idle connection, so that the stand-in never closes first.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
