use proptest::prelude::*;

use super::*;

fn views(weights: &[u32]) -> Vec<NodeView> {
    let weights = weights.iter().enumerate();
    weights
        .map(|(index, &weight)| NodeView {
            in_flight: 0,
            weight,
            weight_share: 1.0,
            hash_seed: stable_hash(&index.to_le_bytes()),
        })
        .collect()
}

/// Returns how many of `turns` choices each node got, without requests in flight.
fn counts(
    views: &[NodeView],
    turns: u64,
    mut choose: impl FnMut(u64) -> Option<usize>,
) -> Vec<f64> {
    let mut counts = vec![0.0; views.len()];
    for turn in 0..turns {
        counts[choose(splitmix64_finalizer(turn + 1)).unwrap()] += 1.0;
    }
    counts
}

/// Whether the counts are within 5 % of the weights.
fn is_fair(views: &[NodeView], counts: &[f64]) -> bool {
    let weights: f64 = views.iter().map(NodeView::capacity).sum();
    let turns: f64 = counts.iter().sum();
    views.iter().zip(counts).all(|(view, count)| {
        let expected = turns * view.capacity() / weights;
        (count - expected).abs() <= 0.05 * expected
    })
}

#[test]
fn an_idle_cluster_is_used_by_weight() {
    for weights in [&[1, 1][..], &[1, 2], &[5, 1, 1], &[1, 2, 3, 4]] {
        let views = views(weights);
        let turns = LowDiscrepancySequence::new();
        let used = counts(&views, 1000, |random| {
            least_request(&views, turns.next(), random as u32)
        });
        assert!(
            is_fair(&views, &used),
            "least-request {weights:?}: {used:?}"
        );
        let used = counts(&views, 100_000, |key| consistent_hash(&views, key));
        assert!(
            is_fair(&views, &used),
            "consistent-hash {weights:?}: {used:?}"
        );
        let mut current_weights = vec![0.0; views.len()];
        let used = counts(&views, 10_000, |_| {
            round_robin(&views, &mut current_weights)
        });
        assert!(is_fair(&views, &used), "round-robin {weights:?}: {used:?}");
    }
}

#[test]
fn requests_in_flight_settle_by_weight() {
    let mut views = views(&[1, 3]);
    for random in 0..4000 {
        let random = splitmix64_finalizer(random);
        let chosen = least_request(&views, (random >> 32) as u32, random as u32).unwrap();
        views[chosen].in_flight += 1;
    }
    assert!(
        (views[1].in_flight as f64 / 3000.0 - 1.0).abs() < 0.05,
        "{views:?}"
    );
}

/// Sixteen concurrent requests of equal duration: every choice ends the oldest one.
#[test]
fn a_cluster_at_work_is_used_by_weight() {
    for weights in [&[1, 2, 3][..], &[1, 1, 1], &[1, 1, 2]] {
        let mut views = views(weights);
        let mut in_flight = std::collections::VecDeque::new();
        let turns = LowDiscrepancySequence::new();
        let used = counts(&views.clone(), 6000, |random| {
            if in_flight.len() == 16 {
                let oldest: usize = in_flight.pop_front().unwrap();
                views[oldest].in_flight -= 1;
            }
            let chosen = least_request(&views, turns.next(), random as u32)?;
            views[chosen].in_flight += 1;
            in_flight.push_back(chosen);
            Some(chosen)
        });
        let total: u32 = weights.iter().sum();
        for (&weight, used) in weights.iter().zip(&used) {
            let part = used / 6000.0 - f64::from(weight) / f64::from(total);
            assert!(part.abs() < 0.02, "{weights:?}: {used:?}");
        }
    }
}

#[test]
fn a_node_with_a_request_in_flight_gets_the_next_one_last() {
    let mut views = views(&[1, 1]);
    views[0].in_flight = 1;
    for random in 0..100 {
        let random = splitmix64_finalizer(random);
        let chosen = least_request(&views, (random >> 32) as u32, random as u32);
        assert_eq!(chosen, Some(1));
    }
}

#[test]
fn round_robin_is_smooth() {
    let views = views(&[5, 1, 1]);
    let mut current_weights = vec![0.0; 3];
    let turns: Vec<_> = (0..7)
        .map(|_| round_robin(&views, &mut current_weights).unwrap())
        .collect();
    assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn a_node_under_flow_control_gets_a_tenth() {
    let mut views = views(&[1, 1]);
    views[0].weight_share = 0.1;
    let used = counts(&views, 100_000, |random| {
        least_request(&views, (random >> 32) as u32, random as u32)
    });
    assert!(is_fair(&views, &used), "{used:?}");
}

#[test]
fn a_node_that_leaves_moves_only_its_own_keys() {
    let all = views(&[1, 2, 1, 3]);
    for key in 0..2000 {
        let before = consistent_hash(&all, key).unwrap();
        let after = consistent_hash(&all[..3], key).unwrap();
        assert!(before == 3 || before == after);
    }
}

#[test]
fn one_hot_key_does_not_overload_one_node() {
    let mut views = views(&[1, 1, 1, 1]);
    for _ in 0..1000 {
        let chosen = consistent_hash(&views, 42).unwrap();
        views[chosen].in_flight += 1;
    }
    let most = views.iter().map(|view| view.in_flight).max().unwrap();
    assert!(most <= 313, "{views:?}");
}

#[test]
fn without_nodes_there_is_no_choice() {
    assert_eq!(least_request(&[], 1, 1), None);
    assert_eq!(consistent_hash(&[], 1), None);
    assert_eq!(round_robin(&[], &mut []), None);
}

proptest! {
    #[test]
    fn every_policy_chooses_one_of_them(
        nodes in prop::collection::vec((0usize..100, 1u32..1001, 1u8..=10), 1..20),
        random in any::<u64>(),
    ) {
        let views: Vec<_> = nodes.iter().enumerate().map(|(index, &(in_flight, weight, share))| NodeView {
            in_flight,
            weight,
            weight_share: f64::from(share) / 10.0,
            hash_seed: stable_hash(&index.to_le_bytes()),
        }).collect();
        let mut current_weights = vec![0.0; views.len()];
        for chosen in [
            least_request(&views, (random >> 32) as u32, random as u32),
            consistent_hash(&views, random),
            round_robin(&views, &mut current_weights),
        ] {
            prop_assert!(chosen.is_some_and(|chosen| chosen < views.len()));
        }
    }
}
