//! The PROXY protocol, versions 1 and 2 (<https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt>):
//! the client's address, as a trusted proxy states it. The parsers are pure; nothing after the header is
//! read.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Reads the header that must come first. Returns `None` if it names no client: a connection of the
/// proxy itself (`LOCAL`, `UNKNOWN`), or a family other than TCP over IPv4 or IPv6.
///
/// # Errors
///
/// I/O errors of the stream, and `InvalidData` for anything but a PROXY header.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut header = Vec::with_capacity(V1_MAX_LENGTH);
    loop {
        let begin = header.len();
        let more = bytes_needed(&header).ok_or_else(invalid_header)?;
        if more == 0 {
            return parse(&header).ok_or_else(invalid_header);
        }
        header.resize(begin + more, 0);
        stream
            .read_exact(header.get_mut(begin..).unwrap_or_default())
            .await?;
    }
}

/// Returns how many more bytes belong to the header for certain: 0 if it is complete, `None` if it is
/// invalid.
fn bytes_needed(header: &[u8]) -> Option<usize> {
    let length = header.len();
    if length < V2_SIGNATURE.len() {
        return Some(V2_SIGNATURE.len() - length);
    }
    if header.starts_with(V2_SIGNATURE) {
        let Some(&[high, low]) = header.get(14..16) else {
            return Some(16 - length);
        };
        let rest = usize::from(u16::from_be_bytes([high, low]));
        return (rest <= V2_MAX_LENGTH).then(|| 16 + rest - length);
    }
    if !header.starts_with(V1_PREFIX) || length >= V1_MAX_LENGTH && !header.contains(&b'\n') {
        return None;
    }
    Some(match header.last() {
        _ if header.contains(&b'\n') => 0,
        Some(b'\r') => 1,
        _ => 2.min(V1_MAX_LENGTH - length),
    })
}

fn parse(header: &[u8]) -> Option<Option<SocketAddr>> {
    match header.strip_prefix(V2_SIGNATURE) {
        Some([command, family, _, _, rest @ ..]) => parse_v2(*command, *family, rest),
        Some(_) => None,
        None => parse_v1(header),
    }
}

/// `PROXY TCP4 source destination source-port destination-port CR LF`
fn parse_v1(line: &[u8]) -> Option<Option<SocketAddr>> {
    let text = std::str::from_utf8(line.strip_suffix(b"\r\n")?).ok()?;
    let text = text.strip_prefix("PROXY ")?;
    if text == "UNKNOWN" || text.starts_with("UNKNOWN ") {
        return Some(None);
    }
    let mut parts = text.split(' ');
    let family = parts.next()?;
    let (source, destination) = (parts.next()?, parts.next()?);
    let (port, destination_port) = (parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let source: IpAddr = source.parse().ok()?;
    let destination: IpAddr = destination.parse().ok()?;
    let is_consistent = match family {
        "TCP4" => source.is_ipv4() && destination.is_ipv4(),
        "TCP6" => source.is_ipv6() && destination.is_ipv6(),
        _ => false,
    };
    parse_port(destination_port)?;
    is_consistent.then_some(Some(SocketAddr::new(source, parse_port(port)?)))
}

/// Parses what follows the signature (section 2.2): version and command, family and transport, addresses
/// and TLVs.
fn parse_v2(command: u8, family: u8, rest: &[u8]) -> Option<Option<SocketAddr>> {
    match (command, family) {
        // LOCAL, and the families that carry no TCP client: the receiver uses the connection's own
        // address, as HAProxy and nginx do. UNSPEC, UDP over IPv4 and IPv6, AF_UNIX stream and datagram.
        (0x20, _) | (0x21, 0x00 | 0x12 | 0x22 | 0x31 | 0x32) => Some(None),
        (0x21, 0x11) => {
            let (addresses, _) = rest.split_first_chunk::<12>()?;
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *addresses;
            let port = u16::from_be_bytes([high, low]);
            Some(Some(SocketAddr::new(
                Ipv4Addr::new(a, b, c, d).into(),
                port,
            )))
        }
        (0x21, 0x21) => {
            let (addresses, _) = rest.split_first_chunk::<36>()?;
            let (source, ports) = addresses.split_first_chunk::<16>()?;
            let port = u16::from_be_bytes([*ports.get(16)?, *ports.get(17)?]);
            Some(Some(SocketAddr::new(Ipv6Addr::from(*source).into(), port)))
        }
        _ => None,
    }
}

/// Parses a port without sign or leading zero, as section 2.1 demands.
fn parse_port(text: &str) -> Option<u16> {
    let is_plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    is_plain.then(|| text.parse().ok()).flatten()
}

fn invalid_header() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "invalid PROXY header")
}

/// Section 2.1.
const V1_PREFIX: &[u8] = b"PROXY ";

/// Section 2.1: "a 108-byte buffer is always enough", the terminating zero included.
const V1_MAX_LENGTH: usize = 107;

/// Section 2.2.
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of addresses and TLVs. The length field allows 65,535; our limit bounds the memory used before
/// the handshake.
const V2_MAX_LENGTH: usize = 4096;

#[cfg(test)]
mod tests;
