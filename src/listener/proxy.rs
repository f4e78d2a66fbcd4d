//! The PROXY protocol, versions 1 and 2 (<https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt>):
//! the client's address, from a proxy that is trusted. The parsers are pure; nothing after the header
//! is read.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Reads the header that must come first. `None`: the proxy speaks for itself (`LOCAL`, `UNKNOWN`).
///
/// # Errors
///
/// The stream's own, and `InvalidData` if what comes is no header.
pub(super) async fn read(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut start = [0; V2_SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if &start == V2_SIGNATURE {
        let mut fixed = [0; 4];
        stream.read_exact(&mut fixed).await?;
        let length = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        if length > V2_MAX {
            return Err(no_header());
        }
        let mut rest = vec![0; length];
        stream.read_exact(&mut rest).await?;
        return parse_v2(fixed[0], fixed[1], &rest).ok_or_else(no_header);
    }
    if !start.starts_with(V1_START) {
        return Err(no_header());
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\n") {
        if line.len() >= V1_MAX {
            return Err(no_header());
        }
        let mut ahead = [0; V1_MAX];
        let room = ahead.get_mut(..V1_MAX - line.len()).unwrap_or_default();
        let seen = stream.peek(room).await?;
        let seen = room.get(..seen).unwrap_or_default();
        let wanted = seen
            .iter()
            .position(|&byte| byte == b'\n')
            .map_or(seen.len(), |end| end + 1);
        if wanted == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let old = line.len();
        line.resize(old + wanted, 0);
        stream
            .read_exact(line.get_mut(old..).unwrap_or_default())
            .await?;
    }
    parse_v1(&line).ok_or_else(no_header)
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
    let (port, to_port) = (parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let source: IpAddr = source.parse().ok()?;
    let destination: IpAddr = destination.parse().ok()?;
    let right = match family {
        "TCP4" => source.is_ipv4() && destination.is_ipv4(),
        "TCP6" => source.is_ipv6() && destination.is_ipv6(),
        _ => false,
    };
    decimal(to_port)?;
    right.then_some(Some(SocketAddr::new(source, decimal(port)?)))
}

/// What follows the signature: version and command, family and transport, the addresses and TLVs.
fn parse_v2(command: u8, family: u8, rest: &[u8]) -> Option<Option<SocketAddr>> {
    match (command, family) {
        (0x20, _) | (0x21, 0x00) => Some(None),
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

/// A port without sign or leading zero.
fn decimal(text: &str) -> Option<u16> {
    let plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

fn no_header() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no PROXY header")
}

const V1_START: &[u8] = b"PROXY ";

/// "a 108-byte buffer is always enough", the terminating zero included.
const V1_MAX: usize = 107;

const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Addresses and a few TLVs; the length field could say 65,535.
const V2_MAX: usize = 4096;

#[cfg(test)]
mod tests;
