//! HTTP/1.1 over plain and TLS sockets.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::*;
use crate::metrics::{ConnectionEndReason, HandshakeResult, MalformedReason};

/// nginx answers such clients in words too; a TLS alert is shown by no HTTP client.
#[tokio::test]
async fn plain_http_on_a_tls_port_is_answered() {
    let server = TestListener::new(Options::tls()).await;
    for (request, has_body) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", true),
        (
            "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
            true,
        ),
        ("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", false),
        ("P", true),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", true),
    ] {
        let mut client = server.connect().await;
        client.send(request).await;
        let text = client.read_to_end().await;
        assert!(
            text.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{request}: {text}"
        );
        assert!(text.contains("\r\nconnection: close\r\n"), "{text}");
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        let expected = "the client sent an HTTP request to an HTTPS port";
        assert_eq!(body, if has_body { expected } else { "" }, "{request}");
    }
    assert_eq!(server.count(HandshakeResult::PlainHttp), 5);
    // Anything else is left to TLS.
    for bytes in [&b"\x80\x2e\x01"[..], b"\0", b"get /"] {
        let mut client = server.connect().await;
        client.send(bytes).await;
        client.0.shutdown().await.unwrap();
        assert!(!client.read_to_end().await.contains("HTTP"), "{bytes:?}");
    }
    assert_eq!(server.count(HandshakeResult::Failed), 3);
}

#[tokio::test]
async fn keep_alive_requests_are_answered_over_tls() {
    let server = TestListener::new(Options::tls()).await;
    let mut client = server.connect_tls("http/1.1").await;
    for _ in 0..3 {
        client.send("GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let response = client.response().await;
        assert_eq!(
            (response.status, response.body.as_str()),
            (200, "GET /a?b=c x")
        );
        assert!(!response.closes);
        assert!(response.head.contains("\r\ndate: "));
    }
    client
        .send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        .await;
    assert_eq!(client.response().await.body, "abc");
}

#[tokio::test]
async fn requests_may_arrive_byte_by_byte_and_pipelined() {
    let server = TestListener::plain().await;
    let requests = "GET https://x/1 HTTP/1.1\r\nHost: x\r\n\r\n\
        POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello\
        POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\nX-T: 1\r\n\r\n\
        GET /2 HTTP/1.1\r\nHost: x\r\n\r\n";
    for step in [1, 7, requests.len()] {
        let mut client = server.connect().await;
        client.0.set_nodelay(true).unwrap();
        for piece in requests.as_bytes().chunks(step) {
            client.send(piece).await;
            tokio::task::yield_now().await;
        }
        for body in ["GET /1 x", "hello", "hello", "GET /2 x"] {
            assert_eq!(client.response().await.body, body, "in steps of {step}");
        }
    }
}

#[tokio::test]
async fn an_illegal_head_is_rejected_after_earlier_responses() {
    let server = TestListener::plain().await;
    let mut client = server.connect().await;
    client
        .send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\nmore")
        .await;
    within(server.handler.arrived.notified()).await;
    server.handler.resume.notify_one();
    assert_eq!(client.response().await.body, "GET /wait x");
    let refusal = client.response().await;
    assert_eq!((refusal.status, refusal.closes), (400, true));
    assert_eq!(refusal.body, "there is more than one Host");
    assert!(refusal.head.contains("\r\ndate: "));
    assert_eq!(client.read_to_end().await, "");
    assert_eq!(server.count(MalformedReason::Host), 1);
}

#[tokio::test]
async fn each_protocol_error_has_its_status() {
    let server = TestListener::plain().await;
    let many = format!(
        "GET / HTTP/1.1\r\nHost: x\r\n{}\r\n",
        "X: y\r\n".repeat(100)
    );
    let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(40_000));
    for (status, head) in [
        (405, "TRACE / HTTP/1.1\r\nHost: x\r\n\r\n"),
        (405, "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n"),
        (431, &many),
        (431, &long),
        (400, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (400, "GET / HTTP/1.1\n"),
    ] {
        let mut client = server.connect().await;
        client.send(head).await;
        assert_eq!(client.response().await.status, status);
        assert_eq!(client.read_to_end().await, "");
    }
}

#[tokio::test]
async fn a_head_has_a_total_timeout_however_slowly_it_arrives() {
    let mut options = Options::default();
    options.settings.header_timeout = Duration::from_millis(200);
    let server = TestListener::new(options).await;
    let mut client = server.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);

    let (mut reader, mut writer) = client.0.into_split();
    spawn(async move {
        while writer.write_all(b"G").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let mut response = Vec::new();
    let _ = within(AsyncReadExt::read_to_end(&mut reader, &mut response)).await;
    assert!(response.starts_with(b"HTTP/1.1 408 "));
}

#[tokio::test]
async fn a_silent_client_is_closed_without_a_response() {
    let mut options = Options::default();
    options.settings.header_timeout = Duration::from_millis(50);
    options.settings.idle_timeout = Duration::from_millis(50);
    let server = TestListener::new(options).await;
    let mut silent = server.connect().await;
    assert_eq!(silent.read_to_end().await, "");
    assert_eq!(server.count(ConnectionEndReason::HeaderTimeout), 1);
    let mut idle = server.connect().await;
    idle.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(idle.response().await.status, 200);
    assert_eq!(idle.read_to_end().await, "");
    assert_eq!(server.count(ConnectionEndReason::IdleTimeout), 1);
}

#[tokio::test]
async fn an_early_response_keeps_the_connection_if_the_unread_body_is_small() {
    let server = TestListener::plain().await;
    let mut client = server.connect().await;
    let smuggled = "GET /evil HTTP/1.1\r\nHost: x\r\n\r\n";
    let head = format!(
        "POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        smuggled.len()
    );
    client.send(&head).await;
    let early = client.response().await;
    assert_eq!((early.status, early.closes), (401, false));
    client.send(smuggled).await;
    client.send("GET /next HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.response().await.body, "GET /next x");
}

#[tokio::test]
async fn an_early_response_to_a_large_body_arrives_before_the_close() {
    let server = TestListener::plain().await;
    let mut client = server.connect().await;
    client
        .send("POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        .await;
    // A client that sends everything before it reads must not lose the response to a reset.
    client.send(vec![b'x'; 1_000_000]).await;
    let early = client.response().await;
    assert_eq!((early.status, early.closes), (401, true));
    client.closes_cleanly().await;

    let mut client = server.connect().await;
    client.send("GET / HTTP/3\r\n").await;
    client.send(vec![b'x'; 1_000_000]).await;
    assert_eq!(client.response().await.status, 400);
    client.closes_cleanly().await;

    let mut client = server.connect().await;
    client
        .send("POST /early HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status, 401);
    client
        .send(format!("30000\r\n{}", "x".repeat(0x30000)))
        .await;
    assert_eq!(
        client.read_to_end().await,
        "",
        "over the budget, the connection ends"
    );
}

#[tokio::test]
async fn an_unread_body_that_does_not_arrive_is_not_awaited() {
    let server = TestListener::plain().await;
    let mut client = server.connect().await;
    client
        .send("POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nxxx")
        .await;
    assert_eq!(client.response().await.status, 401);
    assert_eq!(client.read_to_end().await, "");
}

#[tokio::test]
async fn a_client_that_expects_100_continue_gets_it() {
    let server = TestListener::plain().await;
    let mut client = server.connect().await;
    let head = |path| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
    };
    client.send(head("/echo")).await;
    assert_eq!(client.response().await.status, 100);
    client.send("hi").await;
    assert_eq!(client.response().await.body, "hi");
    client.send(head("/early")).await;
    let early = client.response().await;
    assert_eq!((early.status, early.closes), (401, true));
    assert_eq!(client.read_to_end().await, "");
}

#[tokio::test]
async fn an_invalid_body_is_a_bad_request() {
    let server = TestListener::plain().await;
    for body in [
        "5\r\nhelloX\r\n",
        "zz\r\n",
        "0\r\nContent-Length: 3\r\n\r\n",
    ] {
        let mut client = server.connect().await;
        client
            .send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        client.send(body).await;
        let response = client.response().await;
        assert_eq!((response.status, response.closes), (400, true), "{body:?}");
        assert_eq!(client.read_to_end().await, "");
    }
    assert_eq!(server.count(MalformedReason::Body), 3);
}

#[tokio::test]
async fn a_panic_ends_only_its_own_connection() {
    let server = TestListener::plain().await;
    let mut other = server.connect().await;
    other.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(other.response().await.status, 200);
    let mut client = server.connect().await;
    client.send("GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.read_to_end().await, "");
    other.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(other.response().await.status, 200);
    assert_eq!(server.count(ConnectionEndReason::Panic), 1);
}

#[tokio::test]
async fn http_1_0_is_served() {
    let server = TestListener::plain().await;
    let mut client = server.connect().await;
    client.send("GET /a HTTP/1.0\r\n\r\n").await;
    let response = client.read_to_end().await;
    assert!(
        response.starts_with("HTTP/1.0 200 ") && response.ends_with("GET /a -"),
        "{response}"
    );
}

#[tokio::test]
async fn a_connection_over_its_age_takes_no_further_request() {
    let mut options = Options::default();
    options.settings.max_connection_age = Duration::ZERO;
    let server = TestListener::new(options).await;
    let mut client = server.connect().await;
    client.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await;
    within(server.handler.arrived.notified()).await;
    server.handler.resume.notify_one();
    assert!(client.response().await.closes);
    assert_eq!(client.read_to_end().await, "");
}

#[tokio::test]
async fn a_busy_client_is_told_that_its_connection_is_over_its_age() {
    let mut options = Options::default();
    options.settings.max_connection_age = Duration::from_millis(100);
    let server = TestListener::new(options).await;
    let mut client = server.connect().await;
    loop {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        if client.response().await.closes {
            break;
        }
        // The pace of a busy client: the age passes between two of its requests.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    client.closes_cleanly().await;
}

#[tokio::test]
async fn an_idle_connection_over_its_age_closes() {
    let mut options = Options::default();
    options.settings.max_connection_age = Duration::from_millis(50);
    options.settings.idle_timeout = Duration::from_millis(100);
    let server = TestListener::new(options).await;
    let mut client = server.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.response().await;
    client.closes_cleanly().await;
    assert_eq!(server.count(ConnectionEndReason::MaxAge), 1);
}

/// RFC 9110, 9.3.2.
#[tokio::test]
async fn a_rejected_head_request_gets_no_body() {
    let server = TestListener::plain().await;
    for head in [
        "HEAD /.. HTTP/1.1\r\nHost: x\r\n\r\n",
        "\r\nHEAD / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
    ] {
        let mut client = server.connect().await;
        client.send(head).await;
        let response = client.read_to_end().await;
        assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
        assert!(response.contains("\r\ncontent-length: 2"), "{response}");
        assert!(response.ends_with("\r\n\r\n"), "{response}");
    }
}

#[tokio::test]
async fn too_many_trailers_are_an_invalid_body() {
    let server = TestListener::plain().await;
    for (count, status) in [(100, 200), (101, 400)] {
        let trailers: String = (0..count).map(|n| format!("X-{n}: y\r\n")).collect();
        let mut client = server.connect().await;
        client
            .send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        client.send(format!("0\r\n{trailers}\r\n")).await;
        assert_eq!(client.response().await.status, status, "{count}");
    }
    assert_eq!(server.count(MalformedReason::Body), 1);
}

/// `curl --http1.0` of Debian 12 offers `http/1.0` alone by ALPN.
#[tokio::test]
async fn alpn_may_select_http_1_0() {
    let server = TestListener::new(Options::tls()).await;
    let mut client = server.connect_tls("http/1.0").await;
    client.send("GET /a HTTP/1.0\r\n\r\n").await;
    let response = client.read_to_end().await;
    assert!(response.starts_with("HTTP/1.0 200 "), "{response}");
}

/// A recording is played at 8 KiB/s over a fast link, twice the minimum rate. It needs 90 s, since only
/// the real kernel's buffers show the fault.
#[tokio::test]
#[ignore = "needs 90 s"]
async fn playback_above_the_minimum_rate_is_not_cut() {
    let server = TestListener::plain().await;
    // After a first connection the listener has its socket options, which others inherit.
    let mut first = server.connect().await;
    first.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    first.response().await;
    let mut client = server.connect().await;
    client
        .send("GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    let mut second = vec![0; 8 * 1024];
    for _ in 0..100 {
        within(client.0.read_exact(&mut second)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(server.count(ConnectionEndReason::SlowReader), 0);
}

#[tokio::test]
async fn unusual_but_legal_heads_reach_the_handler() {
    let server = TestListener::plain().await;
    let mut client = server.connect().await;
    for head in [
        "M!#$%&'*+-.^_`|~9 / HTTP/1.1\r\nHost: x\r\n\r\n",
        "\r\nget /a;b=c/%20~?[]{}|^ HTTP/1.1\r\nHost: [::1]:1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a!$&'()*+,;=-._~b:\r\n!#$%&'*+-.^_`|~9:\ta\u{e4}\t\r\nEmpty:\r\n\r\n",
        "GET HTTPS://a_b:1/x?y HTTP/1.1\r\nHost: A_B:1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    ] {
        client.send(head).await;
        assert_eq!(client.response().await.status, 200, "{head:?}");
    }
}

#[tokio::test]
async fn a_last_response_says_close() {
    let server = TestListener::plain().await;
    let mut client = server.connect().await;
    client.send("GET /last HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!((response.status, response.closes), (429, true));
    client.closes_cleanly().await;
}
