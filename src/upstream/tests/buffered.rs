//! JSON responses of one node: which are valid, and which connection is used.

use std::task::Poll;

use http::StatusCode;

use super::test_server::{
    Behavior, OK_BODY, TestServer, cluster, json_response, ok_response, settings,
};
use super::*;

#[tokio::test]
async fn a_response_passes_without_its_framing() {
    let response =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Own: 1\r\nKeep-Alive: 5\r\n\
                  Connection: keep-alive, x-hop\r\nX-Hop: 1\r\nX-Gateway-Error: no\r\n\
                  Transfer-Encoding: chunked\r\n\r\n"
            .to_owned()
            + &format!("{:x}\r\n{OK_BODY}\r\n0\r\n\r\n", OK_BODY.len());
    let node = TestServer::responding(response.into_bytes()).await;
    let upstream = TestUpstream::new();
    let reply = upstream
        .send_buffered(&request_to(QUERY, &cluster(&[&node])))
        .await;
    let reply = reply.unwrap();
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.body, OK_BODY);
    assert_eq!(reply.parsed.unwrap().result_code.as_deref(), Some("0"));
    let names: Vec<_> = reply.headers.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["content-type", "x-own"]);
    assert_eq!(reply.attempts.count, 1);
    assert_eq!(*reply.attempts.node.unwrap(), *node.address.to_string());
    assert_eq!(upstream.totals().get(Attempt::Ok), 1);
}

#[tokio::test]
async fn a_connection_is_reused() {
    let node = TestServer::responding(ok_response()).await;
    let (upstream, cluster) = (TestUpstream::new(), cluster(&[&node]));
    for name in [QUERY, QUERY, JOB, JOB] {
        upstream
            .send_buffered(&request_to(name, &cluster))
            .await
            .unwrap();
    }
    assert_eq!(node.received().last().unwrap().index, 3);
    assert_eq!(
        cluster.node_statuses(Instant::now().into_std())[0].in_flight,
        0
    );
}

#[tokio::test]
async fn a_connection_with_surplus_bytes_is_never_reused() {
    let twice = [
        ok_response(),
        json_response("200 OK", r#"{"resultCode":"evil"}"#),
    ]
    .concat();
    let node = TestServer::responding(twice).await;
    let (upstream, cluster) = (TestUpstream::new(), cluster(&[&node]));
    for _ in 0..5 {
        let reply = upstream
            .send_buffered(&request_to(QUERY, &cluster))
            .await
            .unwrap();
        assert_eq!(reply.body, OK_BODY);
    }
    assert!(node.received().iter().all(|seen| seen.index == 0));
}

#[tokio::test]
async fn a_closed_keep_alive_connection_is_retried_on_a_new_one() {
    for closes in [
        Behavior::Cut(Vec::new()),
        Behavior::RespondAndClose(Vec::new()),
    ] {
        // The second request of a connection finds it closed.
        let node = TestServer::start(move |seen| match seen.index {
            0 => Behavior::Respond(ok_response()),
            _ => closes.clone(),
        })
        .await;
        let (upstream, cluster) = (TestUpstream::new(), cluster(&[&node]));
        for _ in 0..6 {
            let reply = upstream
                .send_buffered(&request_to(QUERY, &cluster))
                .await
                .unwrap();
            assert_eq!(reply.attempts.count, 1);
        }
        assert_eq!(upstream.totals().get(RetryReason::Reconnected), 5);
        assert_eq!(
            cluster.node_statuses(Instant::now().into_std())[0].failures,
            0
        );
    }
}

#[tokio::test]
async fn a_job_is_not_sent_twice_over_a_stale_connection() {
    let node = TestServer::start(|seen| match seen.index {
        0 => Behavior::Respond(ok_response()),
        _ => Behavior::Cut(Vec::new()),
    })
    .await;
    let (upstream, cluster) = (TestUpstream::new(), cluster(&[&node]));
    upstream
        .send_buffered(&request_to(JOB, &cluster))
        .await
        .unwrap();
    let failure = upstream
        .send_buffered(&request_to(JOB, &cluster))
        .await
        .unwrap_err();
    assert_eq!(
        (failure.kind, failure.request_sent),
        (UpstreamErrorKind::ConnectionClosed, true)
    );
    assert_eq!(node.count(), 2);
}

#[test]
fn a_job_is_never_sent_on_a_closed_connection() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    // Runs on another thread, so that it closes while this runtime does not poll.
    let (sender, receiver) = std::sync::mpsc::channel();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        runtime().block_on(async {
            let pause = Duration::from_millis(20);
            let node =
                TestServer::start(move |_| Behavior::RespondAndCloseLater(ok_response(), pause))
                    .await;
            sender.send(node.clone()).unwrap();
            let _ = ended.await;
        });
    });
    let node = receiver.recv().unwrap();
    runtime().block_on(async {
        let (upstream, cluster) = (TestUpstream::new(), cluster(&[&node]));
        for _ in 0..5 {
            upstream
                .send_buffered(&request_to(JOB, &cluster))
                .await
                .unwrap();
            while node.open_connections() > 0 {
                std::thread::yield_now();
            }
        }
    });
    assert_eq!(node.count(), 5);
    drop(end);
    thread.join().unwrap();
}

#[tokio::test]
async fn an_invalid_response_is_a_failure() {
    for (what, act, cause) in invalid_responses() {
        let node = TestServer::start(move |_| act.clone()).await;
        let upstream = TestUpstream::new();
        let result = upstream
            .send_buffered(&request_to(QUERY, &cluster(&[&node])))
            .await;
        let failure = result.expect_err(what);
        assert_eq!(failure.kind, cause, "{what}");
        assert!(failure.request_sent, "{what}");
        assert_eq!(failure.attempts.count, 1, "{what}");
        eventually("the connection is dropped", || node.open_connections() == 0).await;
    }
}

#[expect(clippy::too_many_lines, reason = "one table")]
fn invalid_responses() -> Vec<(&'static str, Behavior, UpstreamErrorKind)> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    vec![
        ("no JSON", Behavior::Respond(json_response("200 OK", "<html>")), UpstreamErrorKind::InvalidResponse),
        ("no object", Behavior::Respond(json_response("200 OK", "[1]")), UpstreamErrorKind::InvalidResponse),
        ("empty", Behavior::Respond(json_response("200 OK", "")), UpstreamErrorKind::InvalidResponse),
        (
            "too large",
            Behavior::Respond(json_response("200 OK", &format!("{{\"a\":\"{}\"}}", "x".repeat(70_000)))),
            UpstreamErrorKind::InvalidResponse,
        ),
        (
            "cut by length",
            Behavior::RespondAndClose(format!("{head}content-length: 99\r\n\r\n{{}}").into()),
            UpstreamErrorKind::ResponseIncomplete,
        ),
        (
            "cut JSON without a length",
            Behavior::RespondAndClose(format!("{head}\r\n{{\"resultCode\":").into()),
            UpstreamErrorKind::InvalidResponse,
        ),
        (
            "no close_notify",
            Behavior::Cut(format!("{head}\r\n{OK_BODY}").into()),
            UpstreamErrorKind::ResponseIncomplete,
        ),
        (
            "length and chunks",
            Behavior::Respond(
                format!("{head}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n")
                    .into(),
            ),
            UpstreamErrorKind::InvalidResponse,
        ),
        (
            "a list of lengths",
            Behavior::Respond(format!("{head}content-length: 2, 2\r\n\r\n{{}}").into()),
            UpstreamErrorKind::InvalidResponse,
        ),
        (
            "the same length twice",
            Behavior::Respond(format!("{head}content-length: 2\r\ncontent-length: 2\r\n\r\n{{}}").into()),
            UpstreamErrorKind::InvalidResponse,
        ),
        (
            "two lengths",
            Behavior::Respond(format!("{head}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}").into()),
            UpstreamErrorKind::InvalidResponse,
        ),
        (
            "NUL",
            Behavior::Respond(format!("{head}x: a\0b\r\ncontent-length: 2\r\n\r\n{{}}").into()),
            UpstreamErrorKind::InvalidResponse,
        ),
        ("half a head", Behavior::RespondAndClose(head.into()), UpstreamErrorKind::ResponseIncomplete),
        ("not HTTP", Behavior::Respond(b"220 mail\r\n\r\n".to_vec()), UpstreamErrorKind::InvalidResponse),
        (
            "another protocol",
            Behavior::Respond(b"HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n".to_vec()),
            UpstreamErrorKind::InvalidResponse,
        ),
    ]
}

#[tokio::test]
async fn a_response_with_many_fields_passes() {
    let response = |fields: usize| {
        let fields: String = (0..fields).map(|n| format!("x-{n}: {n}\r\n")).collect();
        format!(
            "HTTP/1.1 200 OK\r\n{fields}content-length: {}\r\n\r\n{OK_BODY}",
            OK_BODY.len()
        )
        .into_bytes()
    };
    for fields in [101, 999] {
        let node = TestServer::responding(response(fields)).await;
        let cluster = cluster(&[&node]);
        let reply = TestUpstream::new()
            .send_buffered(&request_to(QUERY, &cluster))
            .await;
        assert_eq!(reply.unwrap().headers.len(), fields);
    }
    let node = TestServer::responding(response(1000)).await;
    let cluster = cluster(&[&node]);
    let reply = TestUpstream::new()
        .send_buffered(&request_to(QUERY, &cluster))
        .await;
    let kind = reply.unwrap_err().kind;
    assert_eq!(kind, UpstreamErrorKind::InvalidResponse);
    let status = &cluster.node_statuses(Instant::now().into_std())[0];
    let reason = status.last_failure_reason.as_deref().unwrap();
    assert!(reason.contains("more than 1000 fields"), "{reason}");
}

#[tokio::test]
async fn a_408_on_a_reused_connection_is_a_stale_connection() {
    let late = || Behavior::RespondAndClose(json_response("408 Request Timeout", "late"));
    for (name, status) in [(QUERY, 200), (JOB, 408)] {
        let node = TestServer::start(move |received| match received.index {
            0 => Behavior::Respond(ok_response()),
            _ => late(),
        })
        .await;
        let (upstream, cluster) = (TestUpstream::new(), cluster(&[&node]));
        for expected in [200, status] {
            let reply = upstream.send_buffered(&request_to(name, &cluster)).await;
            let reply = reply.unwrap();
            assert_eq!((reply.status.as_u16(), reply.attempts.count), (expected, 1));
        }
        let node = &cluster.node_statuses(Instant::now().into_std())[0];
        assert_eq!(node.failures, 0);
    }
    // A new connection cannot be stale.
    let node = TestServer::start(move |_| late()).await;
    let cluster = cluster(&[&node]);
    let reply = TestUpstream::new()
        .send_buffered(&request_to(QUERY, &cluster))
        .await;
    assert_eq!(reply.unwrap().status.as_u16(), 408);
    assert_eq!(node.count(), 1);
}

#[tokio::test]
async fn an_early_response_to_an_upload_passes() {
    const UPLOAD: usize = 6 << 20;
    let early = json_response("413 Content Too Large", "too large");
    for (read, name) in [(0, JOB), (2 << 20, JOB), (0, DOWNLOAD), (2 << 20, DOWNLOAD)] {
        let behavior = Behavior::Cut(early.clone());
        let node = TestServer::start(move |_| behavior.clone()).await;
        let mut settings = settings(&[node.address]);
        settings.ejection.consecutive_failures = 3;
        let (upstream, cluster) = (TestUpstream::new(), Cluster::new(settings));
        let mut request = request_to(name, &cluster);
        let headers = Arc::make_mut(&mut request.headers);
        headers.insert("x-read", HeaderValue::from(read));
        request.body = Bytes::from(vec![b'x'; UPLOAD]);
        for _ in 0..5 {
            let reply = upstream.send_streaming(&request).await.unwrap();
            assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
            assert_eq!(reply.attempts.count, 1);
            let body = reply.body.collect().await.unwrap();
            assert_eq!(body.to_bytes(), "too large");
        }
        let received = node.received();
        assert!(received.iter().all(|received| received.index == 0));
        let status = &cluster.node_statuses(Instant::now().into_std())[0];
        assert_eq!((status.failures, status.state.as_str()), (0, "up"));
    }
}

#[tokio::test]
async fn other_statuses_pass_unchanged() {
    for (status, body) in [
        ("401 Unauthorized", "<html>"),
        ("500 Oops", ""),
        ("204 No", ""),
    ] {
        let node = TestServer::responding(json_response(status, body)).await;
        let upstream = TestUpstream::new();
        let reply = upstream
            .send_buffered(&request_to(QUERY, &cluster(&[&node])))
            .await;
        let reply = reply.unwrap();
        assert_eq!(reply.status.as_str(), &status[..3]);
        assert_eq!(reply.body, body);
        assert!(reply.parsed.is_none());
    }
}

#[tokio::test]
async fn a_dropped_request_releases_everything() {
    let node = TestServer::start(|_| Behavior::Hang).await;
    let (upstream, cluster) = (TestUpstream::new(), cluster(&[&node]));
    let request = request_to(QUERY, &cluster);
    {
        let mut waiting = std::pin::pin!(upstream.send_buffered(&request));
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("it hangs"),
            () = eventually("the node has it", || node.count() == 1) => {}
        }
    }
    let status = &cluster.node_statuses(Instant::now().into_std())[0];
    assert_eq!(
        (status.in_flight, status.connections, status.failures),
        (0, 0, 0)
    );
    assert_eq!(upstream.totals().get(Attempt::Cancelled), 1);
}

#[tokio::test]
async fn the_connection_limit_holds_over_all_workers() {
    let node = TestServer::responding(ok_response()).await;
    let mut settings = settings(&[node.address]);
    settings.pool.max_connections = 2;
    let cluster = Cluster::new(settings);
    let workers = [
        TestUpstream::new(),
        TestUpstream::new(),
        TestUpstream::new(),
    ];
    for worker in workers.iter().cycle().take(9) {
        worker
            .send_buffered(&request_to(QUERY, &cluster))
            .await
            .unwrap();
        assert!(cluster.node_statuses(Instant::now().into_std())[0].connections <= 2);
    }
    eventually("the third is closed", || node.open_connections() <= 2).await;
}

#[tokio::test]
async fn a_node_at_its_connection_limit_gets_no_request() {
    let node = TestServer::start(|_| Behavior::Hang).await;
    let mut settings = settings(&[node.address]);
    settings.pool.max_connections = 1;
    let cluster = Cluster::new(settings);
    let (upstream, request) = (TestUpstream::new(), request_to(QUERY, &cluster));
    let mut waiting = std::pin::pin!(upstream.send_buffered(&request));
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("it hangs"),
        () = eventually("the node has it", || node.count() == 1) => {}
    }
    let failure = upstream.send_buffered(&request).await.unwrap_err();
    assert_eq!(
        (failure.kind, failure.request_sent),
        (UpstreamErrorKind::NoNodeAvailable, false)
    );
}

#[tokio::test]
async fn an_idle_or_aged_connection_is_closed_with_close_notify() {
    for (idle_timeout, max_age) in [(40, 60_000), (120, 10)] {
        let node = TestServer::responding(ok_response()).await;
        let mut settings = settings(&[node.address]);
        settings.pool.idle_timeout = Duration::from_millis(idle_timeout);
        settings.pool.max_age = Duration::from_millis(max_age);
        let cluster = Cluster::new(settings);
        let upstream = TestUpstream::new();
        upstream
            .send_buffered(&request_to(QUERY, &cluster))
            .await
            .unwrap();
        eventually("it is closed", || node.open_connections() == 0).await;
        assert_eq!(node.clean_closes(), 1, "with a close_notify");
    }
}

#[tokio::test]
async fn more_idle_connections_than_allowed_are_closed() {
    let node = TestServer::responding(ok_response()).await;
    let mut settings = settings(&[node.address]);
    settings.pool.max_idle = 2;
    let cluster = Cluster::new(settings);
    let (upstream, request) = (TestUpstream::new(), request_to(QUERY, &cluster));
    let five = (0..5).map(|_| upstream.send_buffered(&request));
    let mut five: Vec<_> = five.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        five.retain_mut(|one| one.as_mut().poll(cx).is_pending());
        if five.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    eventually("three are closed", || node.open_connections() == 2).await;
}
