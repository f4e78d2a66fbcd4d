use proptest::prelude::*;

use super::*;

fn share(index: usize, weight: u32, weight_share: f64) -> Share {
    Share {
        weight,
        weight_share,
        hash_seed: stable_hash(&index.to_le_bytes()),
    }
}

fn shares(weights: &[u32]) -> Shares {
    let weights = weights.iter().enumerate();
    weights
        .map(|(index, &weight)| share(index, weight, 1.0))
        .collect()
}

/// Random numbers that are the same in every run.
fn numbers(seed: u64) -> impl FnMut() -> u32 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (splitmix64_finalizer(state) >> 32) as u32
    }
}

fn least_request(shares: &Shares, in_flight: &[usize], turn: u32, seed: u64) -> Option<usize> {
    let is_better = has_fewer_requests(shares, |at: usize| in_flight[at]);
    power_of_two_choices(shares, turn, numbers(seed), is_better, |_| true)
}

fn hashed(shares: &Shares, in_flight: &[usize], key: u64) -> Option<usize> {
    consistent_hash(shares, key, |at| in_flight[at], |_| true)
}

/// Returns how many of `turns` choices each node got.
fn counts(nodes: usize, turns: u64, mut choose: impl FnMut(u64) -> Option<usize>) -> Vec<f64> {
    let mut counts = vec![0.0; nodes];
    for turn in 0..turns {
        counts[choose(splitmix64_finalizer(turn + 1)).unwrap()] += 1.0;
    }
    counts
}

/// Whether the counts are within 5 % of the weights.
fn is_fair(shares: &Shares, counts: &[f64]) -> bool {
    let turns: f64 = counts.iter().sum();
    counts.iter().enumerate().all(|(at, count)| {
        let expected = turns * shares.capacity(at) / shares.total();
        (count - expected).abs() <= 0.05 * expected
    })
}

#[test]
fn an_idle_cluster_is_used_by_weight() {
    for weights in [&[1, 1][..], &[1, 2], &[5, 1, 1], &[1, 2, 3, 4]] {
        let (shares, idle) = (shares(weights), vec![0; weights.len()]);
        let turns = LowDiscrepancySequence::new();
        let used = counts(idle.len(), 1000, |seed| {
            least_request(&shares, &idle, turns.next(), seed)
        });
        assert!(
            is_fair(&shares, &used),
            "least-request {weights:?}: {used:?}"
        );
        let used = counts(idle.len(), 100_000, |key| hashed(&shares, &idle, key));
        assert!(
            is_fair(&shares, &used),
            "consistent-hash {weights:?}: {used:?}"
        );
        let mut current_weights = vec![0.0; idle.len()];
        let used = counts(idle.len(), 10_000, |_| {
            round_robin(&shares, &mut current_weights, |_| true)
        });
        assert!(is_fair(&shares, &used), "round-robin {weights:?}: {used:?}");
    }
}

#[test]
fn requests_in_flight_settle_by_weight() {
    let shares = shares(&[1, 3]);
    let mut in_flight = [0, 0];
    for seed in 0..4000 {
        let turn = splitmix64_finalizer(seed) as u32;
        in_flight[least_request(&shares, &in_flight, turn, seed).unwrap()] += 1;
    }
    let part = in_flight[1] as f64 / 3000.0;
    assert!((part - 1.0).abs() < 0.05, "{in_flight:?}");
}

/// Sixteen concurrent requests of equal duration: every choice ends the oldest one.
#[test]
fn a_cluster_at_work_is_used_by_weight() {
    for weights in [&[1, 2, 3][..], &[1, 1, 1], &[1, 1, 2]] {
        let shares = shares(weights);
        let mut in_flight = vec![0; weights.len()];
        let mut order = std::collections::VecDeque::new();
        let turns = LowDiscrepancySequence::new();
        let used = counts(weights.len(), 6000, |seed| {
            if order.len() == 16 {
                let oldest: usize = order.pop_front().unwrap();
                in_flight[oldest] -= 1;
            }
            let chosen = least_request(&shares, &in_flight, turns.next(), seed)?;
            in_flight[chosen] += 1;
            order.push_back(chosen);
            Some(chosen)
        });
        let total: u32 = weights.iter().sum();
        for (&weight, used) in weights.iter().zip(&used) {
            let part = used / 6000.0 - f64::from(weight) / f64::from(total);
            assert!(part.abs() < 0.02, "{weights:?}: {used:?}");
        }
    }
}

/// Sixteen concurrent requests: each choice ends the one that has the least time left.
#[test]
fn by_time_a_slow_node_gets_little_and_equal_nodes_are_used_by_weight() {
    for (weights, times, expected) in [
        (&[1, 1, 1][..], &[1.0_f32, 1.0, 10.0], &[0.49, 0.49, 0.02]),
        (&[1, 1, 2], &[1.0, 1.0, 1.0], &[0.25, 0.25, 0.5]),
    ] {
        let shares = shares(weights);
        let mut ends: Vec<Vec<f32>> = vec![Vec::new(); weights.len()];
        let turns = LowDiscrepancySequence::new();
        let mut clock = 0.0_f32;
        let used = counts(weights.len(), 6000, |seed| {
            if ends.iter().map(Vec::len).sum::<usize>() == 4 {
                clock = ends.iter().flatten().copied().fold(f32::MAX, f32::min);
                for ends in &mut ends {
                    ends.retain(|end| *end > clock);
                }
            }
            let in_flight = |at: usize| ends[at].len();
            let is_better = has_less_time(&shares, in_flight, |at| times[at]);
            let turn = turns.next();
            let chosen = power_of_two_choices(&shares, turn, numbers(seed), is_better, |_| true)?;
            ends[chosen].push(clock + times[chosen]);
            Some(chosen)
        });
        for (used, expected) in used.iter().zip(expected) {
            let share = used / 6000.0;
            assert!((share - expected).abs() < 0.04, "{weights:?}: {share}");
        }
    }
}

#[test]
fn a_node_with_a_request_in_flight_gets_the_next_one_last() {
    let shares = shares(&[1, 1]);
    for seed in 0..100 {
        let turn = splitmix64_finalizer(seed) as u32;
        assert_eq!(least_request(&shares, &[1, 0], turn, seed), Some(1));
    }
}

#[test]
fn round_robin_is_smooth() {
    let shares = shares(&[5, 1, 1]);
    let mut current_weights = vec![0.0; 3];
    let turns: Vec<_> = (0..7)
        .map(|_| round_robin(&shares, &mut current_weights, |_| true).unwrap())
        .collect();
    assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn a_node_that_was_passed_over_does_not_make_up_for_it() {
    let shares = shares(&[1, 1, 1]);
    let mut current_weights = vec![0.0; 3];
    let mut turn = |but: usize| round_robin(&shares, &mut current_weights, |at| at != but).unwrap();
    let without: Vec<_> = (0..30).map(|_| turn(1)).collect();
    assert!(!without.contains(&1));
    let with: Vec<_> = (0..6).map(|_| turn(9)).collect();
    assert!(with.iter().filter(|at| **at == 1).count() <= 3, "{with:?}");
}

#[test]
fn a_node_under_flow_control_gets_a_tenth() {
    let shares: Shares = [share(0, 1, 0.1), share(1, 1, 1.0)].into_iter().collect();
    let used = counts(2, 100_000, |seed| {
        least_request(&shares, &[0, 0], (seed >> 32) as u32, seed)
    });
    assert!(is_fair(&shares, &used), "{used:?}");
}

#[test]
fn a_node_that_leaves_moves_only_its_own_keys() {
    for weights in [&[1, 2, 1, 3][..], &[2, 2, 2, 2]] {
        let (all, fewer) = (shares(weights), shares(&weights[..3]));
        for key in 0..2000 {
            let before = hashed(&all, &[0; 4], key).unwrap();
            let after = hashed(&fewer, &[0; 3], key).unwrap();
            assert!(before == 3 || before == after);
        }
    }
}

#[test]
fn one_hot_key_does_not_overload_one_node() {
    let shares = shares(&[1, 1, 1, 1]);
    let mut in_flight = [0; 4];
    for _ in 0..1000 {
        in_flight[hashed(&shares, &in_flight, 42).unwrap()] += 1;
    }
    assert!(in_flight.iter().all(|&most| most <= 313), "{in_flight:?}");
}

#[test]
fn without_eligible_nodes_there_is_no_choice() {
    for shares in [shares(&[]), shares(&[1, 2])] {
        let mut current_weights = vec![0.0; shares.len()];
        let none = |_: usize| false;
        assert_eq!(
            power_of_two_choices(&shares, 1, numbers(1), |_, _| true, none),
            None
        );
        assert_eq!(consistent_hash(&shares, 1, |_| 0, none), None);
        assert_eq!(round_robin(&shares, &mut current_weights, none), None);
    }
}

proptest! {
    #[test]
    fn every_policy_chooses_an_eligible_one(
        nodes in prop::collection::vec((0usize..100, 1u32..1001, 1u8..=10, any::<bool>()), 1..20),
        random in any::<u64>(),
    ) {
        let shares: Shares = nodes
            .iter()
            .enumerate()
            .map(|(index, node)| share(index, node.1, f64::from(node.2) / 10.0))
            .collect();
        let eligible = |at: usize| nodes[at].3;
        let in_flight = |at: usize| nodes[at].0;
        let fewer = has_fewer_requests(&shares, in_flight);
        let less = has_less_time(&shares, in_flight, |at| nodes[at].1 as f32);
        let mut current_weights = vec![0.0; nodes.len()];
        let is_any = nodes.iter().any(|node| node.3);
        for chosen in [
            power_of_two_choices(&shares, (random >> 32) as u32, numbers(random), fewer, eligible),
            power_of_two_choices(&shares, (random >> 32) as u32, numbers(random), less, eligible),
            consistent_hash(&shares, random, |at| nodes[at].0, eligible),
            round_robin(&shares, &mut current_weights, eligible),
        ] {
            prop_assert_eq!(chosen.is_some(), is_any);
            prop_assert!(chosen.is_none_or(eligible));
        }
    }

    #[test]
    fn a_draw_is_never_the_position_that_is_left_out(
        weights in prop::collection::vec(1u32..1001, 2..20), random in any::<u32>(), except in any::<usize>(),
    ) {
        let shares = shares(&weights);
        let except = except % weights.len();
        let drawn = shares.draw(random, Some(except));
        prop_assert!(drawn.is_some_and(|drawn| drawn != except && drawn < weights.len()));
    }
}
