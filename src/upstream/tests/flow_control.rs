use std::time::Duration;

use tokio::time::Instant;

use super::test_server::{
    FLOW_CONTROL_BODY, OK_BODY, TestServer, json_response, ok_response, settings,
};
use super::{JOB, QUERY, TestUpstream, request_to, unverified_request_to};
use crate::cluster::{Cluster, FlowControlMode};
use crate::metrics::RetryOverflow;

const MAX_WAIT: Duration = Duration::from_millis(300);

fn learning(nodes: &[&TestServer]) -> std::sync::Arc<Cluster> {
    let addresses: Vec<_> = nodes.iter().map(|node| node.address).collect();
    let mut settings = settings(&addresses);
    settings.flow_control.mode = FlowControlMode::Learn;
    settings.flow_control.max_wait = MAX_WAIT;
    settings.retries.budget_percent = 0;
    settings.retries.min_per_second = 0;
    Cluster::new(settings)
}

async fn busy() -> TestServer {
    TestServer::responding(json_response("200 OK", FLOW_CONTROL_BODY)).await
}

#[tokio::test]
async fn a_refused_attempt_moves_on_without_the_retry_budget() {
    let (busy, healthy) = (busy().await, TestServer::responding(ok_response()).await);
    let (upstream, cluster) = (TestUpstream::new(), learning(&[&busy, &healthy]));
    for name in [QUERY, JOB, QUERY, JOB] {
        let reply = upstream.send_buffered(&request_to(name, &cluster)).await;
        let reply = reply.unwrap();
        assert_eq!(reply.body, OK_BODY);
        assert_eq!(reply.attempts.queued, Duration::ZERO);
    }
    assert!(busy.count() > 0);
    assert_eq!(upstream.totals().get(RetryOverflow::BudgetExhausted), 0);
}

#[tokio::test]
async fn a_request_waits_for_max_wait_and_gets_the_nodes_own_answer() {
    let busy = busy().await;
    let (upstream, cluster) = (TestUpstream::new(), learning(&[&busy]));
    for name in [QUERY, JOB] {
        let began = Instant::now();
        let reply = upstream.send_buffered(&request_to(name, &cluster)).await;
        let reply = reply.unwrap();
        assert_eq!(reply.body, FLOW_CONTROL_BODY);
        let queued = reply.attempts.queued;
        assert!(
            queued >= MAX_WAIT && queued <= began.elapsed(),
            "{queued:?}"
        );
        assert!(reply.attempts.count <= 10, "{}", reply.attempts.count);
    }
}

#[tokio::test]
async fn neither_a_refresh_nor_an_unverified_request_waits() {
    let busy = busy().await;
    let (upstream, cluster) = (TestUpstream::new(), learning(&[&busy]));
    let mut refresh = request_to(QUERY, &cluster);
    refresh.is_refresh = true;
    let unverified = unverified_request_to(QUERY, &cluster);
    for request in [refresh, unverified] {
        let reply = upstream.send_buffered(&request).await.unwrap();
        assert_eq!(reply.body, FLOW_CONTROL_BODY);
        assert_eq!(reply.attempts.count, 1);
        assert_eq!(reply.attempts.queued, Duration::ZERO);
    }
}
