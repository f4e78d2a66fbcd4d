//! Clients that are slow at everything: each ends at its deadline, however busy it looks.

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
use crate::support::{Setup, TestEnv};

/// After a deadline of one second, an answer and a second of lingering at most.
const SOON: Duration = Duration::from_millis(3_500);

/// Sends one byte every 100 ms until the gateway has had enough.
async fn drip(line: &mut RawConnection, bytes: &[u8]) {
    for byte in bytes.chunks(1) {
        if !line.send(byte).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_come() {
    let world = with_short_timeouts("").await;
    for bytes in [&b""[..], b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"] {
        let start = Instant::now();
        let mut stream = TcpStream::connect(world.target().address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
        assert!(start.elapsed() < SOON, "{bytes:?}");
    }
    assert!(world.metric_sum("handshakes_total", "timeout").await >= 2);
}

#[tokio::test]
async fn a_head_byte_by_byte() {
    let world = with_short_timeouts("").await;
    let mut line = world.target().connect().await;
    let start = Instant::now();
    let slow = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: 0123456789\r\n\r\n";
    tokio::select! {
        () = drip(&mut line, slow.as_bytes()) => {}
        () = tokio::time::sleep(Duration::from_millis(1_800)) => {}
    }
    let reply = line.response().await.unwrap();
    assert_eq!(reply.status, 408);
    assert!(
        reply.head.contains("x-gateway-error: request-timeout"),
        "{reply:?}"
    );
    line.time_until_closed().await;
    assert!(start.elapsed() < SOON);
    assert_eq!(
        world
            .metric_sum("connections_ended", "header_timeout")
            .await,
        1
    );
}

#[tokio::test]
async fn nothing_is_asked() {
    let world = with_short_timeouts("").await;
    let mut silent = world.target().connect().await;
    let mut idle = world.target().connect().await;
    idle.send(&valid_request("1-1")).await;
    assert_eq!(idle.response().await.unwrap().status, 200);
    let mut http2 = world.target().connect_http2(&[]).await;
    let (silent, idle, http2) = tokio::join!(
        silent.time_until_closed(),
        idle.time_until_closed(),
        http2.time_until_closed()
    );
    assert!(
        silent < SOON && idle < SOON && http2 < SOON,
        "{silent:?} {idle:?} {http2:?}"
    );
    assert_eq!(world.metric_sum("connections_ended", "\"idle\"").await, 1);
    assert_eq!(
        world
            .metric_sum("connections_ended", "header_timeout")
            .await,
        2
    );
}

#[tokio::test]
async fn a_body_byte_by_byte() {
    let world = with_short_timeouts("").await;
    let mut line = world.target().connect().await;
    let request = valid_request("1-1");
    let head = request.windows(4).position(|at| at == b"\r\n\r\n").unwrap() + 4;
    line.send(&request[..head]).await;
    let start = Instant::now();
    tokio::select! {
        () = drip(&mut line, &request[head..]) => {}
        () = tokio::time::sleep(Duration::from_millis(1_800)) => {}
    }
    let reply = line.response().await.unwrap();
    assert_eq!(reply.status, 408, "{reply:?}");
    line.time_until_closed().await;
    assert!(start.elapsed() < SOON);
    world.assert_no_upstream_request();
}

#[tokio::test]
async fn an_http2_body_byte_by_byte() {
    let world = with_short_timeouts("").await;
    let mut line = world.target().connect_http2(&[]).await;
    line.send(&frame(HEADERS, END_HEADERS, 1, &unsigned("POST")))
        .await;
    let start = Instant::now();
    let (_, _) = line.frame(HEADERS, 1).await.expect("an answer");
    assert!(start.elapsed() < SOON);
}

#[tokio::test]
async fn an_http2_header_block_without_end() {
    let world = with_short_timeouts("").await;
    let mut line = world.target().connect_http2(&[]).await;
    line.send(&frame(HEADERS, 0, 1, &unsigned("GET"))).await;
    let start = Instant::now();
    // With more frames h2 would lose patience before the deadline.
    for _ in 0..4 {
        line.send(&frame(CONTINUATION, 0, 1, b"\0\x01x\x01y")).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    line.time_until_closed().await;
    assert!(start.elapsed() < SOON);
    assert_eq!(
        world
            .metric_sum("connections_ended", "header_timeout")
            .await,
        1
    );
}

fn download() -> Vec<u8> {
    let body = br#"{"request":{"version":"2.0"},"msgBody":{"fileName":"size-67108864.wav"}}"#;
    post("/CCFS/resource/ccfs/downloadRecord", body)
}

#[tokio::test]
async fn a_reader_that_does_not_read() {
    let world = with_short_timeouts("").await;
    let mut line = world.target().connect().await;
    line.send(&download()).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(
        world.metric_sum("connections_ended", "slow_reader").await,
        1
    );
    // What was on the way is cut off in the middle: nobody takes it for the whole.
    assert!(line.response().await.is_none());
    assert_healthy(&world).await;
}

#[tokio::test]
async fn http2_without_a_window() {
    let world = with_short_timeouts("").await;
    let mut line = world.target().connect_http2(&[(4, 0)]).await;
    for stream in [1, 3, 5] {
        line.send(&frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            stream,
            &unsigned("POST"),
        ))
        .await;
    }
    let start = Instant::now();
    assert!(line.frame(RST_STREAM, 5).await.is_some());
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert!(line.frame(GOAWAY, 0).await.is_some());
    line.time_until_closed().await;
    assert!(
        start.elapsed() < Duration::from_secs(6),
        "{:?}",
        start.elapsed()
    );
    assert_healthy(&world).await;
}

#[tokio::test]
async fn http2_pings_nobody_answers() {
    let world = with_short_timeouts("http2_ping_interval = \"500ms\"").await;
    let mut line = world.target().connect_http2(&[]).await;
    line.send(&frame(HEADERS, END_HEADERS, 1, &unsigned("POST")))
        .await;
    let start = Instant::now();
    line.time_until_closed().await;
    assert!(start.elapsed() < SOON);
}

/// Opens so many connections, each with the first bytes of a head, and asks beside them.
async fn slow_connections(count: usize) {
    let setup = Setup {
        tables: format!("[limits]\nmax_connections_per_address = {}", count + 100),
        urls: UrlStyle::default(),
        ..Setup::default()
    };
    let world: TestEnv = setup.start().await;
    let target = world.target();
    let mut lines = Vec::new();
    for number in 0..count {
        if number % 2 == 0 {
            let mut line = target.connect().await;
            line.send(b"POST /CCFS/").await;
            lines.push(Ok(line));
        } else {
            lines.push(Err(TcpStream::connect(target.address).await.unwrap()));
        }
    }
    let bystander = Bystander::start(&world);
    tokio::time::sleep(Duration::from_millis(500)).await;
    bystander
        .assert_served(&format!("{count} slow connections"))
        .await;
    assert_healthy(&world).await;
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
async fn connections_over_a_cap_push_out_the_longest_idle_one() {
    let setup = Setup {
        tables: "[limits]\nmax_connections_per_address = 20".into(),
        ..Setup::default()
    };
    let world = setup.start().await;
    let target = world.target();
    let mut lines = Vec::new();
    for _ in 0..60 {
        lines.push(target.connect().await);
    }
    lines[0].time_until_closed().await;
    let bystander = Bystander::start(&world);
    bystander.assert_served("a full house").await;
    assert!(world.metric_sum("connections_ended", "cap").await >= 40);
}
