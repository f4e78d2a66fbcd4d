//! Test nodes: real TLS over real sockets, scripted responses, and a record of the requests.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConfig};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::cluster::{
    Cluster, ClusterSettings, EjectionSettings, FlowControlMode, FlowControlSettings, HostPolicy,
    NodeAddress, NodeSettings, Policy, PoolLimits, RetrySettings, Timeouts,
};

/// What a node does with a request.
#[derive(Clone)]
pub(in crate::upstream) enum Behavior {
    /// Writes the bytes, then waits for the next request.
    Respond(Vec<u8>),
    /// Writes the bytes, then closes the connection cleanly (`close_notify`).
    RespondAndClose(Vec<u8>),
    /// Writes the bytes, and closes the connection cleanly after a while.
    RespondAndCloseLater(Vec<u8>, Duration),
    /// Writes the bytes, then drops the connection without `close_notify`.
    Cut(Vec<u8>),
    /// Writes the bytes after a while.
    RespondLate(Duration, Vec<u8>),
    /// Never responds.
    Hang,
    /// Writes a head and a body of this many bytes.
    Flood(usize),
    /// Writes the bytes, then nothing more.
    Stall(Vec<u8>),
    /// Writes the bytes one by one.
    Drip(Vec<u8>),
    /// Writes the bytes, then resets the connection.
    Reset(Vec<u8>),
    /// Writes the first bytes, and the second ones when it is told to.
    Unsolicited(Vec<u8>, Vec<u8>, Arc<Signal>),
}

/// Tells a node on another thread to go on, and waits for it without polling the own reactor.
#[derive(Default)]
pub(in crate::upstream) struct Signal {
    go: tokio::sync::Notify,
    done: std::sync::atomic::AtomicBool,
}

impl Signal {
    pub(in crate::upstream) fn go_and_wait(&self) {
        self.go.notify_one();
        while !self.done.swap(false, Ordering::SeqCst) {
            std::thread::yield_now();
        }
    }
}

/// A request as a node received it.
#[derive(Clone, Debug)]
pub(in crate::upstream) struct ReceivedRequest {
    pub(in crate::upstream) head: String,
    pub(in crate::upstream) body: Vec<u8>,
    /// The position of the request on its connection, from 0.
    pub(in crate::upstream) index: usize,
    /// Whether its connection resumed a TLS session.
    pub(in crate::upstream) resumed: bool,
}

impl ReceivedRequest {
    pub(in crate::upstream) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(known, _)| *known == name).map(|(_, v)| v)
    }
}

/// A running node; ends when its last handle is dropped.
#[derive(Clone)]
pub(in crate::upstream) struct TestServer {
    pub(in crate::upstream) address: SocketAddr,
    received: Arc<Mutex<Vec<ReceivedRequest>>>,
    open_connections: Arc<AtomicUsize>,
    clean_closes: Arc<AtomicUsize>,
    _tasks: Arc<JoinSet<()>>,
}

impl TestServer {
    pub(in crate::upstream) async fn start(
        script: impl Fn(&ReceivedRequest) -> Behavior + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let open = Arc::new(AtomicUsize::new(0));
        let clean = Arc::new(AtomicUsize::new(0));
        let (record, counter, ended) = (received.clone(), open.clone(), clean.clone());
        let script = Arc::new(script);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (script, record) = (script.clone(), record.clone());
                let (counter, ended) = (counter.clone(), ended.clone());
                connections.spawn(async move {
                    counter.fetch_add(1, Ordering::SeqCst);
                    if let Ok(()) = serve(tcp, &*script, &record).await {
                        ended.fetch_add(1, Ordering::SeqCst);
                    }
                    counter.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self {
            address,
            received,
            open_connections: open,
            clean_closes: clean,
            _tasks: Arc::new(tasks),
        }
    }

    /// Starts a node with the same response to every request.
    pub(in crate::upstream) async fn responding(bytes: Vec<u8>) -> Self {
        Self::start(move |_| Behavior::Respond(bytes.clone())).await
    }

    pub(in crate::upstream) fn received(&self) -> Vec<ReceivedRequest> {
        self.received.lock().unwrap().clone()
    }

    pub(in crate::upstream) fn count(&self) -> usize {
        self.received.lock().unwrap().len()
    }

    /// Returns the number of connections that were closed cleanly.
    pub(in crate::upstream) fn clean_closes(&self) -> usize {
        self.clean_closes.load(Ordering::SeqCst)
    }

    /// Returns the number of open connections.
    pub(in crate::upstream) fn open_connections(&self) -> usize {
        self.open_connections.load(Ordering::SeqCst)
    }
}

/// Returns an address without a listener.
pub(in crate::upstream) async fn unused_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

#[expect(clippy::too_many_lines, reason = "one arm for each behavior")]
async fn serve(
    tcp: TcpStream,
    script: &(impl Fn(&ReceivedRequest) -> Behavior + Send + Sync),
    record: &Mutex<Vec<ReceivedRequest>>,
) -> std::io::Result<()> {
    tcp.set_nodelay(true)?;
    let tls = TlsAcceptor::from(CERTIFICATE.server.clone())
        .accept(tcp)
        .await?;
    let resumed = tls.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
    let mut stream = BufReader::new(tls);
    for index in 0.. {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let mut received = ReceivedRequest {
            head,
            body: Vec::new(),
            index,
            resumed,
        };
        let length = received
            .field("content-length")
            .map_or(0, |n| n.parse().unwrap());
        // Upload tests set how much of the body is read before the response.
        let read = received.field("x-read").map(|n| n.parse().unwrap());
        received.body.resize(read.unwrap_or(length), 0);
        stream.read_exact(&mut received.body).await?;
        let behavior = script(&received);
        record.lock().unwrap().push(received);
        match behavior {
            Behavior::Respond(bytes) => stream.write_all(&bytes).await?,
            Behavior::RespondAndClose(bytes) => {
                stream.write_all(&bytes).await?;
                return stream.shutdown().await;
            }
            Behavior::RespondAndCloseLater(bytes, pause) => {
                stream.write_all(&bytes).await?;
                stream.flush().await?;
                tokio::time::sleep(pause).await;
                return stream.shutdown().await;
            }
            Behavior::Cut(bytes) => {
                stream.write_all(&bytes).await?;
                return stream.flush().await;
            }
            Behavior::RespondLate(pause, bytes) => {
                tokio::time::sleep(pause).await;
                stream.write_all(&bytes).await?;
            }
            Behavior::Hang => std::future::pending().await,
            Behavior::Flood(length) => flood(&mut stream, length).await?,
            Behavior::Drip(bytes) => {
                for byte in bytes {
                    stream.write_all(&[byte]).await?;
                    stream.flush().await?;
                    tokio::task::yield_now().await;
                }
            }
            Behavior::Reset(bytes) => {
                stream.write_all(&bytes).await?;
                stream.flush().await?;
                stream.get_ref().get_ref().0.set_zero_linger()?;
                return Ok(());
            }
            Behavior::Unsolicited(first, second, signal) => {
                stream.write_all(&first).await?;
                stream.flush().await?;
                signal.go.notified().await;
                stream.write_all(&second).await?;
                stream.flush().await?;
                signal.done.store(true, Ordering::SeqCst);
            }
            Behavior::Stall(bytes) => {
                stream.write_all(&bytes).await?;
                stream.flush().await?;
                // Returns when the gateway closes the connection.
                let _ = stream.read_u8().await;
                return Ok(());
            }
        }
        stream.flush().await?;
    }
    Ok(())
}

async fn flood(stream: &mut (impl AsyncWrite + Unpin), length: usize) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let chunk = vec![b'x'; 64 * 1024];
    let mut left = length;
    while left > 0 {
        let part = left.min(chunk.len());
        stream.write_all(&chunk[..part]).await?;
        left -= part;
    }
    Ok(())
}

/// Encodes a JSON response with Content-Length.
pub(in crate::upstream) fn json_response(status: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json;charset=UTF-8\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub(in crate::upstream) const OK_BODY: &str =
    r#"{"resultData":{},"resultCode":"0","resultDesc":"ok"}"#;
pub(in crate::upstream) const FLOW_CONTROL_BODY: &str =
    r#"{"resultData":null,"resultCode":"0300009","resultDesc":"busy"}"#;

pub(in crate::upstream) fn ok_response() -> Vec<u8> {
    json_response("200 OK", OK_BODY)
}

/// Returns the settings that tests start from.
pub(in crate::upstream) fn settings(nodes: &[SocketAddr]) -> ClusterSettings {
    ClusterSettings {
        // The tests of `flow_control` let it be learned.
        flow_control: FlowControlSettings {
            mode: FlowControlMode::Pass,
            ..FlowControlSettings::default()
        },
        name: "test".into(),
        nodes: nodes
            .iter()
            .map(|node| NodeSettings {
                address: NodeAddress {
                    host: node.ip().to_string().into(),
                    port: node.port(),
                },
                weight: 1,
                priority: 0,
            })
            .collect(),
        fallback: None,
        balance: Policy::RoundRobin,
        host: HostPolicy::Preserve,
        tls: CERTIFICATE.client.clone(),
        check_tls: CERTIFICATE.client.clone(),
        tls_digest: [0; 32],
        server_name: Some(ServerName::try_from("node.test").unwrap()),
        insecure_skip_verify: false,
        pins: Vec::new(),
        health_check: None,
        ejection: EjectionSettings {
            consecutive_failures: 0,
            base_time: Duration::from_secs(10),
            max_time: Duration::from_secs(300),
            max_ejected: 50,
            slow_start: Duration::ZERO,
            panic_threshold: 0,
            result_codes: Vec::new(),
        },
        retries: RetrySettings {
            budget_percent: 20,
            min_per_second: 100,
        },
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            per_try: Duration::from_secs(5),
            overall: Duration::from_secs(9),
            fetch: Duration::from_secs(10),
        },
        pool: PoolLimits {
            max_connections: 64,
            max_idle: 16,
            idle_timeout: Duration::from_secs(60),
            max_age: Duration::from_secs(600),
        },
    }
}

pub(in crate::upstream) fn cluster(nodes: &[&TestServer]) -> Arc<Cluster> {
    let nodes: Vec<_> = nodes.iter().map(|node| node.address).collect();
    Cluster::new(settings(&nodes))
}

/// Returns the certificate of all nodes.
pub(in crate::upstream) fn node_certificate() -> CertificateDer<'static> {
    CERTIFICATE.certificate.clone()
}

struct Certificate {
    certificate: CertificateDer<'static>,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

static CERTIFICATE: LazyLock<Certificate> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(["node.test".to_owned()]).unwrap();
    let certificate: CertificateDer<'static> = made.cert.der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Certificate {
        certificate,
        server: Arc::new(server),
        client: Arc::new(client),
    }
});
