//! Health checks and names, over real sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::test_server::{
    Behavior, TestServer, json_response, ok_response, settings, unused_address,
};
use super::*;
use crate::auth::{Claim, Credential, Secret, Signable};
use crate::cluster::{HealthCheck, NodeAddress, SignedCheck};
use crate::upstream::probe::{ProbeRequest, Prober};

fn check() -> HealthCheck {
    HealthCheck {
        interval: Duration::from_millis(10),
        timeout: Duration::from_secs(2),
        path: "/health?a".into(),
        unhealthy_after: 2,
        healthy_after: 2,
        signed: None,
    }
}

fn states(cluster: &Cluster) -> Vec<&'static str> {
    let nodes = cluster.node_statuses(Instant::now().into_std());
    nodes.iter().map(|node| node.state.as_str()).collect()
}

/// Runs the health checks until `holds` returns true.
async fn watch_until(
    cluster: &Arc<Cluster>,
    credential: Option<Arc<Credential>>,
    what: &str,
    holds: impl FnMut() -> bool,
) {
    tokio::select! {
        biased;
        () = eventually(what, holds) => {}
        () = watch_cluster(cluster.clone(), credential) => panic!("it never ends"),
    }
}

#[tokio::test]
async fn health_checks_mark_a_node_down_and_up() {
    let sick = Arc::new(AtomicBool::new(true));
    let state = sick.clone();
    let node = TestServer::start(move |_| {
        Behavior::Respond(if state.load(Ordering::SeqCst) {
            json_response("500 Oops", "")
        } else {
            json_response("404 Not Found", "")
        })
    })
    .await;
    let healthy = TestServer::responding(ok_response()).await;
    let mut settings = settings(&[node.address, unused_address().await, healthy.address]);
    settings.health_check = Some(check());
    let cluster = Cluster::new(settings);
    watch_until(&cluster, None, "both are down", || {
        states(&cluster) == ["down", "down", "up"]
    })
    .await;
    let probe = node.received().remove(0);
    assert!(probe.head.starts_with("GET /health?a HTTP/1.1\r\n"));
    assert_eq!(probe.field("host"), Some(&*node.address.to_string()));
    sick.store(false, Ordering::SeqCst);
    watch_until(&cluster, None, "it is up", || {
        states(&cluster) == ["up", "down", "up"]
    })
    .await;
    // No task outlives the watch.
    eventually("its connections are closed", || {
        node.open_connections() == 0
    })
    .await;
}

#[tokio::test]
async fn a_signed_health_check_is_judged_by_its_result_code() {
    let credential = Arc::new(Credential::new(
        "ak1".into(),
        vec![Secret::new(b"secret".to_vec())],
        true,
    ));
    let node = TestServer::responding(json_response("200 OK", r#"{"resultCode":"0300012"}"#)).await;
    let unhealthy =
        TestServer::responding(json_response("200 OK", r#"{"resultCode":"0399999"}"#)).await;
    let mut settings = settings(&[node.address, unhealthy.address]);
    settings.health_check = Some(HealthCheck {
        signed: Some(SignedCheck {
            access_key: "ak1".into(),
            call_id: "probe".into(),
            result_codes: vec!["0".into(), "0300012".into()],
        }),
        ..check()
    });
    let cluster = Cluster::new(settings);
    let checked = || node.count() > 2 && states(&cluster) == ["up", "down"];
    watch_until(&cluster, Some(credential.clone()), "one is down", checked).await;

    let received = node.received().remove(0);
    let mut headers = HeaderMap::new();
    for name in ["host", "authorization", "content-length", "content-type"] {
        let value = HeaderValue::from_str(received.field(name).unwrap()).unwrap();
        headers.insert(name, value);
    }
    let claim = Claim::parse(&headers, Timestamp::UNIX_EPOCH, None).unwrap();
    let signable = Signable {
        method: "POST",
        path: "/CCFS/resource/ccfs/getRecordFileUrlFromObs",
        query: None,
        headers: &headers,
        body: &received.body,
    };
    claim.verify(Some(&credential), &signable).unwrap();
    let body: serde_json::Value = serde_json::from_slice(&received.body).unwrap();
    assert_eq!(
        (&body["callId"], &body["version"]),
        (&"probe".into(), &"2.0".into())
    );
}

#[tokio::test]
async fn a_name_is_resolved_and_keeps_its_nodes_when_dns_fails() {
    let node = TestServer::responding(ok_response()).await;
    let mut settings = settings(&[node.address]);
    let named = |host: &str| NodeAddress {
        host: host.into(),
        port: node.address.port(),
    };
    settings.nodes[0].address = named("localhost");
    let cluster = Cluster::new(settings);
    let upstream = TestUpstream::new();
    let request = request_to(QUERY, &cluster);
    let failure = upstream.send_buffered(&request).await.unwrap_err();
    assert_eq!(
        failure.kind,
        UpstreamErrorKind::NoNodeAvailable,
        "not resolved yet"
    );
    watch_until(&cluster, None, "its address is resolved", || {
        states(&cluster) == ["up"]
    })
    .await;
    upstream.send_buffered(&request).await.unwrap();
    assert!(!cluster.set_addresses(&named("localhost"), &[]));
    assert!(!cluster.set_addresses(&named("other"), &["127.0.0.1".parse().unwrap()]));
    upstream.send_buffered(&request).await.unwrap();
    assert_eq!(node.received()[1].index, 1);
    // The name has a new address: the connections to the old node are closed.
    assert!(cluster.set_addresses(&named("localhost"), &["127.0.0.2".parse().unwrap()]));
    eventually("the old connection is closed", || {
        node.open_connections() == 0
    })
    .await;
}

#[tokio::test]
async fn an_attempt_at_a_node_that_is_found_down_fails_over_at_once_and_free() {
    let unhealthy = TestServer::start(|_| Behavior::Hang).await;
    let healthy = TestServer::responding(ok_response()).await;
    for name in [QUERY, JOB] {
        let mut settings = settings(&[unhealthy.address, healthy.address]);
        settings.health_check = Some(HealthCheck {
            timeout: Duration::from_millis(50),
            ..check()
        });
        (
            settings.retries.budget_percent,
            settings.retries.min_per_second,
        ) = (0, 0);
        let cluster = Cluster::new(settings);
        let upstream = TestUpstream::new();
        let request = request_to(name, &cluster);
        let time_limit = Duration::from_millis(2500);
        let result = tokio::select! {
            result = upstream.upstream.send_buffered(&request, time_limit) => result,
            () = watch_cluster(cluster.clone(), None) => panic!("it never ends"),
        };
        if name == QUERY {
            let attempts = result.unwrap().attempts;
            assert!(
                attempts.count == 2 && attempts.elapsed < Duration::from_secs(2),
                "{attempts:?}"
            );
        } else {
            let failure = result.unwrap_err();
            assert_eq!(
                (failure.kind, failure.request_sent),
                (UpstreamErrorKind::Timeout, true)
            );
        }
    }
}

/// Runs so many checks and returns, of each, its position on its connection and whether that was resumed.
async fn probes(prober: &mut Prober, node: &TestServer, count: usize) -> Vec<(usize, bool)> {
    let before = node.count();
    for _ in 0..count {
        let _ = prober.probe(ProbeRequest::Get("/")).await;
    }
    let received = node.received().split_off(before);
    let places = received.iter().map(|it| (it.index, it.resumed));
    places.collect()
}

#[tokio::test]
async fn every_fifth_check_and_all_after_a_failure_use_a_new_connection() {
    let sick = Arc::new(AtomicBool::new(false));
    let state = sick.clone();
    let node = TestServer::start(move |_| {
        Behavior::Respond(if state.load(Ordering::SeqCst) {
            json_response("500 Oops", "")
        } else {
            ok_response()
        })
    })
    .await;
    let cluster = Cluster::new(settings(&[node.address]));
    let mut prober = Prober::new(cluster.clone(), cluster.nodes()[0].clone());
    let first = probes(&mut prober, &node, 12).await;
    let positions: Vec<_> = first.iter().map(|(position, _)| *position).collect();
    assert_eq!(positions, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]);
    // A failure is seen on the kept connection; the checks after it try what new requests would meet.
    sick.store(true, Ordering::SeqCst);
    let failing = probes(&mut prober, &node, 3).await;
    let positions: Vec<_> = failing.iter().map(|(position, _)| *position).collect();
    assert_eq!(positions, [2, 0, 0]);
    sick.store(false, Ordering::SeqCst);
    let after = probes(&mut prober, &node, 2).await;
    let positions: Vec<_> = after.iter().map(|(position, _)| *position).collect();
    assert_eq!(positions, [0, 1]);
}

#[tokio::test]
async fn a_check_verifies_the_certificate_once_an_hour() {
    let node = TestServer::responding(ok_response()).await;
    let cluster = Cluster::new(settings(&[node.address]));
    let mut prober = Prober::new(cluster.clone(), cluster.nodes()[0].clone());
    let new_connections = |places: Vec<(usize, bool)>| -> Vec<bool> {
        let first = places.into_iter().filter(|(position, _)| *position == 0);
        first.map(|(_, resumed)| resumed).collect()
    };
    let first = probes(&mut prober, &node, 15).await;
    assert_eq!(new_connections(first), [false, true, true]);
    // As if an hour had passed with each of them.
    prober.full_handshake_interval = Duration::ZERO;
    let later = probes(&mut prober, &node, 10).await;
    assert_eq!(new_connections(later), [false, false]);
}
