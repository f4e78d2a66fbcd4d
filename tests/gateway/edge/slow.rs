//! Slow clients: each connection ends at its timeout, however often bytes arrive.

use std::time::Duration;

use ccfs_gateway::stand_in::UrlStyle;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::edge::{Bystander, assert_healthy, post, valid_request, with_short_timeouts};
use crate::hostile::{
    CONTINUATION, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, RawConnection, frame,
    unsigned,
};
use crate::support::{Setup, TestEnv, eventually};

/// A timeout of one second, a response, and at most one second of lingering.
const SOON: Duration = Duration::from_millis(3_500);

/// Sends one byte every 100 ms until the gateway stops accepting them.
async fn drip(connection: &mut RawConnection, bytes: &[u8]) {
    for byte in bytes.chunks(1) {
        if !connection.send(byte).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_handshake_that_never_arrives() {
    let env = with_short_timeouts("").await;
    for bytes in [&b""[..], b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"] {
        let start = Instant::now();
        let mut stream = TcpStream::connect(env.target().address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
        assert!(start.elapsed() < SOON, "{bytes:?}");
    }
    eventually("both are counted", async || {
        env.metric_sum("handshakes_total", "timeout").await >= 2
    })
    .await;
}

#[tokio::test]
async fn a_head_byte_by_byte() {
    let env = with_short_timeouts("").await;
    let mut connection = env.target().connect().await;
    let start = Instant::now();
    let slow = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: 0123456789\r\n\r\n";
    tokio::select! {
        () = drip(&mut connection, slow.as_bytes()) => {}
        () = tokio::time::sleep(Duration::from_millis(1_800)) => {}
    }
    let response = connection.response().await.unwrap();
    assert_eq!(response.status, 408);
    assert!(
        response.head.contains("x-gateway-error: request-timeout"),
        "{response:?}"
    );
    connection.time_until_closed().await;
    assert!(start.elapsed() < SOON);
    eventually("it is counted", async || {
        env.metric_sum("connections_ended", "header_timeout").await == 1
    })
    .await;
}

#[tokio::test]
async fn a_connection_without_a_request() {
    let env = with_short_timeouts("").await;
    let mut silent = env.target().connect().await;
    let mut idle = env.target().connect().await;
    idle.send(&valid_request("1-1")).await;
    assert_eq!(idle.response().await.unwrap().status, 200);
    let mut http2 = env.target().connect_http2(&[]).await;
    let (silent, idle, http2) = tokio::join!(
        silent.time_until_closed(),
        idle.time_until_closed(),
        http2.time_until_closed()
    );
    assert!(
        silent < SOON && idle < SOON && http2 < SOON,
        "{silent:?} {idle:?} {http2:?}"
    );
    // A connection is counted when its task ends, a moment after the client sees it closed.
    eventually("each end is counted with its reason", async || {
        env.metric_sum("connections_ended", "\"idle\"").await == 1
            && env.metric_sum("connections_ended", "header_timeout").await == 2
    })
    .await;
}

#[tokio::test]
async fn a_body_byte_by_byte() {
    let env = with_short_timeouts("").await;
    let mut connection = env.target().connect().await;
    let request = valid_request("1-1");
    let head = request.windows(4).position(|at| at == b"\r\n\r\n").unwrap() + 4;
    connection.send(&request[..head]).await;
    let start = Instant::now();
    tokio::select! {
        () = drip(&mut connection, &request[head..]) => {}
        () = tokio::time::sleep(Duration::from_millis(1_800)) => {}
    }
    let response = connection.response().await.unwrap();
    assert_eq!(response.status, 408, "{response:?}");
    connection.time_until_closed().await;
    assert!(start.elapsed() < SOON);
    env.assert_no_upstream_request();
}

#[tokio::test]
async fn an_http2_body_byte_by_byte() {
    let env = with_short_timeouts("").await;
    let mut connection = env.target().connect_http2(&[]).await;
    connection
        .send(&frame(HEADERS, END_HEADERS, 1, &unsigned("POST")))
        .await;
    let start = Instant::now();
    let (_, _) = connection.frame(HEADERS, 1).await.expect("a response");
    assert!(start.elapsed() < SOON);
}

#[tokio::test]
async fn an_http2_header_block_without_end() {
    let env = with_short_timeouts("").await;
    let mut connection = env.target().connect_http2(&[]).await;
    connection
        .send(&frame(HEADERS, 0, 1, &unsigned("GET")))
        .await;
    let start = Instant::now();
    // With more frames h2 would close the connection before the timeout.
    for _ in 0..4 {
        connection
            .send(&frame(CONTINUATION, 0, 1, b"\0\x01x\x01y"))
            .await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    connection.time_until_closed().await;
    assert!(start.elapsed() < SOON);
    eventually("it is counted", async || {
        env.metric_sum("connections_ended", "header_timeout").await == 1
    })
    .await;
}

fn download() -> Vec<u8> {
    let body = br#"{"request":{"version":"2.0"},"msgBody":{"fileName":"size-67108864.wav"}}"#;
    post("/CCFS/resource/ccfs/downloadRecord", body)
}

#[tokio::test]
async fn a_reader_that_does_not_read() {
    let env = with_short_timeouts("").await;
    let mut connection = env.target().connect().await;
    connection.send(&download()).await;
    eventually("it is cut off", async || {
        env.metric_sum("connections_ended", "slow_reader").await == 1
    })
    .await;
    // The response is cut in the middle, so that no client mistakes it for complete.
    assert!(connection.response().await.is_none());
    assert_healthy(&env).await;
}

#[tokio::test]
async fn http2_without_a_window() {
    let env = with_short_timeouts("").await;
    let mut connection = env.target().connect_http2(&[(4, 0)]).await;
    for stream in [1, 3, 5] {
        connection
            .send(&frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                stream,
                &unsigned("POST"),
            ))
            .await;
    }
    let start = Instant::now();
    assert!(connection.frame(RST_STREAM, 5).await.is_some());
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert!(connection.frame(GOAWAY, 0).await.is_some());
    connection.time_until_closed().await;
    assert!(
        start.elapsed() < Duration::from_secs(6),
        "{:?}",
        start.elapsed()
    );
    assert_healthy(&env).await;
}

#[tokio::test]
async fn http2_pings_without_acknowledgement() {
    let env = with_short_timeouts("http2_ping_interval = \"500ms\"").await;
    let mut connection = env.target().connect_http2(&[]).await;
    connection
        .send(&frame(HEADERS, END_HEADERS, 1, &unsigned("POST")))
        .await;
    let start = Instant::now();
    connection.time_until_closed().await;
    assert!(start.elapsed() < SOON);
}

/// Opens `count` connections, each with the first bytes of a request head, and sends requests
/// beside them.
async fn slow_connections(count: usize) {
    let setup = Setup {
        tables: format!("[limits]\nmax_connections_per_address = {}", count + 100),
        urls: UrlStyle::default(),
        ..Setup::default()
    };
    let env: TestEnv = setup.start().await;
    let target = env.target();
    let mut connections = Vec::new();
    for number in 0..count {
        if number % 2 == 0 {
            let mut connection = target.connect().await;
            connection.send(b"POST /CCFS/").await;
            connections.push(Ok(connection));
        } else {
            connections.push(Err(TcpStream::connect(target.address).await.unwrap()));
        }
    }
    let bystander = Bystander::start(&env);
    bystander
        .assert_served(&format!("{count} slow connections"))
        .await;
    assert_healthy(&env).await;
}

#[tokio::test]
async fn slow_connections_do_not_stop_new_ones() {
    slow_connections(300).await;
}

#[tokio::test]
#[ignore = "needs 5,000 descriptors and some seconds"]
async fn two_thousand_slow_connections_do_not_stop_new_ones() {
    slow_connections(2_000).await;
}

#[tokio::test]
async fn connections_over_the_limit_evict_the_longest_idle_one() {
    let setup = Setup {
        tables: "[limits]\nmax_connections_per_address = 20".into(),
        ..Setup::default()
    };
    let env = setup.start().await;
    let target = env.target();
    let mut connections = Vec::new();
    for _ in 0..60 {
        connections.push(target.connect().await);
    }
    connections[0].time_until_closed().await;
    let bystander = Bystander::start(&env);
    bystander.assert_served("reached connection limits").await;
    eventually("they are counted", async || {
        env.metric_sum("connections_ended", "cap").await >= 40
    })
    .await;
}
