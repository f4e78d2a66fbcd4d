//! An OpenTelemetry trace collector: the gRPC service over a real socket.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::support::eventually;

/// A running collector. It stops when dropped.
#[derive(Debug)]
pub(crate) struct Collector {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<ReceivedSpan>>>,
    task: JoinHandle<()>,
}

/// A reserved address on which a collector may be started; until then connections are refused.
#[derive(Debug)]
pub(crate) struct CollectorAddress {
    socket: Socket,
    address: SocketAddr,
}

/// A received span.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedSpan {
    pub(crate) span: Span,
    resource: Vec<KeyValue>,
}

/// How a collector responds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CollectorBehavior {
    /// Accepts the export.
    Good,
    /// Never responds.
    Silent,
}

impl CollectorAddress {
    pub(crate) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self { socket, address }
    }

    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.address)
    }

    /// The `[telemetry]` table with a sample ratio of `sample`.
    pub(crate) fn telemetry(&self, scheme: &str, sample: &str) -> String {
        format!(
            "[telemetry]\nlog_level = \"info\"\naccess_log = \"access.log\"\n\
             otlp_endpoint = \"{}\"\nsample = {sample}",
            self.url(scheme)
        )
    }

    /// Starts a collector at this address. With `tls`, the directory of `leaf.pem` and `leaf.key`,
    /// over TLS.
    pub(crate) fn open(self, behavior: CollectorBehavior, tls: Option<&Path>) -> Collector {
        self.socket.listen(16).unwrap();
        self.socket.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(self.socket.into()).unwrap();
        let tls = tls.map(|folder| TlsAcceptor::from(Arc::new(server_config(folder))));
        let seen = Arc::<Mutex<Vec<ReceivedSpan>>>::default();
        let into = seen.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (into, tls) = (into.clone(), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, behavior, into).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, behavior, into).await;
                            }
                        }
                    }
                });
            }
        });
        Collector {
            address: self.address,
            seen,
            task,
        }
    }
}

impl Collector {
    /// Starts an accepting collector over plain TCP.
    pub(crate) fn start() -> Self {
        CollectorAddress::new().open(CollectorBehavior::Good, None)
    }

    /// Keys of `[telemetry]` with a sample ratio of `sample`.
    pub(crate) fn keys(&self, sample: &str) -> String {
        let address = self.address;
        format!("otlp_endpoint = \"http://{address}\"\nsample = {sample}")
    }

    /// The complete `[telemetry]` table with these keys.
    pub(crate) fn telemetry(&self, sample: &str) -> String {
        let keys = self.keys(sample);
        format!("[telemetry]\nlog_level = \"error\"\naccess_log = \"access.log\"\n{keys}")
    }

    /// The spans received so far, in the order in which they ended.
    pub(crate) fn spans(&self) -> Vec<ReceivedSpan> {
        let mut seen = self.seen.lock().unwrap().clone();
        seen.sort_by_key(|it| it.span.end_time_unix_nano);
        seen
    }

    /// Waits until `count` spans have been received.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<ReceivedSpan> {
        eventually("the spans arrive", async || self.spans().len() >= count).await;
        let seen = self.spans();
        assert_eq!(seen.len(), count, "{seen:#?}");
        seen
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ReceivedSpan {
    /// An attribute of the span as text; empty if absent.
    pub(crate) fn get(&self, name: &str) -> String {
        get(&self.span.attributes, name)
    }

    /// An attribute of the resource (the sender of the span).
    pub(crate) fn speaker(&self, name: &str) -> String {
        get(&self.resource, name)
    }

    pub(crate) fn trace(&self) -> String {
        hex(&self.span.trace_id)
    }

    pub(crate) fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    /// The parent span's id; empty if there is none.
    pub(crate) fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }

    /// Whether the span's status is an error.
    pub(crate) fn has_failed(&self) -> bool {
        self.span.status.as_ref().is_some_and(|it| it.code == 2)
    }
}

fn get(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|it| it.key == name);
    let value = found.and_then(|it| it.value.as_ref()?.value.as_ref());
    match value {
        None => String::new(),
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(other) => panic!("{name} is {other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn server_config(folder: &Path) -> ServerConfig {
    let chain = CertificateDer::pem_file_iter(folder.join("leaf.pem")).unwrap();
    let chain = chain.map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(folder.join("leaf.key")).unwrap();
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    behavior: CollectorBehavior,
    into: Arc<Mutex<Vec<ReceivedSpan>>>,
) {
    let service = service_fn(|request| respond(request, behavior, into.clone()));
    // Ends together with the gateway's connection; the result does not matter.
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn respond(
    request: Request<Incoming>,
    behavior: CollectorBehavior,
    into: Arc<Mutex<Vec<ReceivedSpan>>>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    if behavior == CollectorBehavior::Silent {
        std::future::pending::<()>().await;
    }
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    assert_eq!(request.uri().path(), path);
    let mut message = request.into_body().collect().await.unwrap().to_bytes();
    // gRPC framing: the compression flag, the message length, the message.
    assert_eq!(message.get_u8(), 0);
    assert_eq!(message.get_u32() as usize, message.len());
    let message = ExportTraceServiceRequest::decode(message).unwrap();
    for of_one in message.resource_spans {
        let resource = of_one.resource.unwrap().attributes;
        for span in of_one.scope_spans.into_iter().flat_map(|it| it.spans) {
            into.lock().unwrap().push(ReceivedSpan {
                span,
                resource: resource.clone(),
            });
        }
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body =
        Full::new(Bytes::from_static(&[0; 5])).with_trailers(async move { Some(Ok(trailers)) });
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", kind);
    Ok(response)
}
