//! The background tasks of a cluster: DNS resolution of its names, and active health checks of its
//! nodes.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::dns::{self, NameServers};
use super::failure_reason::FailureReason;
use super::health_report::report;
use super::probe::{ProbeRequest, Prober};
use crate::auth::Credential;
use crate::cluster::{Cluster, FailureKind, HealthCheck, LastCheck, Node, NodeId, NodeOutcome};
use crate::task::boxed;

/// Runs the background tasks of `cluster`; never completes, and dropping it ends all of them.
/// `credential` belongs to the ak of a signed health check, and is not needed without one.
pub async fn watch_cluster(cluster: Arc<Cluster>, credential: Option<Arc<Credential>>) {
    watch_with(cluster, credential, NameServers::System).await;
}

/// As [`watch_cluster`], with other name servers.
pub(super) async fn watch_with(
    cluster: Arc<Cluster>,
    credential: Option<Arc<Credential>>,
    servers: NameServers,
) {
    let changed = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    for address in cluster.dns_names().cloned() {
        let (servers, changed) = (servers.clone(), changed.clone());
        tasks.spawn(boxed(dns::track_name(
            cluster.clone(),
            address,
            servers,
            changed,
        )));
    }
    let mut checks: HashMap<NodeId, AbortHandle> = HashMap::new();
    loop {
        if let Some(check) = &cluster.settings().health_check {
            let nodes = cluster.nodes();
            checks.retain(|id, task| {
                let stays = nodes.iter().any(|node| node.id() == *id);
                if !stays {
                    task.abort();
                }
                stays
            });
            for node in nodes {
                checks.entry(node.id()).or_insert_with(|| {
                    let (cluster, credential) = (cluster.clone(), credential.clone());
                    tasks.spawn(boxed(check_node(cluster, check.clone(), node, credential)))
                });
            }
        }
        while tasks.try_join_next().is_some() {}
        // Never completes if all nodes are configured by address.
        changed.notified().await;
    }
}

/// Checks one node periodically. The first check comes within a tenth of the interval, so that a node
/// that is down at the start is found early.
async fn check_node(
    cluster: Arc<Cluster>,
    check: HealthCheck,
    node: Arc<Node>,
    credential: Option<Arc<Credential>>,
) {
    sleep(check.interval.mul_f64(0.1 * rand::random::<f64>())).await;
    let mut prober = Prober::new(cluster.clone(), node.clone());
    loop {
        let request = match check.signed.as_ref().zip(credential.as_ref()) {
            Some((signed, credential)) => ProbeRequest::Signed(signed, credential),
            None => ProbeRequest::Get(&check.path),
        };
        let started = Instant::now();
        let probe = pin!(prober.probe(request));
        let result = timeout(check.timeout, probe).await;
        let failure = match result {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure),
            Err(_elapsed) => {
                let reason = format!("no response in {:?}", check.timeout);
                Some((FailureKind::Timeout, reason.into()))
            }
        };
        let now = Instant::now();
        node.record_check(LastCheck {
            at: now.into_std(),
            duration: now.saturating_duration_since(started),
            is_ok: failure.is_none(),
        });
        match failure {
            None => report(
                &cluster,
                &node,
                NodeOutcome::ProbeSuccess,
                now,
                FailureReason::default,
            ),
            Some((kind, reason)) => {
                let reason = || format!("health check: {reason}").into();
                report(
                    &cluster,
                    &node,
                    NodeOutcome::ProbeFailure(kind),
                    now,
                    reason,
                );
            }
        }
        sleep_until(next_check(check.interval)).await;
    }
}

/// Returns when the next check is due: after `interval` within 10 %, so that replicas that were started
/// together do not check together; at a tick that all checks of the process share, so that hundreds of them
/// wake it ten times a second instead of hundreds of times.
fn next_check(interval: Duration) -> Instant {
    let jittered = interval.mul_f64(0.9 + 0.2 * rand::random::<f64>());
    let tick = (interval / 10).clamp(MIN_TICK, MAX_TICK);
    let due = (FIRST_TICK.elapsed() + jittered)
        .as_nanos()
        .next_multiple_of(tick.as_nanos());
    *FIRST_TICK + Duration::from_nanos(u64::try_from(due).unwrap_or(u64::MAX))
}

static FIRST_TICK: LazyLock<Instant> = LazyLock::new(Instant::now);

const MIN_TICK: Duration = Duration::from_millis(1);

const MAX_TICK: Duration = Duration::from_millis(100);
