//! HTTP without TLS on a TLS port: answered in words instead of with a TLS alert, which no HTTP client
//! shows (nginx: 497, "plain HTTP request was sent to HTTPS port").

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::context::ListenerContext;
use super::{ConnectionInfo, Handler, ProtocolError, raw_response};

/// Returns the response to a client whose first byte begins an HTTP method instead of a TLS record (RFC
/// 8446, 5.1); `None` for TLS. Reads nothing from the socket.
pub(super) async fn response<H: Handler>(
    listener: &ListenerContext<H>,
    stream: &TcpStream,
    info: &impl Fn(Option<&'static str>) -> ConnectionInfo,
) -> io::Result<Option<Vec<u8>>> {
    let mut start = [0; 5];
    let length = stream.peek(&mut start).await?;
    let start = start.get(..length).unwrap_or_default();
    if !start.first().is_some_and(u8::is_ascii_uppercase) {
        return Ok(None);
    }
    let error = ProtocolError::Malformed("the client sent an HTTP request to an HTTPS port");
    let response = listener.handler.reject(&Arc::new(info(None)), &error);
    Ok(Some(if start == b"HEAD " {
        raw_response::serialize_head(&response)
    } else {
        raw_response::serialize(&response)
    }))
}
