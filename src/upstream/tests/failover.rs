//! Several nodes, some of which fail.

use http::StatusCode;

use super::test_server::{
    Behavior, FLOW_CONTROL_BODY, OK_BODY, TestServer, cluster, json_response, ok_response,
    settings, unused_address,
};
use super::*;

/// The behaviors of a failing node, by name.
fn failing_behaviors() -> Vec<(&'static str, Behavior)> {
    vec![
        ("closes", Behavior::Cut(Vec::new())),
        ("closes in order", Behavior::RespondAndClose(Vec::new())),
        (
            "half a head",
            Behavior::Cut(b"HTTP/1.1 200 OK\r\ncontent-".to_vec()),
        ),
        (
            "half a body",
            Behavior::Cut(b"HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n{".to_vec()),
        ),
        (
            "garbage",
            Behavior::Respond(json_response("200 OK", "<html>")),
        ),
        (
            "502",
            Behavior::Respond(json_response("502 Bad Gateway", "x")),
        ),
        (
            "503",
            Behavior::Respond(json_response("503 Unavailable", "x")),
        ),
        ("504", Behavior::Respond(json_response("504 Timeout", "x"))),
        (
            "busy",
            Behavior::Respond(json_response("200 OK", FLOW_CONTROL_BODY)),
        ),
    ]
}

#[tokio::test]
async fn no_idempotent_request_fails_while_a_healthy_node_is_left() {
    for (what, act) in failing_behaviors() {
        for name in [QUERY, DOWNLOAD] {
            let faulty = TestServer::start({
                let act = act.clone();
                move |_| act.clone()
            })
            .await;
            let healthy = TestServer::responding(ok_response()).await;
            let (upstream, cluster) = (TestUpstream::new(), cluster(&[&faulty, &healthy]));
            // As a download, an invalid response and a stream that is cut off later are passed on.
            if name == DOWNLOAD && matches!(what, "garbage" | "half a body") {
                continue;
            }
            for _ in 0..10 {
                let request = request_to(name, &cluster);
                let status = if name == QUERY {
                    upstream
                        .send_buffered(&request)
                        .await
                        .map(|reply| reply.status)
                } else {
                    upstream
                        .send_streaming(&request)
                        .await
                        .map(|reply| reply.status)
                };
                assert_eq!(status.expect(what), StatusCode::OK, "{what}");
            }
            assert_eq!(healthy.count(), 10, "{what}");
            assert!(faulty.count() > 0, "{what}");
        }
    }
}

#[tokio::test]
async fn a_retry_after_a_refused_connection_is_free() {
    let healthy = TestServer::responding(ok_response()).await;
    let mut settings = settings(&[
        unused_address().await,
        unused_address().await,
        healthy.address,
    ]);
    settings.retries = crate::cluster::RetrySettings {
        budget_percent: 0,
        min_per_second: 0,
    };
    let cluster = Cluster::new(settings);
    let upstream = TestUpstream::new();
    for name in [QUERY, JOB] {
        for _ in 0..6 {
            upstream
                .send_buffered(&request_to(name, &cluster))
                .await
                .unwrap();
        }
    }
    assert_eq!(healthy.count(), 12);
    assert!(upstream.totals().get(Attempt::ConnectFailed) >= 6);
}

#[tokio::test]
async fn without_retry_budget_the_response_passes() {
    let faulty = TestServer::responding(json_response("503 Unavailable", "x")).await;
    let healthy = TestServer::responding(ok_response()).await;
    let mut settings = settings(&[faulty.address, healthy.address]);
    settings.retries = crate::cluster::RetrySettings {
        budget_percent: 0,
        min_per_second: 0,
    };
    let cluster = Cluster::new(settings);
    let upstream = TestUpstream::new();
    let reply = upstream
        .send_buffered(&request_to(QUERY, &cluster))
        .await
        .unwrap();
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(healthy.count(), 0);
    assert_eq!(upstream.totals().get(RetryOverflow::BudgetExhausted), 1);
}

#[tokio::test]
async fn the_retry_budget_pays_only_for_retries_that_are_made() {
    let limits = crate::cluster::RetrySettings {
        budget_percent: 0,
        min_per_second: 4,
    };
    type Failing = (&'static str, fn() -> Behavior);
    let failing: [Failing; 4] = [
        ("cut", || {
            Behavior::Cut(b"HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n{".to_vec())
        }),
        ("garbage", || {
            Behavior::Respond(json_response("200 OK", "<html>"))
        }),
        ("503", || {
            Behavior::Respond(json_response("503 Unavailable", "x"))
        }),
        ("flow control", || {
            Behavior::Respond(json_response("200 OK", FLOW_CONTROL_BODY))
        }),
    ];
    for (what, behavior) in failing {
        // One node: no retry is possible, so none is paid for.
        let one = TestServer::start(move |_| behavior()).await;
        let mut single = settings(&[one.address]);
        single.retries = limits.clone();
        let (upstream, cluster) = (TestUpstream::new(), Cluster::new(single));
        for _ in 0..10 {
            let _ = upstream.send_buffered(&request_to(QUERY, &cluster)).await;
        }
        let exhausted = upstream.totals().get(RetryOverflow::BudgetExhausted);
        assert_eq!((one.count(), exhausted), (10, 0), "{what}");

        // Two nodes: every request has one retry, and all four of a second are made.
        let two = TestServer::start(move |_| behavior()).await;
        let mut both = settings(&[one.address, two.address]);
        both.retries = limits.clone();
        let cluster = Cluster::new(both);
        for _ in 0..4 {
            let _ = upstream.send_buffered(&request_to(QUERY, &cluster)).await;
        }
        let exhausted = upstream.totals().get(RetryOverflow::BudgetExhausted);
        assert_eq!((one.count() + two.count(), exhausted), (18, 0), "{what}");
    }
}

#[tokio::test]
async fn a_status_is_retried_or_passes() {
    // Retried, counts as a failure of the node.
    let cases = [
        (QUERY, "500 Oops", true, true),
        (QUERY, "502 Bad", true, true),
        (QUERY, "503 Busy", true, true),
        (QUERY, "504 Late", true, true),
        (QUERY, "301 Moved", true, true),
        (QUERY, "302 Found", true, true),
        (QUERY, "304 Not Modified", true, true),
        (QUERY, "307 Moved", true, true),
        (QUERY, "401 Unauthorized", true, false),
        (JOB, "401 Unauthorized", false, false),
        (QUERY, "403 Forbidden", false, false),
        (QUERY, "404 Not Found", false, false),
        (QUERY, "408 Timeout", false, false),
        (QUERY, "429 Slow Down", false, false),
        (QUERY, "501 No", false, false),
        (QUERY, "505 No", false, false),
        (QUERY, "507 Full", false, false),
        (JOB, "500 Oops", false, true),
        (JOB, "302 Found", false, true),
        (DOWNLOAD, "500 Oops", true, true),
        (DOWNLOAD, "302 Found", false, false),
    ];
    for (name, status, is_retried, is_failure) in cases {
        let failing = TestServer::responding(json_response(status, "x")).await;
        let healthy = TestServer::responding(ok_response()).await;
        let (upstream, cluster) = (TestUpstream::new(), cluster(&[&failing, &healthy]));
        let request = request_to(name, &cluster);
        let received = if name == DOWNLOAD {
            upstream.send_streaming(&request).await.unwrap().status
        } else {
            upstream.send_buffered(&request).await.unwrap().status
        };
        let expected = if is_retried { "200" } else { &status[..3] };
        assert_eq!(received.as_str(), expected, "{name} {status}");
        let failures = cluster.node_statuses(Instant::now().into_std())[0].failures;
        assert_eq!(failures, u64::from(is_failure), "{name} {status}");
    }
}

#[tokio::test]
async fn an_unverified_request_goes_to_one_node_and_says_nothing_about_it() {
    for (what, act) in failing_behaviors() {
        let faulty = TestServer::start({
            let act = act.clone();
            move |_| act.clone()
        })
        .await;
        let healthy = TestServer::responding(ok_response()).await;
        let mut settings = settings(&[faulty.address, healthy.address]);
        settings.ejection.consecutive_failures = 1;
        let (upstream, cluster) = (TestUpstream::new(), Cluster::new(settings));
        for _ in 0..6 {
            let request = unverified_request_to(QUERY, &cluster);
            let _ = upstream.send_buffered(&request).await;
        }
        assert_eq!((faulty.count(), healthy.count()), (3, 3), "{what}");
        let status = &cluster.node_statuses(Instant::now().into_std())[0];
        assert_eq!(
            (status.failures, status.state.as_str()),
            (0, "up"),
            "{what}"
        );
        let budget = cluster.retry_budget();
        let limits = crate::cluster::RetrySettings {
            budget_percent: 100,
            min_per_second: 0,
        };
        let now = Instant::now().into_std();
        assert!(
            !budget.try_withdraw(now, &limits),
            "{what}: it pays nothing in"
        );
    }
}

#[tokio::test]
async fn an_unverified_request_goes_on_where_no_connection_was_established() {
    let healthy = TestServer::responding(ok_response()).await;
    let mut settings = settings(&[unused_address().await, healthy.address]);
    settings.ejection.consecutive_failures = 1;
    let (upstream, cluster) = (TestUpstream::new(), Cluster::new(settings));
    for name in [QUERY, JOB] {
        let request = unverified_request_to(name, &cluster);
        let reply = upstream.send_buffered(&request).await.unwrap();
        assert_eq!(reply.status, StatusCode::OK);
    }
    let status = &cluster.node_statuses(Instant::now().into_std())[0];
    assert_eq!(
        status.state.as_str(),
        "ejected",
        "a failure to connect counts"
    );
}

#[tokio::test]
async fn a_304_to_a_conditional_request_passes() {
    let node = TestServer::responding(json_response("304 Not Modified", "")).await;
    let (upstream, cluster) = (TestUpstream::new(), cluster(&[&node, &node]));
    let mut request = request_to("queryBillData", &cluster);
    let headers = Arc::make_mut(&mut request.headers);
    headers.insert("if-none-match", HeaderValue::from_static("\"x\""));
    let reply = upstream.send_buffered(&request).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.attempts.count), (304, 1));
}

#[tokio::test]
async fn a_job_is_sent_to_one_node_at_most() {
    for (what, act) in failing_behaviors() {
        let make = || {
            let act = act.clone();
            TestServer::start(move |_| act.clone())
        };
        let (one, two) = (make().await, make().await);
        let (upstream, cluster) = (TestUpstream::new(), cluster(&[&one, &two]));
        let result = upstream.send_buffered(&request_to(JOB, &cluster)).await;
        let reached = if what == "busy" { 2 } else { 1 };
        assert_eq!(one.count() + two.count(), reached, "{what}");
        match result {
            Ok(reply) => assert!(what == "busy" || reply.status.is_server_error(), "{what}"),
            Err(failure) => assert!(failure.request_sent, "{what}"),
        }
    }
}

#[tokio::test]
async fn a_job_is_retried_after_flow_control() {
    let busy = TestServer::responding(json_response("200 OK", FLOW_CONTROL_BODY)).await;
    let healthy = TestServer::responding(ok_response()).await;
    let (upstream, cluster) = (TestUpstream::new(), cluster(&[&busy, &healthy]));
    let reply = upstream
        .send_buffered(&request_to(JOB, &cluster))
        .await
        .unwrap();
    assert_eq!(
        (reply.body.as_ref(), reply.attempts.count),
        (OK_BODY.as_bytes(), 2)
    );
    // But a flow-control response does not allow a retry after an attempt that a node may have executed.
    let lost = TestServer::start(|_| Behavior::Cut(Vec::new())).await;
    let cluster = test_server::cluster(&[&busy, &lost]);
    let failure = upstream
        .send_buffered(&request_to(JOB, &cluster))
        .await
        .unwrap_err();
    assert_eq!(
        (failure.kind, failure.request_sent),
        (UpstreamErrorKind::ConnectionClosed, true)
    );
}

#[tokio::test]
async fn when_no_node_is_left_the_last_response_passes() {
    let make = |status: &'static str, body| TestServer::responding(json_response(status, body));
    let busy = (
        make("200 OK", FLOW_CONTROL_BODY).await,
        make("200 OK", FLOW_CONTROL_BODY).await,
    );
    let unwell = (make("503 A", "a").await, make("503 B", "a").await);
    for ((one, two), status) in [(&busy, 200), (&unwell, 503)].map(|((a, b), s)| ((a, b), s)) {
        for name in [QUERY, DOWNLOAD] {
            let (upstream, cluster) = (TestUpstream::new(), cluster(&[one, two]));
            let request = request_to(name, &cluster);
            let (status_seen, attempt_count) = if name == QUERY {
                let reply = upstream.send_buffered(&request).await.unwrap();
                (reply.status, reply.attempts.count)
            } else {
                let reply = upstream.send_streaming(&request).await.unwrap();
                (reply.status, reply.attempts.count)
            };
            assert_eq!((status_seen.as_u16(), attempt_count), (status, 2));
        }
    }
    // Also when the last node does not respond at all.
    let one = make("503 A", "a").await;
    let cluster = Cluster::new(settings(&[one.address, unused_address().await]));
    let upstream = TestUpstream::new();
    let reply = upstream
        .send_buffered(&request_to(QUERY, &cluster))
        .await
        .unwrap();
    assert_eq!(reply.status.as_u16(), 503);
}

#[tokio::test]
async fn the_per_try_timeout_fails_over_from_a_hanging_node() {
    let hanging = TestServer::start(|_| Behavior::Hang).await;
    let healthy = TestServer::responding(ok_response()).await;
    let mut settings = settings(&[hanging.address, healthy.address]);
    settings.timeouts.per_try = Duration::from_millis(60);
    let cluster = Cluster::new(settings);
    let upstream = TestUpstream::new();
    let reply = upstream
        .send_buffered(&request_to(QUERY, &cluster))
        .await
        .unwrap();
    assert_eq!(reply.attempts.count, 2);
    assert!(reply.attempts.elapsed >= Duration::from_millis(60));
    assert_eq!(
        cluster.node_statuses(Instant::now().into_std())[0].failures,
        1
    );
    assert_eq!(hanging.count(), 1);
}

#[tokio::test]
async fn the_last_attempt_is_not_ended_by_the_per_try_timeout() {
    // A job is never retried after it was sent, so its first attempt is its last.
    for name in [QUERY, JOB] {
        let hanging = TestServer::start(|_| Behavior::Hang).await;
        let other = TestServer::start(|_| Behavior::Hang).await;
        let mut settings = settings(&[hanging.address, other.address]);
        settings.timeouts.per_try = Duration::from_millis(30);
        let cluster = Cluster::new(settings);
        let upstream = TestUpstream::new();
        let last_try = Duration::from_millis(200);
        let request = request_to(name, &cluster);
        let failure = upstream.upstream.send_buffered(&request, last_try).await;
        let failure = failure.unwrap_err();
        assert_eq!(
            (failure.kind, failure.request_sent),
            (UpstreamErrorKind::Timeout, true)
        );
        assert!(failure.attempts.elapsed >= last_try, "{name}");
        assert_eq!(failure.attempts.count, if name == QUERY { 2 } else { 1 });
    }
}

#[tokio::test]
async fn a_failing_node_is_ejected_and_used_when_no_other_is_left() {
    let healthy = TestServer::responding(ok_response()).await;
    let mut settings = settings(&[unused_address().await, healthy.address]);
    settings.ejection.consecutive_failures = 3;
    let cluster = Cluster::new(settings);
    let upstream = TestUpstream::new();
    for _ in 0..20 {
        upstream
            .send_buffered(&request_to(QUERY, &cluster))
            .await
            .unwrap();
    }
    assert_eq!(upstream.totals().get(Attempt::ConnectFailed), 3);
    let status = &cluster.node_statuses(Instant::now().into_std())[0];
    assert_eq!(status.state.as_str(), "ejected");
    // The other one fails too: unhealthy nodes are tried before a request fails.
    drop(healthy);
    let failure = upstream
        .send_buffered(&request_to(QUERY, &cluster))
        .await
        .unwrap_err();
    assert_eq!(
        (failure.kind, failure.attempts.count),
        (UpstreamErrorKind::ConnectFailed(ConnectError::Refused), 2)
    );
}

#[tokio::test]
async fn a_drained_node_gets_no_requests() {
    let (one, two) = (
        TestServer::responding(ok_response()).await,
        TestServer::responding(ok_response()).await,
    );
    let (upstream, cluster) = (TestUpstream::new(), cluster(&[&one, &two]));
    assert!(cluster.drain_node(&one.address.to_string()));
    for _ in 0..4 {
        upstream
            .send_buffered(&request_to(QUERY, &cluster))
            .await
            .unwrap();
    }
    assert_eq!((one.count(), two.count()), (0, 4));
    assert!(cluster.drain_node(&two.address.to_string()));
    let failure = upstream
        .send_buffered(&request_to(QUERY, &cluster))
        .await
        .unwrap_err();
    assert_eq!(failure.kind, UpstreamErrorKind::NoNodeAvailable);
    assert!(!cluster.drain_node("127.0.0.1:1"));
}

#[tokio::test]
async fn a_node_that_dies_under_load_loses_no_request() {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(TestServer::responding(ok_response()).await);
    }
    let cluster = cluster(&[&nodes[0], &nodes[1], &nodes[2]]);
    let upstream = Arc::new(TestUpstream::new());
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let (upstream, request) = (upstream.clone(), request_to(QUERY, &cluster));
        clients.spawn(async move {
            for _ in 0..20 {
                upstream.send_buffered(&request).await.unwrap();
            }
        });
    }
    eventually("they are busy", || nodes[0].count() > 50).await;
    let stopped = nodes.remove(0);
    let count = stopped.count();
    drop(stopped);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let rest = nodes[0].count() + nodes[1].count();
    assert!(count < 100 && rest > 500, "{count} and {rest}");
}

#[tokio::test]
async fn without_retry_budget_a_slow_node_is_waited_for() {
    let slow =
        TestServer::start(|_| Behavior::RespondLate(Duration::from_millis(120), ok_response()))
            .await;
    let other = TestServer::responding(ok_response()).await;
    let mut settings = settings(&[slow.address, other.address]);
    settings.timeouts.per_try = Duration::from_millis(30);
    settings.retries = crate::cluster::RetrySettings {
        budget_percent: 0,
        min_per_second: 0,
    };
    let cluster = Cluster::new(settings);
    let upstream = TestUpstream::new();
    let reply = upstream
        .send_buffered(&request_to(QUERY, &cluster))
        .await
        .unwrap();
    assert_eq!((reply.attempts.count, other.count()), (1, 0));
}
