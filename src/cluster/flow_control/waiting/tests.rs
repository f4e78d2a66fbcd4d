use super::super::FlowOutcome;
use super::*;
use crate::cluster::tests::settings;

const NOW: fn() -> Instant = || *BEGAN;

static BEGAN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(|| {
    #[expect(clippy::disallowed_methods, reason = "some time")]
    Instant::now()
});

fn choice(access_key: &str) -> Choice<'_> {
    Choice {
        hash_key: 0,
        tried: &[],
        avoided: &[],
        flow: Some(FlowRequest {
            class: FlowClass::Query,
            access_key: Some(access_key),
            beyond_bound: false,
        }),
        now: NOW(),
    }
}

/// A cluster whose nodes take one request at once, with the guards of those that they have.
fn full_cluster(nodes: &[&str], max_queue: usize) -> (Arc<Cluster>, Vec<NodeGuard>) {
    let mut settings = settings(nodes);
    settings.flow_control.max_queue = max_queue;
    let cluster = Cluster::new(settings);
    let flow = choice("a").flow.unwrap();
    let mut held = Vec::new();
    for _ in nodes {
        let others: Vec<_> = held
            .iter()
            .map(|guard: &NodeGuard| guard.node().id())
            .collect();
        let tried = Choice {
            tried: &others,
            ..choice("a")
        };
        let first = cluster.pick_first(tried).unwrap();
        let only = [others.clone(), all_but(&cluster, &first)].concat();
        let second = cluster.pick_first(Choice {
            tried: &only,
            ..choice("a")
        });
        second
            .unwrap()
            .record_flow(&flow, FlowOutcome::Refused, NOW());
        held.push(first);
    }
    (cluster, held)
}

fn all_but(cluster: &Cluster, guard: &NodeGuard) -> Vec<NodeId> {
    let nodes = cluster.nodes();
    let ids = nodes.iter().map(|node| node.id());
    ids.filter(|id| *id != guard.node().id()).collect()
}

fn enqueue(cluster: &Arc<Cluster>, access_key: &str) -> Waiter {
    Waiter::enqueue(cluster, &choice(access_key), access_key.into()).unwrap()
}

/// Lets a woken waiter look for places; returns its own.
fn look(waiter: &Waiter) -> Option<WaitEnd> {
    waiter.look_for_places(NOW());
    match waiter.poll(Waker::noop()) {
        Poll::Ready(end) => end,
        Poll::Pending => None,
    }
}

fn is_woken(waiter: &Waiter) -> bool {
    matches!(waiter.poll(Waker::noop()), Poll::Ready(None))
}

fn place(waiter: &Waiter) -> NodeGuard {
    match look(waiter) {
        Some(WaitEnd::Place(place)) => place,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_place_is_handed_on_in_turn_over_access_keys() {
    let (cluster, mut held) = full_cluster(&["10.0.0.1"], 9);
    assert!(cluster.pick_first(choice("a")).is_none() && cluster.is_at_bound(choice("a")));
    let waiters = [
        enqueue(&cluster, "a"),
        enqueue(&cluster, "a"),
        enqueue(&cluster, "b"),
    ];
    assert_eq!(cluster.waiters(), 3);
    assert!(waiters.iter().all(|waiter| look(waiter).is_none()));
    let _ = waiters.iter().map(is_woken).count();
    held.clear();
    assert_eq!(waiters.each_ref().map(is_woken), [true, false, false]);
    let first = place(&waiters[0]);
    drop(first);
    assert!(is_woken(&waiters[2]), "the other access key's turn");
    let second = place(&waiters[2]);
    assert_eq!(cluster.waiters(), 1);
    drop(second);
    drop(place(&waiters[1]));
    assert_eq!(cluster.waiters(), 0);
}

#[test]
fn a_place_that_is_not_taken_goes_to_the_next() {
    let (cluster, mut held) = full_cluster(&["10.0.0.1"], 9);
    let (one, two) = (enqueue(&cluster, "a"), enqueue(&cluster, "a"));
    held.clear();
    // Handed over, but its client has gone.
    one.look_for_places(NOW());
    assert!(cluster.pick_first(choice("a")).is_none());
    drop(one);
    assert!(is_woken(&two));
    drop(place(&two));
    assert!(cluster.pick_first(choice("a")).is_some());
}

#[test]
fn the_newest_of_the_most_leaves_a_full_queue() {
    let (cluster, _held) = full_cluster(&["10.0.0.1"], 2);
    let (_one, two) = (enqueue(&cluster, "a"), enqueue(&cluster, "a"));
    let three = enqueue(&cluster, "b");
    assert!(matches!(look(&two), Some(WaitEnd::Evicted)));
    assert!(look(&three).is_none());
    assert_eq!(cluster.waiters(), 2);
}

#[test]
fn one_node_with_room_is_enough() {
    let (cluster, mut held) = full_cluster(&["10.0.0.1", "10.0.0.2"], 9);
    let waiter = enqueue(&cluster, "a");
    assert!(look(&waiter).is_none());
    let free = held.pop().unwrap().node().id();
    assert_eq!(place(&waiter).node().id(), free);
    let beyond = cluster.pick_most_room(choice("a")).unwrap();
    assert_eq!(beyond.node().id(), free);
}

#[test]
fn nothing_is_learned_from_an_unverified_request() {
    let cluster = Cluster::new(settings(&["10.0.0.1"]));
    let unverified = FlowRequest {
        access_key: None,
        ..choice("a").flow.unwrap()
    };
    let choice = Choice {
        flow: Some(unverified),
        ..choice("a")
    };
    let _first = cluster.pick_first(choice).unwrap();
    let guard = cluster.pick_first(choice).unwrap();
    guard.record_flow(&unverified, FlowOutcome::Refused, NOW());
    assert!(!guard.is_learning());
}
