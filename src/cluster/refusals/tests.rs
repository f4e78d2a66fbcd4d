use super::super::tests::{THREE, choice, now, settings};
use super::super::{Cluster, EjectionReason, NodeState};
use super::*;

/// A cluster of three nodes, and what is said about them.
struct TestCluster {
    cluster: Arc<Cluster>,
    nodes: Vec<Arc<Node>>,
    now: Instant,
}

impl TestCluster {
    fn new() -> Self {
        let cluster = Cluster::new(settings(&THREE));
        Self {
            nodes: cluster.nodes(),
            cluster,
            now: now(),
        }
    }

    fn advise(&self, key: &str) -> RefusalAdvice {
        self.cluster.advise(key, self.now).unwrap_or_default()
    }

    /// Records an outcome; returns the places of the nodes that are ejected for it.
    fn record(&self, key: &str, node: usize, outcome: SignatureOutcome) -> Vec<usize> {
        let ejected =
            self.cluster
                .record_signature(&key.into(), &self.nodes[node], outcome, self.now);
        let place = |ejected: &Arc<Node>| self.nodes.iter().position(|it| it.id() == ejected.id());
        ejected.iter().filter_map(|(node, _)| place(node)).collect()
    }

    fn advance(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }
}

const NOBODY: [usize; 0] = [];

use SignatureOutcome::{Accepted, Forbidden, Refused, RefusedFromClient};

#[test]
fn a_node_that_refuses_what_another_accepts_is_avoided_for_that_key() {
    let mut test = TestCluster::new();
    for key in ["a", "b", "c"] {
        assert!(test.cluster.advise(key, test.now).is_none());
    }
    let bad = test.nodes[0].id();
    assert_eq!(test.record("a", 0, RefusedFromClient), NOBODY);
    assert!(
        test.advise("a").signs_anew(bad),
        "to learn whether it is the node"
    );
    assert!(test.advise("a").avoided.is_empty());
    test.record("a", 0, Refused);
    assert!(
        test.advise("a").avoided.is_empty(),
        "no other one has accepted it"
    );
    test.record("a", 1, Accepted);
    assert_eq!(test.advise("a").avoided, [bad]);
    assert!(test.cluster.advise("b", test.now).is_none());
    let avoided = test.advise("a").avoided;
    for _ in 0..50 {
        let choice = super::super::Choice {
            flow: None,
            avoided: &avoided,
            ..choice(0, &[], test.now)
        };
        assert_ne!(test.cluster.pick_first(choice).unwrap().node().id(), bad);
        let others = [test.nodes[1].id(), test.nodes[2].id()];
        let last = super::super::Choice {
            flow: None,
            tried: &others,
            ..choice
        };
        assert!(test.cluster.pick_first(last).is_some(), "better than none");
    }
    test.advance(61);
    assert!(test.cluster.advise("a", test.now).is_none(), "forgotten");
}

#[test]
fn three_keys_eject_a_node_at_once() {
    let test = TestCluster::new();
    let keys = ["a", "b", "c", "d"];
    for key in keys {
        test.cluster.advise(key, test.now);
    }
    for key in &keys[..2] {
        test.record(key, 0, Refused);
        assert_eq!(test.record(key, 1, Accepted), NOBODY);
    }
    test.record("c", 0, Refused);
    assert_eq!(test.record("c", 1, Accepted), [0]);
    let status = &test.cluster.node_statuses(test.now)[0];
    assert_eq!(status.state, NodeState::Ejected);
    assert_eq!(
        status.ejection_reason,
        Some(EjectionReason::RefusesSignatures)
    );
    let refusals = test.cluster.signature_refusals(test.now);
    assert_eq!(refusals.len(), 3);
    assert!(
        refusals
            .iter()
            .all(|it| it.is_accepted_elsewhere && it.count == 1)
    );
}

#[test]
fn the_only_keys_that_ask_eject_a_node_after_a_moment() {
    let mut test = TestCluster::new();
    test.cluster.advise("a", test.now);
    test.cluster.advise("b", test.now);
    test.record("a", 0, Refused);
    test.record("a", 1, Accepted);
    test.advance(2);
    assert_eq!(test.record("a", 1, Accepted), NOBODY, "b was not refused");
    test.record("b", 0, Refused);
    test.record("b", 2, Accepted);
    test.advance(2);
    assert_eq!(test.record("b", 2, Accepted), [0]);
    test.advance(10);
    let status = &test.cluster.node_statuses(test.now)[0];
    assert_eq!(status.state, NodeState::Up, "it comes back");
    assert!(
        test.advise("a").avoided.is_empty(),
        "and is not avoided then"
    );
}

#[test]
fn a_key_that_one_node_knows_ejects_nobody() {
    let mut test = TestCluster::new();
    for key in ["a", "b", "lonely"] {
        test.cluster.advise(key, test.now);
    }
    for _ in 0..20 {
        for (node, outcome) in [(0, Refused), (1, Refused), (2, Accepted)] {
            assert_eq!(test.record("lonely", node, outcome), NOBODY);
        }
        test.advance(1);
    }
    let avoided = test.advise("lonely").avoided;
    assert_eq!(avoided.len(), 2);
    assert!(!avoided.contains(&test.nodes[2].id()));
}

#[test]
fn a_key_that_two_nodes_refused_gets_one_attempt_at_each_in_turn() {
    let mut test = TestCluster::new();
    test.cluster.advise("a", test.now);
    test.record("a", 0, Refused);
    assert!(!test.advise("a").one_attempt);
    test.advance(1);
    test.record("a", 1, Refused);
    assert!(test.advise("a").one_attempt);
    let avoided = test.advise("a").avoided;
    assert_eq!(avoided, [test.nodes[1].id(), test.nodes[0].id()]);
    test.advance(1);
    test.record("a", 2, Refused);
    let in_turn = super::super::Choice {
        flow: None,
        avoided: &test.advise("a").avoided,
        ..choice(0, &[], test.now)
    };
    let next = test.cluster.pick_first(in_turn).unwrap();
    assert_eq!(
        next.node().id(),
        test.nodes[0].id(),
        "the one refused longest ago"
    );
    test.record("a", 0, Accepted);
    assert!(!test.advise("a").one_attempt);
    test.record("a", 1, Refused);
    test.advance(11);
    assert!(!test.advise("a").one_attempt);
}

#[test]
fn a_403_is_only_counted() {
    let test = TestCluster::new();
    for _ in 0..5 {
        test.record("a", 0, Forbidden);
        assert_eq!(test.record("a", 1, Accepted), NOBODY);
    }
    let advice = test.advise("a");
    assert!(advice.avoided.is_empty() && !advice.signs_anew(test.nodes[0].id()));
    assert_eq!(test.cluster.signature_refusals(test.now)[0].count, 5);
}

#[test]
fn memory_is_bounded() {
    let test = TestCluster::new();
    for number in 0..3 * MAX_KEYS {
        test.record(&number.to_string(), 0, Refused);
    }
    assert_eq!(test.cluster.signature_refusals(test.now).len(), MAX_KEYS);
}
