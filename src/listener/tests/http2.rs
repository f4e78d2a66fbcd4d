//! HTTP/2 over TLS, with hyper's client and with raw frames.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::oneshot;

use super::support::*;
use crate::drain::Phase;
use crate::metrics::{ConnectionEndReason, MalformedReason};

/// A client, and a receiver that is ready when its connection has ended.
async fn connect(server: &TestListener) -> (SendRequest<Full<Bytes>>, oneshot::Receiver<()>) {
    let client = server.connect_tls("h2").await;
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client.0))
            .await
            .unwrap();
    let (ended, end) = oneshot::channel();
    spawn(async move {
        let _ = connection.await;
        let _ = ended.send(());
    });
    (sender, end)
}

fn get(uri: &str) -> Request<Full<Bytes>> {
    post(uri, Bytes::new())
}

fn post(uri: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::builder()
        .version(Version::HTTP_2)
        .method("POST")
        .uri(uri)
        .body(Full::new(body.into()))
        .unwrap()
}

async fn read(response: Response<Incoming>) -> (StatusCode, String) {
    let status = response.status();
    let body = within(response.into_body().collect())
        .await
        .unwrap()
        .to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn streams_are_served_with_host_and_origin_form() {
    let server = TestListener::new(Options::tls()).await;
    let (mut sender, _end) = connect(&server).await;
    let response = within(sender.send_request(get("https://localhost:1/a?b")))
        .await
        .unwrap();
    assert!(response.headers().contains_key("date"));
    assert_eq!(
        read(response).await,
        (StatusCode::OK, "POST /a?b localhost:1".into())
    );
    let large = "x".repeat(300_000);
    let response = within(sender.send_request(post("https://localhost/echo", large.clone())))
        .await
        .unwrap();
    assert_eq!(read(response).await, (StatusCode::OK, large));
}

#[tokio::test]
async fn an_illegal_request_is_rejected_and_the_connection_closes() {
    let server = TestListener::new(Options::tls()).await;
    let (mut sender, end) = connect(&server).await;
    let response = within(sender.send_request(get("https://localhost/a/../b")))
        .await
        .unwrap();
    let answer = (
        StatusCode::BAD_REQUEST,
        "the path holds a dot segment".into(),
    );
    assert_eq!(read(response).await, answer);
    within(end).await.unwrap();
    assert_eq!(server.count(MalformedReason::Target), 1);
}

#[tokio::test]
async fn a_last_response_closes_the_connection() {
    let server = TestListener::new(Options::tls()).await;
    let (mut sender, end) = connect(&server).await;
    let response = within(sender.send_request(get("https://localhost/last")))
        .await
        .unwrap();
    let (status, _) = read(response).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    within(end).await.unwrap();
}

/// HEADERS of a complete request for a path of five bytes.
fn headers(stream: u8, path: &[u8; 5]) -> Vec<u8> {
    let mut frame = b"\0\0\x0c\x01\x05\0\0\0".to_vec();
    frame.push(stream);
    frame.extend(b"\x82\x87\x04\x05");
    frame.extend(path);
    frame.extend(b"\x01\x01x");
    frame
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[tokio::test]
async fn a_client_that_ignores_goaway_is_refused() {
    let server = TestListener::new(Options::tls()).await;
    let mut client = server.connect_tls("h2").await;
    client
        .send([PREFACE, b"\0\0\0\x04\0\0\0\0\0"].concat())
        .await;
    client.send(headers(1, b"/last")).await;
    client.frame_of(GOAWAY).await;
    client.send(headers(3, b"/wait")).await;
    // REFUSED_STREAM.
    assert_eq!(client.frame_of(RST_STREAM).await, [0, 0, 0, 7]);
    // After too many refused streams the connection is dropped.
    let more = (5..=251)
        .step_by(2)
        .flat_map(|stream| headers(stream, b"/wait"));
    client.send(more.collect::<Vec<_>>()).await;
    client.read_to_end().await;
    assert_eq!(server.count(ConnectionEndReason::ProtocolError), 1);
}

#[tokio::test]
async fn a_control_frame_flood_closes_the_connection() {
    let server = TestListener::new(Options::tls()).await;
    for frame in [
        &b"\0\0\x08\x06\0\0\0\0\0pingping"[..],
        b"\0\0\0\x04\0\0\0\0\0",
        b"\0\0\x04\x08\0\0\0\0\0\0\0\0\x01",
        b"\0\0\x05\x02\0\0\0\0\x01\0\0\0\0\x01",
        b"\0\0\x01\x4d\0\0\0\0\0x",
    ] {
        let before = server.count(ConnectionEndReason::ControlFlood);
        let mut client = server.connect_tls("h2").await;
        client
            .send([PREFACE, b"\0\0\0\x04\0\0\0\0\0"].concat())
            .await;
        client.send(frame.repeat(900)).await;
        client.send(headers(1, b"/last")).await;
        client.frame_of(GOAWAY).await;
        client.send(frame.repeat(900)).await;
        client.read_to_end().await;
        assert_eq!(server.count(ConnectionEndReason::ControlFlood), before + 1);
    }
}

#[tokio::test]
async fn a_last_response_does_not_wait_long_for_a_window() {
    let mut options = Options::tls();
    options.settings.linger_timeout = Duration::from_millis(50);
    options.settings.http2.goaway_timeout = Duration::from_millis(50);
    let server = TestListener::new(options).await;
    let mut client = server.connect_tls("h2").await;
    // SETTINGS_INITIAL_WINDOW_SIZE of 0.
    let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0";
    client.send([PREFACE, settings].concat()).await;
    client.send(headers(1, b"/last")).await;
    client.frame_of(RST_STREAM).await;
    client.read_to_end().await;
    assert_eq!(server.count(ConnectionEndReason::SlowReader), 1);
}

#[tokio::test]
async fn a_drain_sends_goaway_and_lets_streams_finish() {
    let server = TestListener::new(Options::tls()).await;
    let (mut sender, end) = connect(&server).await;
    let waiting = sender.send_request(get("https://localhost/wait"));
    let trigger = async {
        within(server.handler.arrived.notified()).await;
        server.trigger.advance(Phase::Notified);
        server.handler.resume.notify_one();
    };
    let (response, ()) = within(async { tokio::join!(waiting, trigger) }).await;
    assert_eq!(read(response.unwrap()).await.0, StatusCode::OK);
    within(end).await.unwrap();
    server.trigger.advance(Phase::Closing);
    within(server.trigger.completed()).await;
}

#[tokio::test]
async fn idle_and_silent_connections_are_closed() {
    let mut options = Options::tls();
    options.settings.idle_timeout = Duration::from_millis(50);
    options.settings.header_timeout = Duration::from_millis(50);
    let server = TestListener::new(options).await;
    let (mut sender, end) = connect(&server).await;
    let response = within(sender.send_request(get("https://localhost/")))
        .await
        .unwrap();
    assert_eq!(read(response).await.0, StatusCode::OK);
    within(end).await.unwrap();
    assert_eq!(server.count(ConnectionEndReason::IdleTimeout), 1);
    let (_sender, end) = connect(&server).await;
    within(end).await.unwrap();
    assert_eq!(server.count(ConnectionEndReason::HeaderTimeout), 1);
}

#[tokio::test]
async fn an_unfinished_header_block_closes_the_connection() {
    let mut options = Options::tls();
    options.settings.header_timeout = Duration::from_millis(50);
    let server = TestListener::new(options).await;
    let mut client = server.connect_tls("h2").await;
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    // A complete request first, so that the connection is not idle: /wait on stream 1.
    bytes.extend(b"\0\0\x0c\x01\x05\0\0\0\x01\x82\x87\x04\x05/wait\x01\x01x");
    // Then HEADERS without END_HEADERS on stream 3.
    bytes.extend(b"\0\0\x01\x01\x01\0\0\0\x03\x82");
    client.send(bytes).await;
    client.read_to_end().await;
    assert_eq!(server.count(ConnectionEndReason::HeaderTimeout), 1);
}

#[tokio::test]
async fn a_panic_resets_its_stream_and_closes_the_connection() {
    let server = TestListener::new(Options::tls()).await;
    let (mut sender, end) = connect(&server).await;
    assert!(
        within(sender.send_request(get("https://localhost/panic")))
            .await
            .is_err()
    );
    within(end).await.unwrap();
    assert_eq!(server.count(ConnectionEndReason::Panic), 1);
}
