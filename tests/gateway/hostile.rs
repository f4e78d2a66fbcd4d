//! Malicious clients at the byte level: hand-written HTTP/1 and single HTTP/2 frames. Independent
//! of the gateway's other test support; the soak test uses them too.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ccfs_gateway::client::Trust;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The address of a gateway, with TLS settings for both protocols.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    http1: TlsConnector,
    http2: TlsConnector,
}

/// A raw TLS connection.
pub(crate) struct RawConnection {
    tls: TlsStream<TcpStream>,
    /// Received bytes that have not been parsed yet.
    read: Vec<u8>,
}

/// One HTTP/1 response.
#[derive(Debug)]
pub(crate) struct RawResponse {
    pub(crate) status: u16,
    pub(crate) head: String,
}

/// One HTTP/2 frame received from the gateway.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Target {
    pub(crate) fn new(address: SocketAddr, ca: &Path) -> Self {
        let config = Trust::from_pem_file(ca).unwrap().client_config().unwrap();
        let mut http2 = (*config).clone();
        http2.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            address,
            http1: TlsConnector::from(config),
            http2: TlsConnector::from(Arc::new(http2)),
        }
    }

    /// Opens a TLS connection for HTTP/1.1.
    pub(crate) async fn connect(&self) -> RawConnection {
        self.open(&self.http1).await.unwrap()
    }

    /// Opens a connection for HTTP/2: sends the preface and SETTINGS with these values, and
    /// acknowledges the gateway's SETTINGS.
    pub(crate) async fn connect_http2(&self, settings: &[(u16, u32)]) -> RawConnection {
        let mut connection = self.open(&self.http2).await.unwrap();
        let values: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let settings = frame(SETTINGS, 0, 0, &values);
        connection
            .send(&[&preface[..], &settings, &frame(SETTINGS, ACK, 0, &[])].concat())
            .await;
        connection
    }

    async fn open(&self, connector: &TlsConnector) -> std::io::Result<RawConnection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::from(self.address.ip());
        let tls = connector.connect(name, stream).await?;
        let read = Vec::new();
        Ok(RawConnection { tls, read })
    }
}

impl RawConnection {
    /// Writes within two seconds; returns whether the gateway accepted all of it.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        let sending = async {
            self.tls.write_all(bytes).await?;
            self.tls.flush().await
        };
        matches!(timeout(Duration::from_secs(2), sending).await, Ok(Ok(())))
    }

    /// The next response, if one arrives before the connection closes.
    pub(crate) async fn response(&mut self) -> Option<RawResponse> {
        loop {
            if let Some(response) = self.parse() {
                return Some(response);
            }
            if !self.read_some(Instant::now() + READ_TIMEOUT).await {
                return None;
            }
        }
    }

    /// Reads until the gateway closes the connection; returns the bytes, or `None` on timeout.
    pub(crate) async fn read_to_end(&mut self) -> Option<Vec<u8>> {
        let deadline = Instant::now() + READ_TIMEOUT;
        while Instant::now() < deadline {
            if !self.read_some(deadline).await {
                return (Instant::now() < deadline).then(|| std::mem::take(&mut self.read));
            }
        }
        None
    }

    /// The time until the gateway closes the connection; panics after ten seconds.
    pub(crate) async fn time_until_closed(&mut self) -> Duration {
        let start = Instant::now();
        assert!(
            self.read_to_end().await.is_some(),
            "the connection was not closed"
        );
        start.elapsed()
    }

    /// Flags and payload of the next frame of this type and stream; other frames are skipped.
    pub(crate) async fn frame(&mut self, kind: u8, stream: u32) -> Option<(u8, Vec<u8>)> {
        loop {
            let frame = self.next_frame().await?;
            if (frame.kind, frame.stream) == (kind, stream) {
                return Some((frame.flags, frame.payload));
            }
        }
    }

    /// The next HTTP/2 frame, or `None` if the connection closes.
    pub(crate) async fn next_frame(&mut self) -> Option<Frame> {
        while self.read.len() < 9 || self.read.len() < 9 + self.length() {
            if !self.read_some(Instant::now() + READ_TIMEOUT).await {
                return None;
            }
        }
        let rest = self.read.split_off(9 + self.length());
        let frame = std::mem::replace(&mut self.read, rest);
        Some(Frame {
            kind: frame[3],
            flags: frame[4],
            stream: u32::from_be_bytes(frame[5..9].try_into().unwrap()),
            payload: frame[9..].to_vec(),
        })
    }

    fn length(&self) -> usize {
        u32::from_be_bytes([0, self.read[0], self.read[1], self.read[2]]) as usize
    }

    /// Reads once; returns whether bytes arrived before the deadline.
    async fn read_some(&mut self, deadline: Instant) -> bool {
        let more = timeout_at(deadline, self.tls.read_buf(&mut self.read)).await;
        matches!(more, Ok(Ok(1..)))
    }

    fn parse(&mut self) -> Option<RawResponse> {
        let end = self
            .read
            .windows(4)
            .position(|bytes| bytes == b"\r\n\r\n")?
            + 4;
        let head = String::from_utf8_lossy(&self.read[..end]).to_lowercase();
        let status = head.get(9..12)?.parse().ok()?;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        if status == 100 || self.read.len() < end + length {
            return None;
        }
        self.read.drain(..end + length);
        Some(RawResponse { status, head })
    }
}

/// Encodes one HTTP/2 frame (RFC 9113 section 4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An HPACK header block of literal fields without Huffman coding.
pub(crate) fn header_block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // RFC 7541 section 5.1: an integer above the 7-bit prefix continues in the next byte.
            match text.len().checked_sub(127) {
                None => block.push(text.len() as u8),
                Some(more) => block.extend([127, u8::try_from(more).unwrap() & 127]),
            }
            assert!(text.len() < 255);
            block.extend(text.as_bytes());
        }
    }
    block
}

/// An ordinary request head without a signature.
pub(crate) fn unsigned(method: &str) -> Vec<u8> {
    header_block(&[
        (":method", method),
        (":scheme", "https"),
        (":path", "/CCFS/resource/ccfs/getRecordFileUrlFromObs"),
        (":authority", "127.0.0.1"),
    ])
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// Makes the frames that a flood sends on the given stream.
type Frames = fn(u32) -> Vec<u8>;

/// HTTP/2 floods by name: frames that are sent repeatedly, on ever new streams, without reading the
/// responses.
pub(crate) const FLOODS: &[(&str, Frames)] = &[
    ("rapid reset", |stream| {
        [
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &unsigned("POST")),
            frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()),
        ]
        .concat()
    }),
    ("made you reset", |stream| {
        [
            frame(HEADERS, END_HEADERS, stream, &unsigned("POST")),
            frame(WINDOW_UPDATE, 0, stream, &0_u32.to_be_bytes()),
        ]
        .concat()
    }),
    ("streams that never end", |stream| {
        frame(HEADERS, END_HEADERS, stream, &unsigned("POST"))
    }),
    ("CONTINUATION", |stream| match stream {
        1 => frame(HEADERS, 0, 1, &unsigned("GET")),
        _ => frame(CONTINUATION, 0, 1, &header_block(&[("x", "y")])),
    }),
    ("empty CONTINUATION", |stream| match stream {
        1 => frame(HEADERS, 0, 1, &unsigned("GET")),
        _ => frame(CONTINUATION, 0, 1, &[]),
    }),
    ("empty DATA", |stream| match stream {
        1 => frame(HEADERS, END_HEADERS, 1, &unsigned("POST")),
        _ => frame(DATA, 0, 1, &[]),
    }),
    ("PING", |stream| {
        frame(PING, 0, 0, &u64::from(stream).to_be_bytes())
    }),
    ("SETTINGS", |stream| {
        let value = [&4_u16.to_be_bytes()[..], &(65_535 + stream).to_be_bytes()].concat();
        frame(SETTINGS, 0, 0, &value)
    }),
    ("empty SETTINGS", |_| frame(SETTINGS, 0, 0, &[])),
    ("unsolicited SETTINGS acknowledgements", |_| {
        frame(SETTINGS, ACK, 0, &[])
    }),
    ("DATA of one byte", |stream| match stream {
        1 => frame(HEADERS, END_HEADERS, 1, &unsigned("POST")),
        _ => frame(DATA, 0, 1, b" "),
    }),
    ("WINDOW_UPDATE", |_| {
        frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())
    }),
    ("RST_STREAM", |stream| match stream {
        1 => frame(HEADERS, END_HEADERS, 1, &unsigned("POST")),
        _ => frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes()),
    }),
    ("PRIORITY", |stream| {
        frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 1])
    }),
    ("frames of an unknown type", |_| frame(0xbe, 0, 0, &[0; 64])),
    ("header lists that grow when decompressed", |stream| {
        let mut list = unsigned("POST");
        if stream == 1 {
            // With incremental indexing: one field of 3,900 bytes, which later blocks reference
            // with one byte.
            list.extend([0x40, 1, b'x', 0x7f, 0xbd, 0x1d]);
            list.extend([b'y'; 3_900]);
        }
        list.extend([0xbe; 500]);
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &list)
    }),
    ("requests with a zero response window", |stream| {
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &unsigned("POST"))
    }),
];

/// Sends a flood of up to `frames` frames on one connection, as long as the gateway accepts them.
pub(crate) async fn flood(target: &Target, name: &str, frames: u32) -> RawConnection {
    let (_, make) = FLOODS.iter().find(|(known, _)| *known == name).unwrap();
    let window = if name.contains("window") { 0 } else { 65_535 };
    let mut connection = target.connect_http2(&[(4, window)]).await;
    let mut bytes = Vec::new();
    for number in 0..frames {
        bytes.extend(make(number * 2 + 1));
        if bytes.len() > 16 * 1024 {
            if !connection.send(&bytes).await {
                return connection;
            }
            bytes.clear();
        }
    }
    connection.send(&bytes).await;
    connection
}

/// Upper bound on waiting for the gateway in any test.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
