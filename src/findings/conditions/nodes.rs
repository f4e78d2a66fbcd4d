//! Nodes and clusters.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::super::detector::{NodeMemory, RefusalMemory, node_name};
use super::super::observation::ClusterFacts;
use super::{Case, Failing, Severity, Situation, Subject, failing, later};
use crate::cluster::{EjectionReason, NodeState, NodeStatus};
use crate::metrics::NodeRefusal;
use crate::words;

/// A node answers 401 or 403 to what the gateway verified.
pub(in crate::findings) fn refuses_signature(situation: &Situation<'_>) -> Vec<Case> {
    let mut by_node: BTreeMap<Arc<str>, Vec<(&NodeRefusal, &RefusalMemory)>> = BTreeMap::new();
    for (refusal, memory) in &situation.memory.refusals {
        let name = format!("{}/{}", refusal.cluster, refusal.node).into();
        by_node.entry(name).or_default().push((refusal, memory));
    }
    let refuses =
        |cluster: &str, node: &NodeStatus| by_node.contains_key(&node_name(cluster, node));
    let mut cases = Vec::new();
    for cluster in &situation.now.clusters {
        let is_critical = !cluster
            .nodes
            .iter()
            .any(|node| is_usable(node) && !refuses(&cluster.name, node));
        let severity = critical_if(is_critical);
        for node in &cluster.nodes {
            let name = node_name(&cluster.name, node);
            if let Some(refusals) = by_node.get(&name) {
                let all = attempts(situation, &name);
                cases.push(refusal_case(situation, severity, &name, refusals, all));
            }
        }
    }
    cases
}

fn refusal_case(
    situation: &Situation<'_>,
    severity: Severity,
    name: &Arc<str>,
    refusals: &[(&NodeRefusal, &RefusalMemory)],
    all: Option<u64>,
) -> Case {
    let mut refusals: Vec<_> = refusals.to_vec();
    refusals.sort_by(|(one, a), (other, b)| {
        let by_count = b.recent.sum().cmp(&a.recent.sum());
        by_count.then_with(|| one.access_key.cmp(&other.access_key))
    });
    let count = refusals.iter().map(|(_, memory)| memory.recent.sum()).sum();
    let newest = refusals
        .iter()
        .max_by_key(|(_, memory)| memory.recent.last());
    let last = newest.map(|(_, memory)| memory.last);
    let access_keys: Vec<_> = refusals.iter().map(|(it, _)| &*it.access_key).collect();
    let seconds_ahead = last.and_then(|last| last.seconds_ahead);
    let clock = match seconds_ahead {
        Some(seconds) if seconds.unsigned_abs() >= CLOCK_TOLERANCE => format!(
            "its clock is {} {}",
            words::duration(seconds),
            if seconds < 0 { "behind" } else { "ahead" }
        ),
        Some(_) => "its clock agrees with the gateway's".to_owned(),
        None => "it sends no Date to compare clocks with".to_owned(),
    };
    let status = last.map_or(401, |last| last.status);
    let mut case = Case::new(
        severity,
        Subject::Node(name.clone()),
        format!(
            "the node answers {status} to requests whose signature the gateway has verified, of access key {}; {clock}",
            words::list(&access_keys, SHOWN_KEYS),
        ),
    );
    case.failing = failing(situation, count, all);
    case.seen = newest.and_then(|(_, memory)| memory.recent.last());
    case.details = json!({
        "status": status,
        "node_clock_offset_seconds": seconds_ahead,
        "access_keys": refusals.iter().take(MAX_DETAILS).map(|(it, memory)| json!({
            "access_key": it.access_key,
            "count": memory.recent.sum(),
        })).collect::<Vec<_>>(),
    });
    case
}

/// At least 1 % of a cluster's attempts in a minute are flow-controlled.
pub(in crate::findings) fn flow_control(situation: &Situation<'_>) -> Vec<Case> {
    let mut cases = Vec::new();
    for cluster in &situation.now.clusters {
        let nodes: Vec<_> = memories(situation, cluster).collect();
        let busy = |memory: &NodeMemory| memory.flow_controlled.recent().sum();
        let limited: u64 = nodes.iter().map(|(_, it)| busy(it)).sum();
        let attempts: u64 = nodes.iter().map(|(_, it)| it.attempts.recent().sum()).sum();
        let seen = nodes.iter().fold(None, |seen, (_, memory)| {
            later(seen, memory.flow_controlled.recent().last())
        });
        if limited == 0 {
            continue;
        }
        let busy_nodes: Vec<_> = nodes.iter().filter(|(_, it)| busy(it) > 0).collect();
        let usable = nodes.iter().filter(|(node, _)| is_usable(node));
        let is_critical = usable.clone().all(|(_, memory)| busy(memory) > 0);
        let mut case = Case::new(
            critical_if(is_critical),
            Subject::Cluster(cluster.name.clone()),
            format!(
                "{} of {} answer that their flow control is reached (0300008, 0300009){}",
                busy_nodes.len(),
                words::count(nodes.len() as u64, "node"),
                learned(busy_nodes.iter().map(|(node, _)| *node)),
            ),
        );
        case.failing = failing(situation, limited, Some(attempts));
        case.begins = limited * 100 >= attempts;
        case.seen = seen;
        case.details = json!({
            "nodes": busy_nodes.iter().take(MAX_DETAILS).map(|(node, memory)| json!({
                "node": node.address,
                "flow_controlled": busy(memory),
                "attempts": memory.attempts.recent().sum(),
            })).collect::<Vec<_>>(),
        });
        cases.push(case);
    }
    cases
}

/// Says what the first of the nodes take, as learned.
fn learned<'a>(nodes: impl Iterator<Item = &'a NodeStatus>) -> String {
    let words = nodes.flat_map(|node| {
        node.flow_bounds.iter().flat_map(move |bounds| {
            let at_once = bounds.in_flight.map(|limit| format!("{limit} at once"));
            let rate = bounds.per_second.map(|rate| format!("{rate:.1} a second"));
            let class = bounds.class.as_str();
            let both = at_once.into_iter().chain(rate);
            both.map(move |ceiling| format!("{} {class} {ceiling}", node.address))
        })
    });
    let words: Vec<_> = words.take(MAX_CEILINGS).collect();
    if words.is_empty() {
        String::new()
    } else {
        format!("; learned: {}", words.join(", "))
    }
}

/// A node's health checks fail, or its name cannot be resolved.
pub(in crate::findings) fn node_down(situation: &Situation<'_>) -> Vec<Case> {
    each_node(situation, |cluster, node| {
        let what = match node.state {
            NodeState::Down => "its health checks fail",
            NodeState::Unresolved => "its name has never been resolved",
            NodeState::Drained | NodeState::Ejected | NodeState::SlowStart | NodeState::Up => {
                return None;
            }
        };
        let severity = critical_if(!cluster.nodes.iter().any(is_usable));
        Some((severity, with_cause(what, node)))
    })
}

/// Requests fail at a node that is not down.
pub(in crate::findings) fn node_failing(situation: &Situation<'_>) -> Vec<Case> {
    let cases = each_node(situation, |cluster, node| {
        let name = node_name(&cluster.name, node);
        let failed = situation.memory.nodes.get(&name);
        let failed = failed.map_or(0, |memory| memory.failures.recent().sum());
        let text = match node.state {
            NodeState::Down | NodeState::Drained | NodeState::Unresolved => return None,
            // A finding of its own.
            NodeState::Ejected
                if node.ejection_reason == Some(EjectionReason::RefusesSignatures) =>
            {
                return None;
            }
            NodeState::Ejected => "it is ejected, since requests failed there".to_owned(),
            NodeState::SlowStart | NodeState::Up if failed > 0 => {
                format!(
                    "{} failed there in the last minute",
                    words::count(failed, "attempt")
                )
            }
            NodeState::SlowStart | NodeState::Up => return None,
        };
        Some((Severity::Warning, with_cause(&text, node)))
    });
    cases
        .into_iter()
        .map(|mut case| {
            let memory = situation.memory.nodes.get(case.subject.name());
            case.seen = memory.and_then(|memory| memory.failures.recent().last());
            case
        })
        .collect()
}

/// No node of a cluster is usable.
pub(in crate::findings) fn cluster_down(situation: &Situation<'_>) -> Vec<Case> {
    each_cluster(situation, |cluster| {
        let has_nodes = !cluster.nodes.is_empty();
        let is_down = has_nodes && !cluster.nodes.iter().any(is_usable) && !is_drained(cluster);
        is_down.then(|| {
            let nodes = words::count(cluster.nodes.len() as u64, "node");
            let text = format!("none of {nodes} is usable: every one is down, ejected or drained");
            (Severity::Critical, text)
        })
    })
}

/// Operators have drained every node of a cluster.
pub(in crate::findings) fn cluster_drained(situation: &Situation<'_>) -> Vec<Case> {
    each_cluster(situation, |cluster| {
        is_drained(cluster).then(|| {
            let text = "every node is drained by an order, so none gets requests".to_owned();
            (Severity::Critical, text)
        })
    })
}

/// Nodes of another tier or another cluster serve.
pub(in crate::findings) fn other_tier(situation: &Situation<'_>) -> Vec<Case> {
    each_cluster(situation, |cluster| {
        let cause = cluster.other_tier.clone()?;
        Some((Severity::Warning, cause))
    })
}

/// Most nodes look unhealthy, so all are used.
pub(in crate::findings) fn panic(situation: &Situation<'_>) -> Vec<Case> {
    each_cluster(situation, |cluster| {
        let panic = cluster.panic?;
        let text = format!(
            "only {} of {} are up and free of recent failures, so requests go to all of them",
            panic.healthy,
            words::count(panic.nodes as u64, "node"),
        );
        Some((Severity::Critical, text))
    })
}

/// Returns the cases about nodes, with what fails of the attempts at each.
fn each_node(
    situation: &Situation<'_>,
    judge: impl Fn(&ClusterFacts, &NodeStatus) -> Option<(Severity, String)>,
) -> Vec<Case> {
    let mut cases = Vec::new();
    for cluster in &situation.now.clusters {
        for node in &cluster.nodes {
            let Some((severity, cause)) = judge(cluster, node) else {
                continue;
            };
            let name = node_name(&cluster.name, node);
            let mut case = Case::new(severity, Subject::Node(name.clone()), cause);
            if let Some(memory) = situation.memory.nodes.get(&name) {
                let failed = memory.failures.recent().sum();
                case.failing = failing(situation, failed, attempts(situation, &name));
            }
            case.details = json!({
                "state": node.state.as_str(),
                "last_cause": node.last_failure_reason,
            });
            cases.push(case);
        }
    }
    cases
}

/// Returns the cases about clusters, with what fails of the requests for each.
fn each_cluster(
    situation: &Situation<'_>,
    judge: impl Fn(&ClusterFacts) -> Option<(Severity, String)>,
) -> Vec<Case> {
    let mut cases = Vec::new();
    for cluster in &situation.now.clusters {
        if let Some((severity, cause)) = judge(cluster) {
            let mut case = Case::new(severity, Subject::Cluster(cluster.name.clone()), cause);
            case.failing = cluster_failing(situation, cluster);
            let node = |node: &NodeStatus| {
                json!({
                    "node": node.address,
                    "state": node.state.as_str(),
                    "last_cause": node.last_failure_reason,
                })
            };
            let nodes: Vec<_> = cluster.nodes.iter().take(MAX_DETAILS).map(node).collect();
            case.details = json!({ "nodes": nodes });
            cases.push(case);
        }
    }
    cases
}

fn cluster_failing(situation: &Situation<'_>, cluster: &ClusterFacts) -> Failing {
    let memory = situation.memory.clusters.get(&cluster.name);
    memory.map_or_else(Failing::default, |memory| {
        let all = memory.requests.recent().sum();
        failing(situation, memory.failed.recent().sum(), Some(all))
    })
}

fn memories<'a>(
    situation: &'a Situation<'_>,
    cluster: &'a ClusterFacts,
) -> impl Iterator<Item = (&'a NodeStatus, &'a NodeMemory)> {
    cluster.nodes.iter().filter_map(|node| {
        let name = node_name(&cluster.name, node);
        Some((node, situation.memory.nodes.get(&name)?))
    })
}

fn attempts(situation: &Situation<'_>, name: &Arc<str>) -> Option<u64> {
    let memory = situation.memory.nodes.get(name)?;
    Some(memory.attempts.recent().sum())
}

fn with_cause(what: &str, node: &NodeStatus) -> String {
    match &node.last_failure_reason {
        Some(cause) => format!("{what}: {cause}"),
        None => what.to_owned(),
    }
}

fn is_usable(node: &NodeStatus) -> bool {
    matches!(node.state, NodeState::Up | NodeState::SlowStart)
}

fn is_drained(cluster: &ClusterFacts) -> bool {
    let drained = |node: &NodeStatus| node.state == NodeState::Drained;
    !cluster.nodes.is_empty() && cluster.nodes.iter().all(drained)
}

fn critical_if(is_critical: bool) -> Severity {
    if is_critical {
        Severity::Critical
    } else {
        Severity::Warning
    }
}

/// Clocks this close, in seconds, agree: signatures are accepted minutes away.
const CLOCK_TOLERANCE: u64 = 30;

/// How many access keys a cause names.
const SHOWN_KEYS: usize = 5;

/// How many nodes or access keys the details list.
const MAX_DETAILS: usize = 40;

/// Ceilings that a cause names.
const MAX_CEILINGS: usize = 4;
