//! OpenTelemetry traces (§8) as a collector receives them.

use std::time::Duration;

use ccfs_gateway::client::ClientRequest;
use ccfs_gateway::stand_in::{Fault, When};
use http::HeaderName;

use crate::collector::{Collector, CollectorAddress, CollectorBehavior, ReceivedSpan};
use crate::page;
use crate::process::{Process, run_command};
use crate::support::{
    SHANGHAI, Setup, TestEnv, UNKNOWN, client_trusting, eventually, read, signed,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
const RECORDED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNRECORDED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// Adds a caller's `traceparent` with or without the sampled flag.
fn traced(request: ClientRequest, recorded: bool) -> ClientRequest {
    let value = if recorded { RECORDED } else { UNRECORDED };
    request.with_header(HeaderName::from_static("traceparent"), value)
}

async fn env(collector: &Collector, sample: &str) -> TestEnv {
    let setup = Setup {
        tables: collector.telemetry(sample),
        ..Setup::default()
    };
    setup.start().await
}

/// The `traceparent` of each forwarded request: trace id, span id, flags.
fn text(env: &TestEnv) -> Vec<(String, String, String)> {
    let requests = env.upstream_requests().into_iter();
    let values = requests.map(|request| request.header("traceparent").unwrap().to_owned());
    let split = |value: String| {
        let parts: Vec<_> = value.split('-').map(str::to_owned).collect();
        (parts[1].clone(), parts[2].clone(), parts[3].clone())
    };
    values.map(split).collect()
}

#[track_caller]
fn assert_has(seen: &ReceivedSpan, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(seen.get(name), *value, "{name} of {seen:#?}");
    }
}

#[tokio::test]
async fn a_request_and_its_attempt_are_spans_of_the_callers_trace() {
    let collector = Collector::start();
    let env = env(&collector, "0.0").await;
    let ask = || async {
        let request = traced(env.recording("trace-1"), true);
        let request = request.with_header(HeaderName::from_static("x-request-id"), "id-1");
        assert_eq!(env.send(&signed(request, SHANGHAI)).await.status, 200);
    };
    ask().await;
    let seen = collector.wait_for(2).await;
    let [at_node, miss] = &seen[..] else {
        unreachable!("two spans");
    };
    for span in [miss, at_node] {
        assert_eq!(span.trace(), TRACE);
        assert!(!span.has_failed());
        assert_eq!(span.speaker("service.name"), "ccfs-gateway");
        assert_eq!(span.speaker("service.version"), env!("CARGO_PKG_VERSION"));
        assert!(!span.speaker("service.instance.id").is_empty());
    }
    let node = env.nodes[0].address();
    let path = "/CCFS/resource/ccfs/getRecordFileUrlFromObs";
    assert_eq!(miss.span.name, "POST getRecordFileUrlFromObs");
    assert_eq!((miss.span.kind, miss.parent().as_str()), (2, CALLER));
    assert_eq!(miss.span.flags, 0x301, "sampled, with a remote parent");
    let port = env.bound.listeners["ccfs"].port().to_string();
    assert_has(
        miss,
        &[
            ("http.request.method", "POST"),
            ("url.scheme", "https"),
            ("url.path", path),
            ("http.response.status_code", "200"),
            ("server.port", &port),
            ("client.address", "127.0.0.1"),
            ("network.protocol.version", "1.1"),
            ("tls.protocol.version", "1.3"),
            ("request_id", "id-1"),
            ("gw.listener", "ccfs"),
            ("gw.cluster", "ccfs"),
            ("gw.outcome", "node"),
            ("gw.ak", SHANGHAI),
            ("gw.call_id", "trace-1"),
            ("gw.cache", "stored"),
            ("gw.result_code", "0"),
            ("gw.node", &node.to_string()),
            ("gw.attempts", "1"),
            ("error.type", ""),
        ],
    );
    assert_eq!((at_node.span.kind, at_node.parent()), (3, miss.id()));
    assert_eq!(at_node.span.flags, 0x101, "sampled, with a local parent");
    assert_has(
        at_node,
        &[
            ("http.request.method", "POST"),
            ("url.path", path),
            ("http.response.status_code", "200"),
            ("server.address", "127.0.0.1"),
            ("server.port", &node.port().to_string()),
            ("http.request.resend_count", ""),
            ("gw.result", "ok"),
            ("gw.result_code", "0"),
        ],
    );
    assert!(at_node.span.start_time_unix_nano >= miss.span.start_time_unix_nano);
    let ours = (TRACE.to_owned(), at_node.id(), "01".to_owned());
    assert_eq!(text(&env), [ours], "the node receives its own parent");

    ask().await;
    let seen = collector.wait_for(3).await;
    let hit = &seen[2];
    assert_eq!(
        (hit.trace().as_str(), hit.parent().as_str()),
        (TRACE, CALLER)
    );
    assert_ne!(hit.id(), miss.id());
    let nothing = [("gw.node", ""), ("gw.attempts", "0")];
    assert_has(hit, &[("gw.cache", "hit"), ("gw.outcome", "cached")]);
    assert_has(hit, &nothing);
    let log = env.file("access.log");
    eventually("the log line", async || read(&log).lines().count() == 2).await;
    assert!(read(&log).contains(&format!(r#""span_id":"{}""#, hit.id())));
}

#[tokio::test]
async fn each_attempt_is_a_span_and_a_failure_is_an_error() {
    let collector = Collector::start();
    let setup = Setup {
        nodes: 2,
        tables: collector.telemetry("1.0"),
        ..Setup::default()
    };
    let env = setup.start().await;
    for node in &env.nodes {
        node.faults().inject(Fault::GarbageJson, When::Always);
    }
    assert_eq!(env.get_recording("trace-2").await.status, 502);
    let seen = collector.wait_for(3).await;
    let [first, second, request] = &seen[..] else {
        unreachable!("three spans");
    };
    assert!(seen.iter().all(ReceivedSpan::has_failed));
    assert_eq!(request.parent(), "", "the trace starts here");
    let failed = ("error.type", "node_failed");
    assert_has(
        request,
        &[failed, ("gw.outcome", "node_failed"), ("gw.attempts", "2")],
    );
    assert_has(
        first,
        &[("error.type", "garbage"), ("http.request.resend_count", "")],
    );
    assert_has(
        second,
        &[
            ("error.type", "garbage"),
            ("http.request.resend_count", "1"),
        ],
    );
    let mut ours = Vec::new();
    for span in [first, second] {
        assert_eq!(
            (span.parent(), span.trace()),
            (request.id(), request.trace())
        );
        ours.push((span.trace(), span.id(), "03".to_owned()));
    }
    let mut theirs = text(&env);
    ours.sort();
    theirs.sort();
    assert_eq!(theirs, ours);

    for node in &env.nodes {
        node.faults().clear();
        node.faults().inject(Fault::Status(500), When::Always);
    }
    assert_eq!(env.get_recording("trace-3").await.status, 500);
    // Both nodes are tried.
    let seen = collector.wait_for(6).await;
    for span in &seen[3..] {
        assert!(span.has_failed());
        assert_has(
            span,
            &[("error.type", "500"), ("http.response.status_code", "500")],
        );
    }
}

#[tokio::test]
async fn a_rejected_request_is_no_error_and_names_no_access_key() {
    let collector = Collector::start();
    let mut env = env(&collector, "1.0").await;
    let request = traced(env.recording("trace-4"), true);
    let mut request = signed(request, UNKNOWN);
    request.target += "?secret=of-the-query";
    assert_eq!(env.send(&request).await.status, 401);
    let invalid = signed(env.post("{\"callId\":null}"), SHANGHAI);
    assert_eq!(env.send(&invalid).await.status, 200);
    let mut malformed = env.recording("trace-5");
    malformed.target = "/a/../b".to_owned();
    assert_eq!(env.send(&malformed).await.status, 400);
    env.shut_down().await;
    let seen = collector.wait_for(3).await;
    let [stranger, invalid, malformed] = &seen[..] else {
        unreachable!("three spans");
    };
    assert!(!seen.iter().any(ReceivedSpan::has_failed));
    assert_ne!(
        stranger.trace(),
        TRACE,
        "only the traces of verified callers are continued"
    );
    assert_eq!(stranger.parent(), "");
    let outcome = ("gw.outcome", "unauthenticated");
    assert_has(
        stranger,
        &[outcome, ("gw.ak", ""), ("gw.result_code", "GW401")],
    );
    assert_has(stranger, &[("http.response.status_code", "401")]);
    let outcome = ("gw.outcome", "invalid_request");
    assert_has(
        invalid,
        &[outcome, ("gw.ak", SHANGHAI), ("gw.result_code", "0300001")],
    );
    assert_has(malformed, &[("gw.outcome", "malformed"), ("url.path", "")]);
    assert_eq!(malformed.span.name, "HTTP");
    assert!(!format!("{seen:?}").contains("of-the-query"));
}

#[tokio::test]
async fn a_sample_ratio_of_0_records_only_sampled_callers() {
    let collector = Collector::start();
    let mut env = env(&collector, "0.0").await;
    env.get_recording("trace-6").await;
    let unrecorded = traced(env.recording("trace-7"), false);
    env.send(&signed(unrecorded, SHANGHAI)).await;
    let flags = text(&env).into_iter().map(|(_, _, flags)| flags);
    assert_eq!(flags.collect::<Vec<_>>(), ["02", "00"]);
    let recorded = traced(env.recording("trace-8"), true);
    env.send(&signed(recorded, SHANGHAI)).await;
    env.shut_down().await;
    let seen = collector.spans();
    let ids: Vec<_> = seen.iter().map(|it| it.get("gw.call_id")).collect();
    assert_eq!(ids, ["", "trace-8"], "an attempt and its request");
}

#[tokio::test]
async fn a_sample_ratio_of_1_records_all_except_unsampled_callers() {
    let collector = Collector::start();
    let mut env = env(&collector, "1.0").await;
    env.get_recording("trace-9").await;
    let unrecorded = traced(env.recording("trace-10"), false);
    env.send(&signed(unrecorded, SHANGHAI)).await;
    assert_eq!(text(&env)[0].2, "03");
    env.shut_down().await;
    let seen = collector.spans();
    let ids: Vec<_> = seen.iter().map(|it| it.get("gw.call_id")).collect();
    assert_eq!(ids, ["", "trace-9"]);
    assert_eq!(seen[1].parent(), "");
}

#[tokio::test]
async fn pending_spans_are_flushed_at_shutdown() {
    let collector = Collector::start();
    let mut env = env(&collector, "1.0").await;
    // The client keeps no connection, so that the shutdown has nothing to wait for.
    let client = client_trusting(&env.file(""));
    let request = signed(env.recording("trace-14"), SHANGHAI);
    assert_eq!(client.send(&request).await.unwrap().status, 200);
    assert!(env.shut_down().await.complete);
    assert_eq!(collector.spans().len(), 2);
}

#[tokio::test]
async fn an_unavailable_collector_costs_only_spans() {
    let place = CollectorAddress::new();
    let process = Process::start(&Setup {
        tables: place.telemetry("http", "1.0"),
        ..Setup::default()
    })
    .await;
    let lost = r#"trace_spans_total{result="failed"}"#;
    for round in 0..3 {
        for _ in 0..10 {
            assert_eq!(process.get_recording("trace-11").await.status, 200);
        }
        eventually("they are lost", async || {
            page::metric(process.admin, lost).await >= f64::from(round * 10 + 10)
        })
        .await;
    }
    let text = |text: &str| process.diagnostics().matches(text).count();
    assert_eq!(text("spans are lost"), 1, "{}", process.diagnostics());
    assert_eq!(text("the collector accepts all spans again"), 0);

    let collector = place.open(CollectorBehavior::Good, None);
    assert_eq!(process.get_recording("trace-11").await.status, 200);
    eventually("it is available", async || !collector.spans().is_empty()).await;
    eventually("it is logged", async || {
        text("the collector accepts all spans again") == 1
    })
    .await;
    let exported = r#"trace_spans_total{result="exported"}"#;
    assert!(page::metric(process.admin, exported).await >= 1.0);
}

#[tokio::test]
async fn a_second_signal_waits_for_no_collector() {
    let place = CollectorAddress::new();
    let tables = place.telemetry("http", "1.0");
    let _collector = place.open(CollectorBehavior::Silent, None);
    let mut process = Process::start(&Setup {
        tables,
        ..Setup::default()
    })
    .await;
    let client = client_trusting(process.site.folder.path());
    let request = signed(process.recording("trace-15"), SHANGHAI);
    assert_eq!(client.send(&request).await.unwrap().status, 200);
    process.signal("TERM");
    eventually("only the spans are pending", async || {
        tokio::net::TcpStream::connect(process.admin).await.is_err()
    })
    .await;
    process.signal("TERM");
    process.wait_for_exit().await;
    let text = process.diagnostics();
    assert!(text.contains("second signal received"), "{text}");
    assert!(!text.contains("the last spans"), "{text}");
}

#[tokio::test]
async fn a_hanging_collector_delays_nothing() {
    let place = CollectorAddress::new();
    let telemetry = place.telemetry("http", "1.0");
    let _collector = place.open(CollectorBehavior::Silent, None);
    let setup = Setup {
        tables: format!("{telemetry}\n[server]\ngrace = \"1s\""),
        ..Setup::default()
    };
    let mut env = setup.start().await;
    for _ in 0..100 {
        assert_eq!(env.get_recording("trace-12").await.status, 200);
    }
    let ending = tokio::time::timeout(Duration::from_secs(4), env.shut_down());
    assert!(ending.await.expect("within the grace period").complete);
}

#[tokio::test]
async fn spans_go_over_tls_if_the_system_trusts_the_collector() {
    let place = CollectorAddress::new();
    let process = Process::start(&Setup {
        tables: place.telemetry("https", "1.0"),
        ..Setup::default()
    })
    .await;
    let collector = place.open(CollectorBehavior::Good, Some(process.site.folder.path()));
    assert_eq!(process.get_recording("trace-13").await.status, 200);
    collector.wait_for(2).await;
}

#[tokio::test]
async fn check_reports_a_wrong_endpoint() {
    let site = Setup {
        tables: "[telemetry]\notlp_endpoint = \"127.0.0.1:4317\"".to_owned(),
        ..Setup::default()
    }
    .prepare()
    .await;
    let file = site.file.to_str().unwrap();
    let output = run_command(site.folder.path(), &["check", "--config", file]);
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("not the URL of a collector"), "{text}");
    assert!(text.contains("http://127.0.0.1:4317"), "{text}");
}
