//! Writes a response without hyper, after a head was rejected.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::date;
use super::linger::linger;
use super::stream::Stream;

/// Sends `message`, the last response of a connection, lingers for at most `time`, and closes. An error response
/// fits into any socket buffer: if it cannot be written within `time`, the connection is closed at once.
pub(super) async fn send(mut stream: Stream, message: Vec<u8>, time: Duration) {
    if let Ok(Ok(())) = timeout(time, stream.write_all(&message)).await {
        linger(stream, time).await;
    }
}

/// Returns the whole message.
pub(super) fn serialize(response: &Response<Bytes>) -> Vec<u8> {
    let mut text = serialize_head(response);
    text.extend_from_slice(response.body());
    text
}

/// Returns the message without its body, whose length it announces: the response to HEAD (RFC 9110,
/// 9.3.2). The framing and connection headers are written here and override those of `response`.
pub(super) fn serialize_head(response: &Response<Bytes>) -> Vec<u8> {
    let status = response.status();
    let mut text = Vec::with_capacity(512 + response.body().len());
    // Writing to a `Vec` cannot fail.
    let _ = write!(
        text,
        "HTTP/1.1 {} {}\r\n",
        status.as_str(),
        status.canonical_reason().unwrap_or_default()
    );
    for (name, value) in response.headers() {
        if ![CONNECTION, CONTENT_LENGTH, DATE].contains(name) {
            text.extend_from_slice(name.as_str().as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
    }
    let _ = write!(
        text,
        "content-length: {}\r\nconnection: close\r\ndate: ",
        response.body().len()
    );
    text.extend_from_slice(date::header_value().as_bytes());
    text.extend_from_slice(b"\r\n\r\n");
    text
}
