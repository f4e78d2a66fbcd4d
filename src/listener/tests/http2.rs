//! HTTP/2 over TLS, with hyper's client and with raw frames.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::client::TlsStream;

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
    let expected = (
        StatusCode::BAD_REQUEST,
        "the path holds a dot segment".into(),
    );
    assert_eq!(read(response).await, expected);
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

/// h2's own client, and a receiver that is ready when its connection has ended.
async fn connect_h2(
    server: &TestListener,
) -> (h2::client::SendRequest<Bytes>, oneshot::Receiver<()>) {
    let client = server.connect_tls("h2").await;
    let (sender, connection) = within(h2::client::handshake(client.0)).await.unwrap();
    let (ended, end) = oneshot::channel();
    spawn(async move {
        let _ = connection.await;
        let _ = ended.send(());
    });
    (within(sender.ready()).await.unwrap(), end)
}

fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder()
        .version(Version::HTTP_2)
        .method(method)
        .uri(format!("https://localhost{path}"))
}

/// RFC 9110, 9.3.2: curl treats DATA in a response to HEAD as a protocol error.
#[tokio::test]
async fn a_response_to_head_has_no_data() {
    let server = TestListener::new(Options::tls()).await;
    // Of the handler, of an early response, and of the listener itself.
    for (path, status, length) in [("/a", 200, 17), ("/early", 401, 2), ("/..", 400, 28)] {
        let (mut sender, _end) = connect_h2(&server).await;
        let head = request("HEAD", path).body(()).unwrap();
        let (response, _) = sender.send_request(head, true).unwrap();
        let response = within(response).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(
            response.headers()["content-length"],
            length.to_string(),
            "{path}"
        );
        assert!(response.into_body().is_end_stream(), "{path}");
    }
}

/// RFC 9110, 10.1.1: Java's HttpClient sends no body before it has received 100.
#[tokio::test]
async fn a_client_that_expects_100_continue_gets_it() {
    let server = TestListener::new(Options::tls()).await;
    let (mut sender, _end) = connect_h2(&server).await;
    let head = request("POST", "/echo").header("expect", "100-continue");
    let head = head.body(()).unwrap();
    let (mut response, mut body) = sender.send_request(head, false).unwrap();
    let interim = within(std::future::poll_fn(|context| {
        response.poll_informational(context)
    }));
    assert_eq!(
        interim.await.unwrap().unwrap().status(),
        StatusCode::CONTINUE
    );
    body.send_data("text".into(), true).unwrap();
    let response = within(response).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let data = within(response.into_body().data()).await.unwrap().unwrap();
    assert_eq!(data, "text");

    // A handler that does not read the body sends its final response at once.
    let mut sender = within(sender.ready()).await.unwrap();
    let head = request("POST", "/early").header("expect", "100-continue");
    let (mut response, _body) = sender.send_request(head.body(()).unwrap(), false).unwrap();
    let interim = within(std::future::poll_fn(|context| {
        response.poll_informational(context)
    }));
    assert!(interim.await.is_none());
    assert_eq!(
        within(response).await.unwrap().status(),
        StatusCode::UNAUTHORIZED
    );
}

/// curl 7.88 loses a response that is followed at once by RST_STREAM or GOAWAY.
#[tokio::test]
async fn an_early_response_precedes_the_rest_of_the_body_and_the_reset() {
    let server = TestListener::new(Options::tls()).await;
    for (path, status, connection_ends) in [
        ("/early", 401, false),
        ("/..", 400, true),
        ("/last", 429, true),
    ] {
        let (mut sender, end) = connect_h2(&server).await;
        let head = request("POST", path).body(()).unwrap();
        let (response, mut body) = sender.send_request(head, false).unwrap();
        // Nothing of the body has been sent.
        let response = within(response).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        let mut data = response.into_body();
        within(data.data()).await.unwrap().unwrap();
        assert!(data.is_end_stream(), "{path}");
        body.send_data(vec![0; 10_000].into(), true).unwrap();
        // The stream has ended on both sides without a reset.
        if connection_ends {
            within(end).await.unwrap();
        } else {
            let head = request("POST", "/echo").body(()).unwrap();
            let mut sender = within(sender.ready()).await.unwrap();
            let (response, _) = sender.send_request(head, true).unwrap();
            assert_eq!(within(response).await.unwrap().status(), StatusCode::OK);
        }
        let reset =
            std::future::poll_fn(|context| std::task::Poll::Ready(body.poll_reset(context)));
        assert!(
            !matches!(reset.await, std::task::Poll::Ready(Ok(_))),
            "{path}"
        );
    }
    // More than is discarded: reset a moment later, without an error.
    let (mut sender, _end) = connect_h2(&server).await;
    let head = request("POST", "/early").header("content-length", "1000000");
    let (response, mut body) = sender.send_request(head.body(()).unwrap(), false).unwrap();
    assert_eq!(
        within(response).await.unwrap().status(),
        StatusCode::UNAUTHORIZED
    );
    let reset = within(std::future::poll_fn(|context| body.poll_reset(context)));
    assert_eq!(reset.await.unwrap(), h2::Reason::NO_ERROR);
}

/// CVE-2023-44487: every stream that the client resets before its response counts.
#[tokio::test]
async fn a_client_that_resets_too_many_streams_is_closed() {
    let server = TestListener::new(Options::tls()).await;
    // In the handler.
    let (mut sender, end) = connect_h2(&server).await;
    for _ in 0..=64 {
        sender = within(sender.ready()).await.unwrap();
        let head = request("GET", "/wait").body(()).unwrap();
        let (_response, mut stream) = sender.send_request(head, true).unwrap();
        within(server.handler.arrived.notified()).await;
        stream.send_reset(h2::Reason::CANCEL);
    }
    within(end).await.unwrap();
    assert_eq!(server.count(ConnectionEndReason::ProtocolError), 1);
    // In one write with their heads.
    let mut client = server.connect_tls("h2").await;
    let mut bytes = [PREFACE, NO_SETTINGS].concat();
    for stream in (1..=251).step_by(2) {
        bytes.extend(headers(stream, b"/wait"));
        bytes.extend([0, 0, 4, RST_STREAM, 0, 0, 0, 0, stream, 0, 0, 0, 8]);
    }
    client.send(bytes).await;
    client.read_to_end().await;
    assert_eq!(server.count(ConnectionEndReason::ProtocolError), 2);
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

/// A client that has sent its preface, to be used with raw frames.
async fn connect_frames(server: &TestListener) -> Client<TlsStream<TcpStream>> {
    let mut client = server.connect_tls("h2").await;
    client.send([PREFACE, NO_SETTINGS].concat()).await;
    client
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const NO_SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

#[tokio::test]
async fn values_that_hardly_recur_are_not_indexed() {
    let server = TestListener::new(Options::tls()).await;
    let mut client = connect_frames(&server).await;
    let mut blocks = Vec::new();
    for stream in [1, 3] {
        client.send(headers(stream, b"/pair")).await;
        blocks.push(client.frame_of(HEADERS).await);
    }
    // Huffman codes (RFC 7541, appendix B) of the Content-Type, which recurs, and of the request id.
    let (text_plain, abc) = (
        &b"\x87\x49\x7c\xa5\x8a\xe8\x19\xaa"[..],
        &b"\x82\x1c\x64"[..],
    );
    let holds = |value: &[u8]| {
        let windows = |block: &Vec<u8>| block.windows(value.len()).any(|part| part == value);
        blocks.iter().map(windows).collect::<Vec<_>>()
    };
    assert_eq!(holds(text_plain), [true, false], "{blocks:x?}");
    assert_eq!(holds(abc), [true, true], "{blocks:x?}");
}

#[tokio::test]
async fn a_client_that_ignores_goaway_is_refused() {
    let server = TestListener::new(Options::tls()).await;
    let mut client = connect_frames(&server).await;
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
        let mut client = connect_frames(&server).await;
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
async fn a_client_that_reads_nothing_is_closed_at_the_send_rate_window() {
    let mut options = Options::tls();
    options.settings.send_rate_window = Duration::from_millis(50);
    options.settings.http2.goaway_timeout = Duration::from_secs(3600);
    let server = TestListener::new(options).await;
    // SETTINGS_INITIAL_WINDOW_SIZE.
    let settings = |window: u32| {
        let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x04";
        [PREFACE, settings, &window.to_be_bytes()].concat()
    };
    let mut ended = 0;
    for (window, streams) in [(0, 1), (0, 3), (5, 1), (1 << 20, 1), (40_000, 2)] {
        // Small and endless responses; without a WINDOW_UPDATE the connection's window is 65,535 bytes.
        let path = if window < 10 { b"/text" } else { b"/long" };
        let mut client = server.connect_tls("h2").await;
        client.send(settings(window)).await;
        for stream in 0..streams {
            client.send(headers(2 * stream + 1, path)).await;
        }
        for _ in 0..streams {
            client.frame_of(RST_STREAM).await;
        }
        client.read_to_end().await;
        ended += u64::from(streams);
        assert_eq!(
            server.count(ConnectionEndReason::SlowReader),
            ended,
            "{window} {streams}"
        );
    }
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
async fn a_client_without_a_request_is_closed_at_the_header_timeout() {
    let mut options = Options::tls();
    options.settings.header_timeout = Duration::from_millis(50);
    options.settings.http2.goaway_timeout = Duration::from_secs(3600);
    let server = TestListener::new(options).await;
    // Nothing, half a preface, and half a frame behind it.
    for bytes in [&b""[..], &PREFACE[..10], &[PREFACE, b"\0\0\0\x04"].concat()] {
        let mut client = server.connect_tls("h2").await;
        client.send(bytes).await;
        client.read_to_end().await;
    }
    assert_eq!(server.count(ConnectionEndReason::HeaderTimeout), 3);
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
