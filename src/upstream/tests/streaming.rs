//! Streaming responses.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use http_body::Body;
use http_body_util::BodyExt;

use super::test_server::{
    Behavior, FLOW_CONTROL_BODY, TestServer, cluster, json_response, settings,
};
use super::*;
use crate::message::BodyError;

#[tokio::test]
async fn a_large_response_streams_and_its_connection_is_reused() {
    const LENGTH: usize = 64 << 20;
    let node = TestServer::start(|_| Behavior::Flood(LENGTH)).await;
    let (upstream, cluster) = (TestUpstream::new(), cluster(&[&node]));
    for index in 0..2 {
        let reply = upstream
            .send_streaming(&request_to(DOWNLOAD, &cluster))
            .await
            .unwrap();
        assert_eq!(reply.headers["content-length"], LENGTH.to_string());
        let (mut body, mut length) = (reply.body, 0);
        let busy =
            |cluster: &Cluster| cluster.node_statuses(Instant::now().into_std())[0].in_flight;
        assert_eq!(busy(&cluster), 1);
        while let Some(frame) = body.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            assert!(piece.len() <= 1 << 20, "pieces stay small");
            length += piece.len();
        }
        assert_eq!((length, busy(&cluster)), (LENGTH, 0));
        assert_eq!(node.received().last().unwrap().index, index);
    }
}

#[tokio::test]
async fn a_204_has_no_content_length() {
    let node =
        TestServer::responding(b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n".to_vec());
    let (node, upstream) = (node.await, TestUpstream::new());
    let request = request_to(DOWNLOAD, &cluster(&[&node]));
    let response = upstream.send_streaming(&request).await.unwrap();
    assert_eq!(response.status, 204);
    assert_eq!(response.headers.get("content-length"), None);
}

#[tokio::test]
async fn a_connection_is_not_reused_after_a_response_to_head() {
    let node = TestServer::responding(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n".to_vec());
    let (node, upstream) = (node.await, TestUpstream::new());
    let mut request = request_to(DOWNLOAD, &cluster(&[&node]));
    request.method = Method::HEAD;
    for _ in 0..2 {
        let response = upstream.send_streaming(&request).await.unwrap();
        assert_eq!(response.headers["content-length"], "5");
        assert!(response.body.collect().await.unwrap().to_bytes().is_empty());
        assert_eq!(node.received().last().unwrap().index, 0, "a new connection");
    }
}

#[tokio::test]
async fn a_dropped_response_body_closes_the_connection() {
    let node = TestServer::start(|_| Behavior::Flood(1 << 30)).await;
    let (upstream, cluster) = (TestUpstream::new(), cluster(&[&node]));
    let reply = upstream
        .send_streaming(&request_to(DOWNLOAD, &cluster))
        .await
        .unwrap();
    drop(reply);
    eventually("the node detects the close", || {
        node.open_connections() == 0
    })
    .await;
    let status = &cluster.node_statuses(Instant::now().into_std())[0];
    assert_eq!((status.in_flight, status.failures), (0, 0));
}

#[tokio::test]
async fn a_response_that_is_cut_off_ends_with_an_error() {
    for act in [
        Behavior::Cut(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".to_vec()),
        Behavior::RespondAndClose(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".to_vec()),
        Behavior::Cut(b"HTTP/1.1 200 OK\r\n\r\nabc".to_vec()),
        Behavior::Respond(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz".to_vec(),
        ),
    ] {
        let node = TestServer::start(move |_| act.clone()).await;
        let (upstream, cluster) = (TestUpstream::new(), cluster(&[&node]));
        // If the end arrives with the beginning, the attempt has failed.
        match upstream
            .send_streaming(&request_to(DOWNLOAD, &cluster))
            .await
        {
            Ok(reply) => {
                let error = reply.body.collect().await.unwrap_err();
                assert_eq!(error, BodyError::ConnectionClosed);
            }
            Err(error) => assert!(error.request_sent),
        }
        assert_eq!(
            cluster.node_statuses(Instant::now().into_std())[0].failures,
            1
        );
    }
    // Without a length, a clean close ends the response.
    let node =
        TestServer::start(|_| Behavior::RespondAndClose(b"HTTP/1.1 200 OK\r\n\r\nabc".to_vec()))
            .await;
    let (upstream, cluster) = (TestUpstream::new(), cluster(&[&node]));
    let reply = upstream
        .send_streaming(&request_to(DOWNLOAD, &cluster))
        .await
        .unwrap();
    assert_eq!(reply.body.collect().await.unwrap().to_bytes(), "abc");
}

#[tokio::test]
async fn before_a_body_fails_what_has_arrived_can_be_flushed() {
    let part = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".to_vec();
    let pause = Duration::from_millis(50);
    let node =
        TestServer::start(move |_| Behavior::RespondAndCloseLater(part.clone(), pause)).await;
    let (upstream, cluster) = (TestUpstream::new(), cluster(&[&node]));
    let request = request_to(DOWNLOAD, &cluster);
    let mut body = upstream.send_streaming(&request).await.unwrap().body;
    let first = body.frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "abc");

    let mut cx = Context::from_waker(Waker::noop());
    eventually("the failure is recorded", || {
        assert!(Pin::new(&mut body).poll_frame(&mut cx).is_pending());
        cluster.node_statuses(Instant::now().into_std())[0].failures == 1
    })
    .await;
    assert!(!body.is_end_stream());
    let Poll::Ready(Some(Err(error))) = Pin::new(&mut body).poll_frame(&mut cx) else {
        panic!("the error follows");
    };
    assert_eq!(error, BodyError::ConnectionClosed);
}

#[tokio::test]
async fn the_timeout_holds_until_the_first_byte_of_the_body() {
    let stalling = TestServer::start(|_| {
        Behavior::Stall(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n".to_vec())
    })
    .await;
    let healthy = TestServer::responding(json_response("200 OK", "{}")).await;
    let mut settings = settings(&[stalling.address, healthy.address]);
    settings.timeouts.per_try = Duration::from_millis(60);
    let cluster = Cluster::new(settings);
    let upstream = TestUpstream::new();
    let reply = upstream
        .send_streaming(&request_to(DOWNLOAD, &cluster))
        .await
        .unwrap();
    assert_eq!(reply.attempts.count, 2);
}

#[tokio::test]
async fn flow_control_in_json_is_seen_and_everything_else_passes() {
    let busy = json_response("200 OK", &FLOW_CONTROL_BODY.replace("0300009", "0300008"));
    let busy = TestServer::responding(busy).await;
    let other =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n\
        12\r\n{\"resultCode\":\"1\"}\r\n0\r\n\r\n";
    let healthy = TestServer::responding(other.to_vec()).await;
    let (upstream, cluster) = (TestUpstream::new(), cluster(&[&busy, &healthy]));
    let reply = upstream
        .send_streaming(&request_to(DOWNLOAD, &cluster))
        .await
        .unwrap();
    assert_eq!(reply.attempts.count, 2);
    let body = reply.body.collect().await.unwrap().to_bytes();
    assert_eq!(body, r#"{"resultCode":"1"}"#);
}

#[tokio::test]
async fn flow_control_is_seen_whatever_its_content_type() {
    let busy = FLOW_CONTROL_BODY.replace("0300009", "0300008");
    let labelled = |content_type: &str, body: &str| {
        let text = String::from_utf8(json_response("200 OK", body)).unwrap();
        text.replace("application/json;charset=UTF-8", content_type)
            .into_bytes()
    };
    for content_type in ["application/octet-stream", "audio/wav", "text/plain", ""] {
        let node = TestServer::responding(labelled(content_type, &busy)).await;
        let healthy = TestServer::responding(labelled("audio/wav", "RIFF")).await;
        let (upstream, cluster) = (TestUpstream::new(), cluster(&[&node, &healthy]));
        for _ in 0..2 {
            let reply = upstream
                .send_streaming(&request_to(DOWNLOAD, &cluster))
                .await;
            let reply = reply.unwrap();
            assert_eq!(reply.body.collect().await.unwrap().to_bytes(), "RIFF");
        }
        assert!(node.count() > 0);
        assert_eq!(
            cluster.node_statuses(Instant::now().into_std())[0].failures,
            0
        );
    }
    // Files that begin like an envelope pass, small or large.
    for body in ["{".to_owned(), format!("{{{}", "x".repeat(200_000))] {
        let node = TestServer::responding(labelled("audio/wav", &body)).await;
        let cluster = cluster(&[&node]);
        let request = request_to(DOWNLOAD, &cluster);
        let reply = TestUpstream::new().send_streaming(&request).await.unwrap();
        let received = reply.body.collect().await.unwrap().to_bytes();
        assert_eq!(received, body);
    }
}
