use proptest::prelude::*;

use super::*;

const EJECTION: Ejection = Ejection {
    consecutive_failures: 3,
    base_time: Duration::from_secs(10),
    max_time: Duration::from_secs(60),
    max_ejected: 50,
    slow_start: Duration::from_secs(20),
    panic_threshold: 50,
    result_codes: Vec::new(),
};

const FAILED: Outcome = Outcome::Failure(Fault::Broken);

/// A node and its clock.
struct Patient {
    health: Health,
    now: Instant,
    check: HealthCheck,
}

impl Patient {
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

    fn see(&mut self, outcome: Outcome) -> Option<Change> {
        let rules = Rules {
            ejection: &EJECTION,
            check: Some(&self.check),
        };
        self.health.observe(outcome, self.now, rules, true)
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn usable(&self) -> bool {
        self.health.usable(self.now)
    }

    fn share(&self) -> f64 {
        self.health.share(self.now, EJECTION.slow_start)
    }
}

fn ejected(seconds: u64) -> Option<Change> {
    Some(Change::Ejected(Duration::from_secs(seconds)))
}

#[test]
fn failures_in_a_row_eject_and_a_success_forgets_them() {
    let mut node = Patient::new();
    for _ in 0..5 {
        assert_eq!((node.see(FAILED), node.see(FAILED)), (None, None));
        assert_eq!(node.see(Outcome::Success), None);
    }
    assert_eq!((node.see(FAILED), node.see(FAILED)), (None, None));
    assert_eq!(node.see(FAILED), ejected(10));
    assert!(!node.usable());
    node.wait(10);
    assert!(node.usable());
}

#[test]
fn each_time_out_in_a_row_is_twice_as_long_until_the_longest() {
    let mut node = Patient::new();
    for _ in 0..2 {
        node.see(FAILED);
    }
    for seconds in [10, 20, 40, 60, 60, 60] {
        // The first failure after a time out is enough.
        assert_eq!(node.see(FAILED), ejected(seconds));
        assert_eq!(node.see(FAILED), None, "it is away already");
        node.wait(seconds);
    }
    // Well for as long as it was away: a fresh start.
    assert_eq!(node.see(Outcome::Success), None);
    node.wait(60);
    assert_eq!(node.see(Outcome::Success), None);
    assert_eq!((node.see(FAILED), node.see(FAILED)), (None, None));
    assert_eq!(node.see(FAILED), ejected(10));
}

#[test]
fn who_answers_while_away_is_back() {
    let mut node = Patient::new();
    for _ in 0..3 {
        node.see(FAILED);
    }
    assert_eq!(node.see(Outcome::Success), Some(Change::Restored));
    assert!(node.usable());
}

#[test]
fn a_node_comes_back_slowly() {
    let mut node = Patient::new();
    for _ in 0..3 {
        node.see(FAILED);
    }
    node.wait(10);
    assert_eq!(node.share(), 0.1);
    node.wait(10);
    assert_eq!(node.share(), 0.5);
    node.wait(10);
    assert_eq!(node.share(), 1.0);
}

#[test]
fn a_busy_node_is_spared_for_a_moment_but_is_well() {
    let mut node = Patient::new();
    node.see(Outcome::Busy);
    assert!(node.usable());
    assert_eq!(node.share(), 0.1);
    node.wait(1);
    assert_eq!(node.share(), 1.0);
    assert!(node.health.is_spotless(node.now, EJECTION.slow_start));
}

#[test]
fn probes_flip_a_node_only_in_a_row() {
    let mut node = Patient::new();
    let dead = Outcome::ProbeFailure(Fault::Unreachable);
    for outcome in [dead, dead, Outcome::ProbeSuccess, dead, dead] {
        assert_eq!(node.see(outcome), None);
    }
    assert_eq!(node.see(dead), Some(Change::Down));
    assert!(!node.usable());
    assert_eq!(node.see(Outcome::Success), None, "only probes take it back");
    for outcome in [Outcome::ProbeSuccess, dead, Outcome::ProbeSuccess] {
        assert_eq!(node.see(outcome), None);
    }
    assert_eq!(node.see(Outcome::ProbeSuccess), Some(Change::Up));
    assert!(node.usable());
}

proptest! {
    #[test]
    fn a_spotless_node_is_usable_with_its_full_share(
        steps in prop::collection::vec((0u64..30, 0usize..5), 0..100)
    ) {
        let mut node = Patient::new();
        for (pause, step) in steps {
            node.wait(pause);
            node.see([
                Outcome::Success,
                Outcome::Busy,
                FAILED,
                Outcome::ProbeSuccess,
                Outcome::ProbeFailure(Fault::Timeout),
            ][step]);
            let share = node.share();
            prop_assert!(share > 0.0 && share <= 1.0);
            if node.health.is_spotless(node.now, EJECTION.slow_start) {
                prop_assert!(node.usable() && share == 1.0);
            }
        }
    }
}
