//! HTTP/1 connections that give up their buffers while the client is quiet. Here that is after each message:
//! every byte arrives at the moment of parking or waking.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::*;
use crate::drain::Phase;
use crate::metrics::ConnectionEndReason;

const GET: &str = "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n";
const POST: &str = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
const CHUNKED: &str = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
    2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";

fn at_once(mut options: Options) -> Options {
    options.settings.park_after = Duration::ZERO;
    options
}

#[tokio::test]
async fn pipelined_and_bytewise_requests_are_answered_in_order() {
    let server = TestListener::new(at_once(Options::tls())).await;
    let requests = [GET, POST, CHUNKED, "\r\n", GET].concat();
    for step in [1, 2, 7, GET.len(), GET.len() + 1, requests.len()] {
        let mut client = server.connect_tls("http/1.1").await;
        for _ in 0..2 {
            for piece in requests.as_bytes().chunks(step) {
                client.send(piece).await;
            }
            for body in ["GET /1 x", "hello", "hello", "GET /1 x"] {
                assert_eq!(client.response().await.body, body, "in steps of {step}");
            }
        }
    }
}

#[tokio::test]
async fn requests_one_after_the_other_are_answered_without_tls_too() {
    let server = TestListener::new(at_once(Options::default())).await;
    let mut client = server.connect().await;
    for _ in 0..100 {
        for request in [GET, CHUNKED] {
            client.send(request).await;
            assert_eq!(client.response().await.status, 200);
        }
    }
}

#[tokio::test]
async fn the_end_of_a_quiet_client_ends_the_connection() {
    let server = TestListener::new(at_once(Options::tls())).await;
    for requests in 0..3 {
        let mut client = server.connect_tls("http/1.1").await;
        for _ in 0..requests {
            client.send(GET).await;
            assert_eq!(client.response().await.status, 200);
        }
        client.0.shutdown().await.unwrap();
        assert_eq!(client.read_to_end().await, "");
    }
}

/// RFC 8446, 6.2. The error is seen before hyper is there to see it.
#[tokio::test]
async fn a_broken_tls_record_ends_it_at_once() {
    let server = TestListener::new(at_once(Options::tls())).await;
    for requests in 0..2 {
        let mut client = server.connect_tls("http/1.1").await;
        for _ in 0..requests {
            client.send(GET).await;
            client.response().await;
        }
        let (socket, _) = client.0.get_mut();
        socket.write_all(&[23, 3, 3, 0, 20]).await.unwrap();
        socket.write_all(&[0; 20]).await.unwrap();
        let mut alert = Vec::new();
        within(socket.read_to_end(&mut alert)).await.unwrap();
        assert!(!alert.is_empty());
    }
}

#[tokio::test]
async fn a_drain_closes_it_and_a_request_at_that_moment_is_the_last() {
    let server = TestListener::new(at_once(Options::tls())).await;
    let mut client = server.connect_tls("http/1.1").await;
    client.send(GET).await;
    assert!(!client.response().await.closes);
    server.trigger.advance(Phase::Notified);
    client.send(GET).await;
    assert!(client.response().await.closes);
    assert_eq!(client.read_to_end().await, "");

    let mut client = server.connect_tls("http/1.1").await;
    server.trigger.advance(Phase::Closing);
    client.send(GET).await;
    assert!(client.response().await.closes);
    assert_eq!(client.read_to_end().await, "");
    within(server.trigger.completed()).await;
}

#[tokio::test]
async fn a_closing_and_a_forced_drain_close_it() {
    for phase in [Phase::Closing, Phase::Forced] {
        let server = TestListener::new(at_once(Options::tls())).await;
        let mut client = server.connect_tls("http/1.1").await;
        client.send(GET).await;
        client.response().await;
        server.trigger.advance(phase);
        assert_eq!(client.read_to_end().await, "", "{phase:?}");
        within(server.trigger.completed()).await;
    }
}

#[tokio::test]
async fn it_is_evicted_for_another_client() {
    let mut options = at_once(Options::tls());
    options.limits.connections = 1;
    let server = TestListener::new(options).await;
    let mut first = server.connect_tls("http/1.1").await;
    first.send(GET).await;
    first.response().await;
    let mut second = server.connect_tls("http/1.1").await;
    second.send(GET).await;
    assert_eq!(second.response().await.status, 200);
    assert_eq!(first.read_to_end().await, "");
    assert_eq!(server.count(ConnectionEndReason::ConnectionLimit), 1);
}

#[tokio::test]
async fn timeouts_hold_before_and_after_the_first_request() {
    let mut options = at_once(Options::tls());
    options.settings.header_timeout = Duration::from_millis(50);
    options.settings.idle_timeout = Duration::from_millis(50);
    let server = TestListener::new(options).await;
    let mut silent = server.connect_tls("http/1.1").await;
    assert_eq!(silent.read_to_end().await, "");
    assert_eq!(server.count(ConnectionEndReason::HeaderTimeout), 1);
    let mut idle = server.connect_tls("http/1.1").await;
    idle.send(GET).await;
    idle.response().await;
    assert_eq!(idle.read_to_end().await, "");
    assert_eq!(server.count(ConnectionEndReason::IdleTimeout), 1);
    let mut slow = server.connect_tls("http/1.1").await;
    slow.send("GET / HT").await;
    assert_eq!(slow.response().await.status, 408);
}

#[tokio::test]
async fn what_was_rejected_or_left_unread_is_treated_as_ever() {
    let server = TestListener::new(at_once(Options::tls())).await;
    let mut client = server.connect_tls("http/1.1").await;
    let early = "POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n";
    client.send(early).await;
    assert_eq!(client.response().await.status, 401);
    client.send("GET /e").await;
    client.send(GET).await;
    assert_eq!(client.response().await.body, "GET /1 x");
    let mut client = server.connect_tls("http/1.1").await;
    client.send(GET).await;
    client.response().await;
    client
        .send("GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status, 400);
    assert_eq!(client.read_to_end().await, "");
}
