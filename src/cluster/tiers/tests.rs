use std::time::Duration;

use super::super::tests::{FAILED, choice, now, settings};
use super::super::{NodeId, NodeOutcome};
use super::*;

/// Two nodes of priority 0 and two of priority 1.
fn two_tiers() -> Arc<Cluster> {
    let mut settings = settings(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]);
    for node in &mut settings.nodes[2..] {
        node.priority = 1;
    }
    Cluster::new(settings)
}

fn fallback() -> Arc<Cluster> {
    let mut settings = settings(&["10.9.0.1", "10.9.0.2"]);
    settings.name = "north".into();
    settings.ejection.max_ejected = 100;
    Cluster::new(settings)
}

/// The places of the nodes that first attempts choose.
fn picked(cluster: &Cluster, tried: &[NodeId], now: Instant) -> Vec<usize> {
    let nodes = cluster.nodes();
    let mut places: Vec<_> = (0..100)
        .filter_map(|_| cluster.pick_first(choice(0, tried, now)))
        .filter_map(|pick| nodes.iter().position(|node| node.id() == pick.node().id()))
        .collect();
    places.sort_unstable();
    places.dedup();
    places
}

#[test]
fn the_next_tier_serves_when_no_node_of_the_first_is_usable() {
    let cluster = two_tiers();
    let nodes = cluster.nodes();
    assert_eq!(picked(&cluster, &[], now()), [0, 1]);
    assert_eq!(cluster.serving(now()), Serving::FirstTier);
    cluster.record_outcome(&nodes[0], FAILED, now());
    assert_eq!(
        picked(&cluster, &[], now()),
        [1],
        "no panic: a further tier is left"
    );
    cluster.record_outcome(&nodes[1], FAILED, now());
    assert_eq!(picked(&cluster, &[], now()), [2, 3], "nor max_ejected");
    assert_eq!(cluster.serving(now()), Serving::Tier(1));
    assert!(!cluster.is_panicking(now()));

    // The last tier: max_ejected and panic hold.
    cluster.record_outcome(&nodes[2], FAILED, now());
    cluster.record_outcome(&nodes[3], FAILED, now());
    assert!(cluster.is_panicking(now()));
    assert_eq!(picked(&cluster, &[], now()), [2, 3]);
    let later = now() + Duration::from_secs(10);
    assert_eq!(picked(&cluster, &[], later), [0, 1], "back to the first");
}

#[test]
fn a_drained_tier_serves_nothing() {
    let cluster = two_tiers();
    for node in ["10.0.0.1:8443", "10.0.0.2:8443"] {
        cluster.drain_node(node);
    }
    assert_eq!(picked(&cluster, &[], now()), [2, 3]);
    assert_eq!(cluster.serving(now()), Serving::Tier(1));
    cluster.undrain_node("10.0.0.2:8443");
    assert_eq!(picked(&cluster, &[], now()), [1]);
}

#[test]
fn a_retry_goes_through_the_tiers_in_order() {
    let cluster = two_tiers();
    let ids: Vec<_> = cluster.nodes().iter().map(|node| node.id()).collect();
    let mut tried = Vec::new();
    while let Some(pick) = cluster.pick_for_retry(choice(0, &tried, now())) {
        tried.push(pick.node().id());
    }
    let place = |id: &NodeId| ids.iter().position(|it| it == id).unwrap();
    let order: Vec<_> = tried.iter().map(|id| place(id) / 2).collect();
    assert_eq!(order, [0, 0, 1, 1]);
}

#[test]
fn a_usable_fallback_ends_panic_and_max_ejected() {
    let (cluster, north) = (
        Cluster::new(settings(&["10.0.0.1", "10.0.0.2"])),
        fallback(),
    );
    cluster.set_fallback(&north);
    let nodes = cluster.nodes();
    for node in &nodes {
        cluster.record_outcome(node, FAILED, now());
    }
    assert_eq!(cluster.serving(now()), Serving::Fallback("north".into()));
    assert!(!cluster.is_usable(now()) && !cluster.is_panicking(now()));
    assert!(cluster.usable_fallback(now()).is_some());
    for node in north.nodes() {
        north.record_outcome(&node, FAILED, now());
    }
    assert_eq!(cluster.serving(now()), Serving::Nothing);
    assert!(cluster.is_panicking(now()), "nothing else is left");
    assert_eq!(picked(&cluster, &[], now()), [0, 1]);
    cluster.record_outcome(&nodes[0], NodeOutcome::Success, now());
    assert_eq!(cluster.serving(now()), Serving::FirstTier);
}
