use proptest::prelude::*;

use super::*;

const EJECTION: EjectionSettings = EjectionSettings {
    consecutive_failures: 3,
    base_time: Duration::from_secs(10),
    max_time: Duration::from_secs(60),
    max_ejected: 50,
    slow_start: Duration::from_secs(20),
    panic_threshold: 50,
    result_codes: Vec::new(),
};

const FAILED: NodeOutcome = NodeOutcome::Failure(FailureKind::ConnectionClosed);

/// A node and its clock.
struct TestNode {
    health: Health,
    now: Instant,
    check: HealthCheck,
}

impl TestNode {
    fn new() -> Self {
        Self {
            health: Health::default(),
            now: tokio::time::Instant::now().into_std(),
            check: HealthCheck {
                interval: Duration::from_secs(2),
                timeout: Duration::from_secs(1),
                path: "/".into(),
                unhealthy_after: 3,
                healthy_after: 2,
                signed: None,
            },
        }
    }

    fn record(&mut self, outcome: NodeOutcome) -> Option<HealthChange> {
        let rules = HealthPolicy {
            ejection: &EJECTION,
            health_check: Some(&self.check),
        };
        self.health.record(outcome, self.now, rules, true).change
    }

    fn advance(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn usable(&self) -> bool {
        self.health.is_usable(self.now)
    }

    fn share(&self) -> f64 {
        self.health.weight_share(self.now, EJECTION.slow_start)
    }
}

fn ejected(seconds: u64) -> Option<HealthChange> {
    Some(HealthChange::Ejected(Duration::from_secs(seconds)))
}

#[test]
fn failures_in_a_row_eject_and_a_success_resets_them() {
    let mut node = TestNode::new();
    for _ in 0..5 {
        assert_eq!((node.record(FAILED), node.record(FAILED)), (None, None));
        assert_eq!(node.record(NodeOutcome::Success), None);
    }
    assert_eq!((node.record(FAILED), node.record(FAILED)), (None, None));
    assert_eq!(node.record(FAILED), ejected(10));
    assert!(!node.usable());
    node.advance(10);
    assert!(node.usable());
}

#[test]
fn each_ejection_in_a_row_is_twice_as_long_up_to_the_maximum() {
    let mut node = TestNode::new();
    for _ in 0..2 {
        node.record(FAILED);
    }
    for seconds in [10, 20, 40, 60, 60, 60] {
        // After an ejection one failure is enough.
        assert_eq!(node.record(FAILED), ejected(seconds));
        assert_eq!(node.record(FAILED), None, "it is ejected already");
        node.advance(seconds);
    }
    // Healthy for as long as it was ejected: the count of ejections starts anew.
    assert_eq!(node.record(NodeOutcome::Success), None);
    node.advance(60);
    assert_eq!(node.record(NodeOutcome::Success), None);
    assert_eq!((node.record(FAILED), node.record(FAILED)), (None, None));
    assert_eq!(node.record(FAILED), ejected(10));
}

#[test]
fn a_success_while_ejected_ends_the_ejection() {
    let mut node = TestNode::new();
    for _ in 0..3 {
        node.record(FAILED);
    }
    assert_eq!(
        node.record(NodeOutcome::Success),
        Some(HealthChange::Returned)
    );
    assert!(node.usable());
}

#[test]
fn a_returning_node_is_in_slow_start() {
    let mut node = TestNode::new();
    for _ in 0..3 {
        node.record(FAILED);
    }
    node.advance(10);
    assert_eq!(node.share(), 0.1);
    node.advance(10);
    assert_eq!(node.share(), 0.5);
    node.advance(10);
    assert_eq!(node.share(), 1.0);
}

#[test]
fn flow_control_reduces_the_share_for_a_moment() {
    let mut node = TestNode::new();
    node.record(NodeOutcome::FlowControlled);
    assert!(node.usable());
    assert_eq!(node.share(), 0.1);
    node.advance(1);
    assert_eq!(node.share(), 1.0);
    assert!(node.health.is_untroubled(node.now, EJECTION.slow_start));
}

#[test]
fn only_probe_results_in_a_row_change_the_state() {
    let mut node = TestNode::new();
    let failure = NodeOutcome::ProbeFailure(FailureKind::ConnectFailed);
    for outcome in [
        failure,
        failure,
        NodeOutcome::ProbeSuccess,
        failure,
        failure,
    ] {
        assert_eq!(node.record(outcome), None);
    }
    assert_eq!(node.record(failure), Some(HealthChange::Down));
    assert!(!node.usable());
    assert_eq!(
        node.record(NodeOutcome::Success),
        None,
        "only probes make it usable again"
    );
    for outcome in [
        NodeOutcome::ProbeSuccess,
        failure,
        NodeOutcome::ProbeSuccess,
    ] {
        assert_eq!(node.record(outcome), None);
    }
    assert_eq!(
        node.record(NodeOutcome::ProbeSuccess),
        Some(HealthChange::Up)
    );
    assert!(node.usable());
}

proptest! {
    #[test]
    fn an_untroubled_node_is_usable_with_its_full_share(
        steps in prop::collection::vec((0u64..30, 0usize..5), 0..100)
    ) {
        let mut node = TestNode::new();
        for (pause, step) in steps {
            node.advance(pause);
            node.record([
                NodeOutcome::Success,
                NodeOutcome::FlowControlled,
                FAILED,
                NodeOutcome::ProbeSuccess,
                NodeOutcome::ProbeFailure(FailureKind::Timeout),
            ][step]);
            let share = node.share();
            prop_assert!(share > 0.0 && share <= 1.0);
            if node.health.is_untroubled(node.now, EJECTION.slow_start) {
                prop_assert!(node.usable() && share == 1.0);
            }
        }
    }
}
