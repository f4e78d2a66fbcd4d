//! Answers before the end of a request body: what is left of it never becomes the next request.

use crate::edge::{hurried, legal};
use crate::hostile::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, block, frame, unsigned,
};
use crate::support::{SHANGHAI, Setup, World, eventually};

const SMUGGLED: &str = "POST /smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n";

/// A body that is itself a row of requests, `size` bytes in all.
fn trap(size: usize) -> String {
    let mut body = SMUGGLED.repeat(size / SMUGGLED.len() + 1);
    body.truncate(size);
    body
}

async fn strict() -> World {
    let setup = Setup {
        listener: "unknown_paths = \"reject\"".into(),
        ..Setup::default()
    };
    setup.start().await
}

#[tokio::test]
async fn a_small_rest_is_read_and_the_connection_lives() {
    let world = strict().await;
    let body = trap(4_000);
    let length = body.len();
    for (head, status) in [
        (
            format!("POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n"),
            404,
        ),
        (
            format!(
                "PUT /CCFS/resource/ccfs/getRecordFileUrlFromObs HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n"
            ),
            405,
        ),
        (
            format!(
                "POST /CCFS/resource/ccfs/getRecordFileUrlFromObs HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n"
            ),
            401,
        ),
    ] {
        let mut line = world.target().connect().await;
        line.send(&[head.as_bytes(), body.as_bytes(), &legal("1-1")].concat())
            .await;
        assert_eq!(line.reply().await.unwrap().status, status);
        let next = line.reply().await.unwrap();
        assert_eq!(
            (next.status, next.head.contains("cache-status")),
            (200, true),
            "{next:?}"
        );
        // Nothing else is answered.
        line.send(&legal("1-1")).await;
        assert!(line.reply().await.unwrap().head.contains("cache-status"));
    }
}

#[tokio::test]
async fn a_large_rest_closes_the_connection() {
    let world = strict().await;
    let body = trap(300_000);
    for (path, status) in [
        ("/nowhere", 404),
        ("/CCFS/resource/ccfs/getRecordFileUrlFromObs", 413),
    ] {
        for framing in ["Content-Length: 300000", "Transfer-Encoding: chunked"] {
            let body = match framing {
                "Content-Length: 300000" => body.clone(),
                _ => format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
            };
            // Without a length, who it is comes before how much.
            let status = if status == 413 && framing.starts_with('T') {
                401
            } else {
                status
            };
            let mut line = world.target().connect().await;
            line.send(
                format!("POST {path} HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n{body}{SMUGGLED}")
                    .as_bytes(),
            )
            .await;
            let all = line.rest().await.expect("the connection closes");
            let all = String::from_utf8_lossy(&all).to_lowercase();
            assert!(
                all.starts_with(&format!("http/1.1 {status} ")),
                "{path} {framing}: {all}"
            );
            assert_eq!(
                all.matches("\r\ndate: ").count(),
                1,
                "{path} {framing}: {all}"
            );
        }
    }
}

#[tokio::test]
async fn a_rest_that_does_not_come_closes_the_connection() {
    let world = hurried("").await;
    let mut line = world.target().connect().await;
    line.send(
        b"POST /CCFS/resource/ccfs/playVoice HTTP/1.1\r\nHost: h\r\nContent-Length: 4000\r\n\r\nPO",
    )
    .await;
    assert_eq!(line.reply().await.unwrap().status, 405);
    line.ends().await;
}

#[tokio::test]
async fn who_waits_for_100_continue_and_is_refused_is_not_listened_to() {
    let world = strict().await;
    let mut line = world.target().connect().await;
    let head =
        "POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: 60\r\nExpect: 100-continue\r\n\r\n";
    line.send(head.as_bytes()).await;
    let reply = line.reply().await.unwrap();
    assert_eq!(reply.status, 404);
    assert!(reply.head.contains("connection: close"), "{reply:?}");
    line.send(SMUGGLED.as_bytes()).await;
    assert_eq!(line.rest().await, Some(Vec::new()));
}

#[tokio::test]
async fn an_http2_request_that_is_given_up_in_its_body_ends_alone() {
    let world = hurried("http2_max_resets = 2").await;
    let mut line = world.target().connect_http2(&[]).await;
    // Who he is can be told only when the whole body is here.
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    let claim = format!("auth-v2/{SHANGHAI}/{now}/host/{}", "0".repeat(64));
    let head = block(&[
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/CCFS/resource/ccfs/getRecordFileUrlFromObs"),
        (":authority", "127.0.0.1"),
        ("authorization", &claim),
    ]);
    let ask = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &unsigned("POST"));
    for (count, stream) in [(1, 1), (2, 5), (3, 9)] {
        line.send(&frame(HEADERS, END_HEADERS, stream, &head)).await;
        line.send(&frame(DATA, 0, stream, b"{")).await;
        // The one before it is at work when this one is answered.
        line.send(&ask(stream + 2)).await;
        assert!(line.frame(HEADERS, stream + 2).await.is_some());
        line.send(&frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()))
            .await;
        eventually("it is noticed", async || {
            world.counted("requests_total", "client_gone").await == count
        })
        .await;
    }
    // That was once too often.
    assert!(line.frame(GOAWAY, 0).await.is_some());
}
