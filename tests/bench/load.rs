//! Load: prepared requests over persistent TLS connections, one at a time per connection or HTTP/2 stream.

mod http2;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ccfs_gateway::client::ClientRequest;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::process::Server;
use crate::site::{HOST, Site, wire};

/// TLS 1.3 with X25519, which every server supports, without resumption.
#[derive(Clone)]
pub(crate) struct Dialer {
    http1: TlsConnector,
    http2: TlsConnector,
}

impl Dialer {
    /// Trusts the servers of `site`.
    pub(crate) fn new(site: &Site) -> Self {
        let connector = |protocol| Self::config(site.authority.roots().unwrap(), protocol).into();
        Self {
            http1: connector("http/1.1"),
            http2: connector("h2"),
        }
    }

    fn config(roots: RootCertStore, protocol: &str) -> Arc<ClientConfig> {
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = vec![kx_group::X25519];
        let mut config = ClientConfig::builder_with_provider(provider.into())
            .with_protocol_versions(&[&version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        config.resumption = Resumption::disabled();
        config.into()
    }

    /// Opens one connection.
    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<Connection> {
        Ok(Connection {
            stream: Self::dial(&self.http1, address).await?,
            buffer: vec![0; BUFFER].into(),
        })
    }

    async fn dial(tls: &TlsConnector, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(HOST).unwrap();
        tls.connect(name, stream).await
    }

    /// Opens `number` connections concurrently.
    pub(crate) async fn connect_many(&self, address: SocketAddr, number: usize) -> Vec<Connection> {
        let mut connections = Vec::with_capacity(number);
        for _ in 0..number {
            connections.push(self.connect(address).await.unwrap());
        }
        connections
    }
}

/// A kept-alive connection.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    /// Starts with the head of the last response, if its body was small.
    buffer: Box<[u8]>,
}

impl Connection {
    /// Sends a request and reads the response, which must be a 200 with a length; returns the
    /// length of the body.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> io::Result<u64> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let mut filled = 0;
        let (length, head) = loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += read;
            if let Some(found) = framing(&self.buffer[..filled])? {
                break found;
            }
        };
        let mut left = length.saturating_sub((filled - head) as u64);
        while left > 0 {
            match self.stream.read(&mut self.buffer).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => left = left.saturating_sub(read as u64),
            }
        }
        Ok(length)
    }
}

/// The lengths of body and head, once the head is complete.
fn framing(response: &[u8]) -> io::Result<Option<(u64, usize)>> {
    let Some(end) = response.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&response[..end]);
    let wrong = || io::Error::other(format!("not a 200 with a length: {head}"));
    if !head.starts_with("HTTP/1.1 200") {
        return Err(wrong());
    }
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|(_, value)| value.parse().ok());
    Ok(Some((length.ok_or_else(wrong)?, end + 4)))
}

/// Sends one request at a time: on an HTTP/1.1 connection, or on one of the streams of an HTTP/2 connection.
enum Requester {
    Http1(Box<Connection>),
    Http2(http2::Stream),
}

impl Requester {
    /// Sends a request and returns the length of the response's body.
    async fn exchange(&mut self, request: &Prepared) -> io::Result<u64> {
        match self {
            Self::Http1(connection) => connection.exchange(&request.wire).await,
            Self::Http2(stream) => Ok(stream.exchange(request).await?.1),
        }
    }

    /// Sends a request and returns the head of the response.
    async fn head(&mut self, request: &Prepared) -> io::Result<String> {
        match self {
            Self::Http1(connection) => {
                connection.exchange(&request.wire).await?;
                let response = String::from_utf8_lossy(&connection.buffer);
                let (head, _) = response.split_once("\r\n\r\n").unwrap();
                Ok(head.to_owned() + "\r\n")
            }
            Self::Http2(stream) => Ok(http2::text(&stream.exchange(request).await?.0)),
        }
    }
}

/// A request in the forms of both protocols.
#[derive(Debug)]
struct Prepared {
    wire: Vec<u8>,
    head: http::Request<()>,
    body: Bytes,
}

impl Prepared {
    fn new(request: &ClientRequest) -> Self {
        Self {
            wire: wire(request),
            head: http2::head(request),
            body: request.body.clone(),
        }
    }
}

/// Requests, handed out in turn: with more requests than requesters, no two concurrent requests
/// are equal.
#[derive(Debug)]
pub(crate) struct Feed {
    requests: Vec<Prepared>,
    next: AtomicUsize,
}

impl Feed {
    /// Repeats these requests.
    pub(crate) fn new(requests: impl IntoIterator<Item = ClientRequest>) -> Arc<Self> {
        Arc::new(Self {
            requests: requests.into_iter().map(|it| Prepared::new(&it)).collect(),
            next: AtomicUsize::new(0),
        })
    }

    /// The next request, until `end`.
    fn next(&self, end: End) -> Option<&Prepared> {
        if matches!(end, End::At(time) if Instant::now() >= time) {
            return None;
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let over = end == End::Once && turn >= self.requests.len();
        (!over).then(|| &self.requests[turn % self.requests.len()])
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    At(Instant),
    Never,
    /// Ends when every request was sent once.
    Once,
}

/// A server and its load.
pub(crate) struct Lane {
    requesters: Vec<Requester>,
    dialer: Dialer,
    feed: Arc<Feed>,
    /// The measured server. Dropped last.
    pub(crate) server: Server,
}

impl Lane {
    /// Opens `clients` connections.
    pub(crate) async fn new(
        server: Server,
        dialer: &Dialer,
        clients: usize,
        feed: Arc<Feed>,
    ) -> Self {
        let connections = dialer.connect_many(server.address, clients).await;
        Self {
            requesters: connections
                .into_iter()
                .map(|connection| Requester::Http1(connection.into()))
                .collect(),
            dialer: dialer.clone(),
            feed,
            server,
        }
    }

    /// Opens HTTP/2 connections with `clients` streams at a time in all, [`STREAMS`] each.
    pub(crate) async fn http2(
        server: Server,
        dialer: &Dialer,
        clients: usize,
        feed: Arc<Feed>,
    ) -> Self {
        let mut requesters = Vec::new();
        while requesters.len() < clients {
            let stream = http2::Stream::connect(dialer, server.address)
                .await
                .unwrap();
            requesters.extend(std::iter::repeat_n(stream, STREAMS).map(Requester::Http2));
        }
        Self {
            requesters,
            dialer: dialer.clone(),
            feed,
            server,
        }
    }

    /// Replaces the requests.
    pub(crate) fn feed(&mut self, feed: Arc<Feed>) {
        self.feed = feed;
    }

    /// Sends every request once.
    pub(crate) async fn once(&mut self) {
        self.feed.next.store(0, Ordering::Relaxed);
        self.work(End::Once).await;
    }

    /// Sends one request and panics unless the head of the response contains `words`, so that the
    /// intended path is measured.
    pub(crate) async fn must_say(&mut self, words: &str) {
        let request = self.feed.next(End::Never).unwrap();
        let head = self.requesters[0].head(request).await.unwrap();
        assert!(head.contains(words), "{words}: {head}");
    }

    /// Sends a request on a connection of its own and panics unless it is refused as not authenticated.
    pub(crate) async fn must_refuse(&self, request: &ClientRequest) {
        let mut connection = self.dialer.connect(self.server.address).await.unwrap();
        let refusal = connection.exchange(&wire(request)).await.unwrap_err();
        assert!(refusal.to_string().contains("HTTP/1.1 401"), "{refusal}");
    }

    /// Sends requests for `time`.
    pub(crate) async fn round(&mut self, time: Duration) -> Round {
        self.measure(async |lane, end| lane.work(end).await, time)
            .await
    }

    /// Sends requests for `time`, each on a new connection, one per client at a time.
    pub(crate) async fn round_of_connections(&mut self, time: Duration) -> Round {
        self.measure(async |lane, end| lane.come_and_go(end).await, time)
            .await
    }

    async fn measure(
        &mut self,
        work: impl AsyncFnOnce(&mut Self, End) -> (Vec<u32>, u64),
        time: Duration,
    ) -> Round {
        let (began, before) = (Instant::now(), self.server.usage());
        let (mut latencies, bytes) = work(self, End::At(began + time)).await;
        let cpu = self.server.usage().since(&before);
        latencies.sort_unstable();
        Round {
            cpu,
            elapsed: began.elapsed(),
            bytes,
            latencies,
        }
    }

    /// Uses all connections concurrently.
    async fn work(&mut self, end: End) -> (Vec<u32>, u64) {
        let mut tasks = JoinSet::new();
        for mut requester in self.requesters.drain(..) {
            let feed = self.feed.clone();
            tasks.spawn(async move {
                let (mut latencies, mut bytes) = (Vec::new(), 0);
                while let Some(request) = feed.next(end) {
                    let began = Instant::now();
                    bytes += requester.exchange(request).await.unwrap();
                    latencies.push(microseconds(began));
                }
                (requester, latencies, bytes)
            });
        }
        let (mut all, mut bytes) = (Vec::new(), 0);
        for (requester, latencies, read) in tasks.join_all().await {
            self.requesters.push(requester);
            all.extend(latencies);
            bytes += read;
        }
        (all, bytes)
    }

    async fn come_and_go(&self, end: End) -> (Vec<u32>, u64) {
        let mut tasks = JoinSet::new();
        for _ in 0..NEW_AT_ONCE {
            let (feed, dialer) = (self.feed.clone(), self.dialer.clone());
            let address = self.server.address;
            tasks.spawn(async move {
                let (mut latencies, mut bytes) = (Vec::new(), 0);
                while let Some(request) = feed.next(end) {
                    let began = Instant::now();
                    let mut connection = dialer.connect(address).await.unwrap();
                    bytes += connection.exchange(&request.wire).await.unwrap();
                    latencies.push(microseconds(began));
                }
                (latencies, bytes)
            });
        }
        let (latencies, bytes): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().unzip();
        (latencies.concat(), bytes.iter().sum())
    }
}

fn microseconds(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

/// The result of one round.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    /// The server's CPU time.
    pub(crate) cpu: Duration,
    /// Wall-clock time.
    pub(crate) elapsed: Duration,
    /// Bytes of all response bodies.
    pub(crate) bytes: u64,
    /// In microseconds, sorted.
    pub(crate) latencies: Vec<u32>,
}

impl Round {
    /// The server's CPU time per request in microseconds.
    pub(crate) fn per_request(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.latencies.len() as f64
    }

    /// The server's CPU time per MiB of responses in microseconds.
    pub(crate) fn per_mebibyte(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / (self.bytes as f64 / f64::from(1 << 20))
    }

    /// Responses per second.
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// The quantile `part` (0 to 1) of the latency in microseconds.
    pub(crate) fn quantile(&self, part: f64) -> u32 {
        let place = (self.latencies.len() as f64 * part) as usize;
        self.latencies
            .get(place)
            .or(self.latencies.last())
            .copied()
            .unwrap_or_default()
    }
}

/// The round with the lowest `cost` among those in which the server was not kept from its CPU: a
/// round with few responses measures something else.
pub(crate) fn best<'a>(
    rounds: impl Iterator<Item = &'a Round> + Clone,
    cost: fn(&Round) -> f64,
) -> &'a Round {
    let fastest = rounds.clone().map(Round::rate).fold(0.0, f64::max);
    rounds
        .filter(|round| round.rate() * 2.0 >= fastest)
        .min_by(|one, other| cost(one).total_cmp(&cost(other)))
        .unwrap()
}

/// The maximum size of a TLS record (RFC 8446 section 5.1).
const BUFFER: usize = 16 * 1024;

/// Concurrent connection attempts.
const NEW_AT_ONCE: usize = 16;

/// Streams at a time on an HTTP/2 connection.
const STREAMS: usize = 8;
