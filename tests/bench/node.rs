//! A node with minimal cost: it reads a request, looks only at path and length, and sends a
//! prepared response. For measuring what is in front of it; it verifies nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ccfs_gateway::stand_in::certificates::IssuedCertificate;
use jiff::Timestamp;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::AbortOnDropHandle;

/// A running node. It stops when dropped.
#[derive(Debug)]
pub(crate) struct Node {
    /// `https://127.0.0.1:port`.
    pub(crate) url: String,
    served: Arc<AtomicU64>,
    _serving: AbortOnDropHandle<()>,
}

impl Node {
    /// Serves URLs that expire at `expiry`, in seconds since 1970, and below [`DOWNLOAD`] as many
    /// bytes as the path says.
    pub(crate) async fn start(leaf: &IssuedCertificate, expiry: i64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(leaf.server_config().unwrap());
        let served = Arc::default();
        let work = Work {
            response: response(expiry).into(),
            served: Arc::clone(&served),
        };
        let serving = tokio::spawn(accept(listener, acceptor, work));
        Self {
            url: format!("https://{address}"),
            served,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// Starts `number` nodes whose URLs are valid for eight hours, as those of CC-FS are.
    pub(crate) async fn start_many(leaf: &IssuedCertificate, number: usize) -> Vec<Self> {
        let mut nodes = Vec::new();
        for _ in 0..number {
            nodes.push(Self::start(leaf, Timestamp::now().as_second() + 8 * 3600).await);
        }
        nodes
    }

    /// Starts `number` nodes whose URLs have expired: no response can be cached, every request is
    /// forwarded.
    pub(crate) async fn start_expired(leaf: &IssuedCertificate, number: usize) -> Vec<Self> {
        let mut nodes = Vec::new();
        for _ in 0..number {
            nodes.push(Self::start(leaf, Timestamp::now().as_second() - 3600).await);
        }
        nodes
    }
}

/// Requests that nodes have served since they were started.
pub(crate) fn served(nodes: &[Node]) -> u64 {
    nodes
        .iter()
        .map(|node| node.served.load(Ordering::Relaxed))
        .sum()
}

/// What each connection of a node has.
#[derive(Clone)]
struct Work {
    response: Arc<[u8]>,
    served: Arc<AtomicU64>,
}

/// The URLs of nodes.
pub(crate) fn urls(nodes: &[Node]) -> Vec<String> {
    nodes.iter().map(|node| node.url.clone()).collect()
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, work: Work) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, work) = (acceptor.clone(), work.clone());
        connections.spawn(async move {
            stream.set_nodelay(true)?;
            serve(acceptor.accept(stream).await?, &work).await
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Serves one connection until the peer closes it.
async fn serve(mut stream: TlsStream<TcpStream>, work: &Work) -> io::Result<()> {
    let mut request = Vec::with_capacity(4096);
    loop {
        request.clear();
        let head = loop {
            if stream.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
            if let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") {
                break String::from_utf8_lossy(&request[..end + 4]).into_owned();
            }
        };
        let whole = head.len() + content_length(&head);
        while request.len() < whole {
            if stream.read_buf(&mut request).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        work.served.fetch_add(1, Ordering::Relaxed);
        match download(&head) {
            Some(size) => send(&mut stream, size).await?,
            None => stream.write_all(&work.response).await?,
        }
        stream.flush().await?;
    }
}

fn content_length(head: &str) -> usize {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length.map_or(0, |(_, value)| value.trim().parse().unwrap())
}

fn download(head: &str) -> Option<u64> {
    let target = head.split(' ').nth(1)?;
    target.strip_prefix(DOWNLOAD)?.parse().ok()
}

async fn send(stream: &mut TlsStream<TcpStream>, size: u64) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {size}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut left = size;
    while left > 0 {
        let piece = PIECE.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        stream.write_all(&PIECE[..piece]).await?;
        left -= piece as u64;
    }
    Ok(())
}

/// A response of the recording-URL interface, about 500 bytes of JSON.
fn response(expiry: i64) -> Vec<u8> {
    let url = format!(
        "https://south-aicc-develop.obs.cn-south-1.myhuaweicloud.com/ccfs/record/developId/\
         13ddcde6-2072-40d2-b96f-58cac16e18f5?Expires={expiry}&AccessKeyId=FAKEAKFAKEAKFAKEAK00\
         &Signature=SZtv9VeV8TvhUdvi3jceQ6iblLY%3D&x={filling}",
        filling = "0".repeat(200)
    );
    let body = json!({"resultData": url, "resultCode": "0", "resultDesc": "success"}).to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json;charset=UTF-8\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Paths below it are downloads; the remainder of the path is their size.
pub(crate) const DOWNLOAD: &str = "/CCFS/download/";

static PIECE: [u8; 64 * 1024] = [0; 64 * 1024];
