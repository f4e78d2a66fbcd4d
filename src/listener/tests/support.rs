//! A listener with a test handler, and a client that speaks raw bytes to it.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::{ClientAuth, ListenerTls};
use crate::drain::{self, CloseAfterResponse, Trigger};
use crate::listener::*;
use crate::metrics::{Label, Metrics};

/// Responds by path; to `/wait` only after `resume`.
#[derive(Debug, Default)]
pub(super) struct TestHandler {
    pub(super) resume: Notify,
    pub(super) arrived: Notify,
}

impl Handler for TestHandler {
    type Body = TestBody;

    fn handle(
        self: &Arc<Self>,
        connection: &Arc<ConnectionInfo>,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Response<TestBody>> + Send + 'static {
        let (handler, connection) = (self.clone(), connection.clone());
        async move { handler.respond(&connection, request).await }
    }

    fn reject(&self, _: &Arc<ConnectionInfo>, error: &ProtocolError) -> Response<Bytes> {
        let mut response = Response::new(error.to_string().into());
        *response.status_mut() = error.status();
        response
    }
}

impl TestHandler {
    async fn respond(
        &self,
        connection: &ConnectionInfo,
        request: Request<RequestBody>,
    ) -> Response<TestBody> {
        let host = request.headers().get("host").cloned();
        let host = host.as_ref().map_or("-", |host| host.to_str().unwrap());
        let line = format!("{} {} {host}", request.method(), request.uri());
        match request.uri().path() {
            "/echo" => match request.into_body().collect().await {
                Ok(body) => text(StatusCode::OK, body.to_bytes()),
                Err(BodyError::Malformed) => text(StatusCode::BAD_REQUEST, "broken body"),
                Err(BodyError::ConnectionClosed) => panic!("the client has gone"),
            },
            "/wait" => {
                self.arrived.notify_one();
                self.resume.notified().await;
                text(StatusCode::OK, line)
            }
            "/address" => text(StatusCode::OK, connection.client_address.ip().to_string()),
            "/panic" => panic!("a bug"),
            "/endless" | "/long" => Response::new(TestBody::Endless),
            "/last" => {
                let mut response = text(StatusCode::TOO_MANY_REQUESTS, line);
                response.extensions_mut().insert(CloseAfterResponse);
                response
            }
            "/early" => text(StatusCode::UNAUTHORIZED, "no"),
            "/pair" => {
                let mut response = text(StatusCode::OK, line);
                let fields = response.headers_mut();
                fields.insert("content-type", HeaderValue::from_static("text/plain"));
                fields.insert("x-request-id", HeaderValue::from_static("abc"));
                response
            }
            _ => text(StatusCode::OK, line),
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<TestBody> {
    let mut response = Response::new(TestBody::Full(Some(body.into())));
    *response.status_mut() = status;
    response
}

#[derive(Debug)]
pub(super) enum TestBody {
    Full(Option<Bytes>),
    Endless,
}

impl Body for TestBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(match self.get_mut() {
            Self::Full(body) => body.take().map(|body| Ok(Frame::data(body))),
            Self::Endless => Some(Ok(Frame::data(Bytes::from_static(&[0; 65536])))),
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(body) => {
                SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64))
            }
            Self::Endless => SizeHint::default(),
        }
    }
}

/// A running listener.
pub(super) struct TestListener {
    pub(super) address: SocketAddr,
    pub(super) handler: Arc<TestHandler>,
    pub(super) trigger: Trigger,
    pub(super) limits: Arc<ConnectionLimits>,
    pub(super) metrics: Arc<Metrics>,
    roots: Option<Arc<RootCertStore>>,
}

/// How a listener differs from the usual one.
pub(in crate::listener) struct Options {
    pub(in crate::listener) tls: bool,
    pub(in crate::listener) settings: Settings,
    pub(in crate::listener) limits: ConnectionLimitSettings,
    pub(in crate::listener) proxied: bool,
}

impl Default for Options {
    fn default() -> Self {
        let long = Duration::from_secs(30);
        Self {
            tls: false,
            proxied: false,
            settings: Settings {
                head: HeadLimits {
                    size: 32 * 1024,
                    fields: 100,
                },
                handshake_timeout: long,
                header_timeout: long,
                idle_timeout: long,
                park_after: long,
                max_connection_age: long,
                min_send_rate: 4096,
                send_rate_window: Duration::from_secs(30),
                max_discarded: 64 * 1024,
                linger_timeout: Duration::from_secs(1),
                http2: Http2Settings {
                    max_concurrent_streams: 100,
                    max_resets: 64,
                    stream_window: 128 * 1024,
                    connection_window: 512 * 1024,
                    ping_interval: Duration::from_secs(20),
                    goaway_timeout: Duration::from_secs(10),
                },
            },
            limits: ConnectionLimitSettings {
                connections: 100,
                per_address: 100,
                handshakes: 100,
            },
        }
    }
}

impl Options {
    pub(super) fn tls() -> Self {
        Self {
            tls: true,
            ..Self::default()
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "each test's runtime ends its tasks"
)]
pub(super) fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(future);
}

impl TestListener {
    pub(super) async fn plain() -> Self {
        Self::new(Options::default()).await
    }

    pub(super) async fn new(options: Options) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (trigger, watch) = drain::channel();
        let metrics = Arc::new(Metrics::default());
        let shard = metrics.add_shard();
        let caps = ConnectionLimits::new(options.limits, shard.clone());
        let toy = Arc::new(TestHandler::default());
        let tls = options.tls.then(certificate);
        let roots = tls.as_ref().map(|(_, roots)| roots.clone());
        let front = Arc::new(ListenerContext {
            name: "test".into(),
            tls: tls.map(|(tls, _)| tls),
            handler: toy.clone(),
            settings: Arc::new(options.settings),
            metrics: shard,
        });
        let trusts = move |_: IpAddr| options.proxied;
        let (loop_caps, loop_watch) = (caps.clone(), watch);
        spawn(async move {
            let watch = loop_watch.clone();
            let hand_over = |accepted| spawn(serve(front.clone(), accepted, watch.clone(), ()));
            accept_loop(socket, loop_caps, trusts, hand_over, loop_watch)
                .await
                .unwrap();
        });
        Self {
            address,
            handler: toy,
            trigger,
            limits: caps,
            metrics,
            roots,
        }
    }

    pub(super) async fn connect(&self) -> Client<TcpStream> {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    pub(super) async fn connect_tls(&self, protocol: &str) -> Client<TlsStream<TcpStream>> {
        let roots = self.roots.clone().expect("a stage with TLS");
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TcpStream::connect(self.address).await.unwrap();
        Client(
            TlsConnector::from(Arc::new(config))
                .connect(name, stream)
                .await
                .unwrap(),
        )
    }

    pub(super) fn count(&self, label: impl Label) -> u64 {
        self.metrics.sum().get(label)
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn certificate() -> (Arc<rustls::ServerConfig>, Arc<RootCertStore>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let chain = vec![CertificateDer::from(made.cert.der().to_vec())];
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(chain[0].clone()).unwrap();
    let certified = rustls::sign::CertifiedKey::from_der(chain, key, &provider()).unwrap();
    let tls = ListenerTls {
        certificates: vec![Arc::new(certified)],
        certificate_files: Vec::new(),
        client_ca: None,
        client_crls: Vec::new(),
        client_auth: ClientAuth::default(),
    };
    let ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    (server_config(&tls, ticketer).unwrap(), Arc::new(roots))
}

/// Sends bytes, reads responses.
pub(super) struct Client<S>(pub(super) S);

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Client<S> {
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within(self.0.write_all(bytes.as_ref())).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Reads one response with a Content-Length.
    pub(super) async fn response(&mut self) -> RawResponse {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            let byte = within(self.0.read_u8()).await;
            bytes.push(byte.unwrap_or_else(|error| {
                panic!("{error} after {:?}", String::from_utf8_lossy(&bytes))
            }));
        }
        let head = String::from_utf8(bytes).unwrap().to_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        within(self.0.read_exact(&mut body)).await.unwrap();
        RawResponse {
            status: head[9..12].parse().unwrap(),
            closes: head.contains("\r\nconnection: close\r\n"),
            head,
            body: String::from_utf8(body).unwrap(),
        }
    }

    /// Waits until the server has half-closed without a reset and still reads.
    pub(super) async fn closes_cleanly(&mut self) {
        let mut rest = Vec::new();
        within(self.0.read_to_end(&mut rest)).await.unwrap();
        assert_eq!(rest, b"");
        self.send("more").await;
    }

    /// Returns the payload of the next HTTP/2 frame of this type.
    pub(super) async fn frame_of(&mut self, wanted: u8) -> Vec<u8> {
        loop {
            let mut header = [0; 9];
            within(self.0.read_exact(&mut header)).await.unwrap();
            let [high, middle, low, kind, ..] = header.map(usize::from);
            let mut payload = vec![0; high << 16 | middle << 8 | low];
            within(self.0.read_exact(&mut payload)).await.unwrap();
            if kind == usize::from(wanted) {
                return payload;
            }
        }
    }

    /// Reads until the server closes.
    pub(super) async fn read_to_end(&mut self) -> String {
        let mut rest = Vec::new();
        let _ = within(self.0.read_to_end(&mut rest)).await;
        String::from_utf8_lossy(&rest).into_owned()
    }
}

pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const GOAWAY: u8 = 7;

/// A response; its head in lower case.
#[derive(Debug)]
pub(super) struct RawResponse {
    pub(super) status: u16,
    pub(super) closes: bool,
    pub(super) head: String,
    pub(super) body: String,
}

/// Fails a test that hangs.
pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("done in time")
}
