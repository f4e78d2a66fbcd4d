//! Writes an answer by hand, where a head was refused and hyper is out of the way.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::linger::linger;
use super::stream::Stream;

/// Sends `answer` as the connection's last, lingers for at most `time`, closes. A refusal fits into any
/// socket buffer; who does not even take that is not waited for any longer.
pub(super) async fn send(mut stream: Stream, answer: Response<Bytes>, time: Duration) {
    let text = serialize(&answer, &date());
    if let Ok(Ok(())) = timeout(time, stream.write_all(&text)).await {
        linger(stream, time).await;
    }
}

/// The whole message; framing and connection fields are written here, whatever `answer` says.
fn serialize(answer: &Response<Bytes>, date: &str) -> Vec<u8> {
    let status = answer.status();
    let mut text = Vec::with_capacity(512 + answer.body().len());
    // Writing to memory cannot fail.
    let _ = write!(
        text,
        "HTTP/1.1 {} {}\r\n",
        status.as_str(),
        status.canonical_reason().unwrap_or_default()
    );
    for (name, value) in answer.headers() {
        if ![CONNECTION, CONTENT_LENGTH, DATE].contains(name) {
            text.extend_from_slice(name.as_str().as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
    }
    let _ = write!(
        text,
        "content-length: {}\r\nconnection: close\r\ndate: {date}\r\n\r\n",
        answer.body().len()
    );
    text.extend_from_slice(answer.body());
    text
}

/// The Date field of now; empty before 1970 or after 9999.
#[expect(clippy::disallowed_methods, reason = "an edge: the Date of an answer")]
fn date() -> String {
    jiff::Timestamp::try_from(std::time::SystemTime::now())
        .and_then(|now| {
            jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now)
        })
        .unwrap_or_default()
}
