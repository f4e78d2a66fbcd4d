use std::time::Duration;

use proptest::prelude::*;

use super::*;

pub(super) const FAILED: NodeOutcome = NodeOutcome::Failure(FailureKind::ConnectFailed);

pub(super) fn settings(nodes: &[&str]) -> ClusterSettings {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let tls = Arc::new(tls);
    ClusterSettings {
        flow_control: Default::default(),
        name: "c".into(),
        nodes: nodes
            .iter()
            .map(|host| NodeSettings {
                address: address(host),
                weight: 1,
                priority: 0,
            })
            .collect(),
        fallback: None,
        balance: Policy::LeastRequest,
        host: HostPolicy::Preserve,
        tls: tls.clone(),
        check_tls: tls,
        tls_digest: [0; 32],
        server_name: None,
        insecure_skip_verify: false,
        pins: Vec::new(),
        health_check: None,
        ejection: EjectionSettings {
            consecutive_failures: 1,
            base_time: Duration::from_secs(10),
            max_time: Duration::from_secs(300),
            max_ejected: 50,
            slow_start: Duration::ZERO,
            panic_threshold: 50,
            result_codes: Vec::new(),
        },
        retries: RetrySettings {
            budget_percent: 20,
            min_per_second: 3,
        },
        timeouts: Timeouts {
            connect: Duration::from_secs(1),
            per_try: Duration::from_secs(8),
            overall: Duration::from_secs(9),
            fetch: Duration::from_secs(60),
        },
        pool: PoolLimits {
            max_connections: 2,
            max_idle: 2,
            idle_timeout: Duration::from_secs(60),
            max_age: Duration::from_secs(600),
        },
    }
}

fn address(host: &str) -> NodeAddress {
    NodeAddress {
        host: host.into(),
        port: 8443,
    }
}

pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

pub(super) fn choice(hash_key: u64, tried: &[NodeId], now: Instant) -> Choice<'_> {
    Choice {
        flow: None,
        hash_key,
        tried,
        avoided: &[],
        now,
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) const THREE: [&str; 3] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];

#[test]
fn no_node_is_picked_twice_or_over_its_connection_limit() {
    for policy in [
        Policy::LeastRequest,
        Policy::RoundRobin,
        Policy::ConsistentHash,
    ] {
        let mut settings = settings(&THREE);
        settings.balance = policy;
        let cluster = Cluster::new(settings);
        let mut tried = Vec::new();
        while let Some(pick) = cluster.pick_first(choice(1, &tried, now())) {
            assert!(!tried.contains(&pick.node().id()));
            tried.push(pick.node().id());
        }
        assert_eq!(tried.len(), 3);
        let picks: Vec<_> = (0..7)
            .map_while(|_| cluster.pick_first(choice(1, &[], now())))
            .collect();
        assert_eq!(picks.len(), 6, "two at each");
        assert!(cluster.pick_any(choice(1, &[], now())).is_none());
        drop(picks);
        assert!(
            cluster
                .node_statuses(now())
                .iter()
                .all(|node| node.in_flight == 0)
        );
    }
}

#[test]
fn round_robin_is_in_turn() {
    let mut settings = settings(&THREE);
    settings.balance = Policy::RoundRobin;
    let cluster = Cluster::new(settings);
    let turns: Vec<_> = (0..6)
        .map(|_| {
            cluster
                .pick_first(choice(0, &[], now()))
                .unwrap()
                .node()
                .socket()
                .ip()
        })
        .collect();
    assert_eq!(turns[..3], THREE.map(ip));
    assert_eq!(turns[3..], THREE.map(ip));
}

#[test]
fn panic_mode_uses_all_nodes_but_the_drained() {
    let mut settings = settings(&THREE);
    settings.ejection.max_ejected = 100;
    let cluster = Cluster::new(settings);
    let nodes = cluster.nodes();
    cluster.record_outcome(&nodes[0], FAILED, now());
    assert!(!cluster.is_panicking(now()));
    for _ in 0..50 {
        assert_ne!(
            cluster
                .pick_first(choice(0, &[], now()))
                .unwrap()
                .node()
                .id(),
            nodes[0].id()
        );
    }
    // An ejected node is picked only as a last resort.
    let healthy = [nodes[1].id(), nodes[2].id()];
    assert!(cluster.pick_first(choice(0, &healthy, now())).is_none());
    assert!(cluster.pick_any(choice(0, &healthy, now())).is_some());

    cluster.record_outcome(&nodes[1], FAILED, now());
    assert!(cluster.is_panicking(now()));
    assert!(cluster.pick_first(choice(0, &healthy, now())).is_some());
    assert!(cluster.drain_node("10.0.0.1:8443"));
    assert!(cluster.pick_any(choice(0, &healthy, now())).is_none());
    assert_eq!(cluster.node_statuses(now())[0].state, NodeState::Drained);
    assert!(cluster.undrain_node("10.0.0.1:8443"));
    let status = &cluster.node_statuses(now())[0];
    assert_eq!(
        (status.state, status.last_failure),
        (NodeState::Ejected, Some(FailureKind::ConnectFailed))
    );
    assert!(status.ejected_for.unwrap() <= Duration::from_secs(10));
}

#[test]
fn a_retry_goes_to_a_healthy_node_even_in_panic_mode() {
    let mut settings = settings(&THREE);
    settings.ejection.max_ejected = 100;
    let cluster = Cluster::new(settings);
    let nodes = cluster.nodes();
    for node in &nodes[..2] {
        cluster.record_outcome(node, FAILED, now());
    }
    assert!(cluster.is_panicking(now()));
    let picks = (0..1000).filter_map(|_| cluster.pick_first(choice(0, &[], now())));
    let healthy = picks.filter(|pick| pick.node().id() == nodes[2].id());
    let healthy = healthy.count();
    assert!(
        (700..1000).contains(&healthy),
        "most, but not all: {healthy}"
    );
    for _ in 0..50 {
        let pick = cluster
            .pick_for_retry(choice(0, &[nodes[0].id()], now()))
            .unwrap();
        assert_eq!(pick.node().id(), nodes[2].id());
    }
    let all_but_one = [nodes[0].id(), nodes[2].id()];
    assert!(cluster.has_usable_node(choice(0, &all_but_one[..1], now())));
    assert!(!cluster.has_usable_node(choice(0, &all_but_one, now())));
    assert!(
        cluster
            .pick_for_retry(choice(0, &all_but_one, now()))
            .is_some(),
        "panic"
    );
}

/// One node is ejected and recovers; another one begins to fail during the ejection.
#[test]
fn a_failing_node_that_cannot_be_ejected_gets_a_small_share() {
    let cluster = Cluster::new(settings(&THREE));
    let nodes = cluster.nodes();
    cluster.record_outcome(&nodes[0], FAILED, now());
    cluster.record_outcome(&nodes[1], FAILED, now());
    let states: Vec<_> = cluster
        .node_statuses(now())
        .iter()
        .map(|node| node.state)
        .collect();
    assert_eq!(states, [NodeState::Ejected, NodeState::Up, NodeState::Up]);
    assert!(cluster.is_panicking(now()), "two of three are unhealthy");
    let picks_of = |index: usize, count: usize| {
        let picks = (0..count).filter_map(|_| cluster.pick_first(choice(0, &[], now())));
        picks
            .filter(|pick| pick.node().id() == nodes[index].id())
            .count()
    };
    let (failing, ejected) = (picks_of(1, 1000), picks_of(0, 1000));
    assert!(failing < 150 && ejected > 10, "{failing} {ejected}");
    cluster.record_outcome(&nodes[0], NodeOutcome::Success, now());
    assert!(!cluster.is_panicking(now()), "it has returned");
    cluster.record_outcome(&nodes[1], NodeOutcome::Success, now());
    assert!(picks_of(1, 1000) > 150, "a success restores its share");
}

/// A request that began before a reload reports to the nodes of both generations.
#[test]
fn a_change_seen_by_the_generation_before_a_reload_counts_after_it() {
    let before = Cluster::new(settings(&THREE));
    let after = Cluster::from_previous(settings(&THREE), &before);
    let picks_first = || {
        let node = before.nodes()[0].id();
        let mut picks = (0..100).filter_map(|_| after.pick_first(choice(0, &[], now())));
        picks.any(|pick| pick.node().id() == node)
    };
    assert!(picks_first());
    before.record_outcome(&before.nodes()[0], FAILED, now());
    assert!(!picks_first(), "it is ejected");
    let later = now() + Duration::from_secs(10);
    let mut picks = (0..100).filter_map(|_| after.pick_first(choice(0, &[], later)));
    let node = before.nodes()[0].id();
    assert!(picks.any(|pick| pick.node().id() == node), "it is back");
}

#[test]
fn the_share_grows_during_a_slow_start() {
    let mut settings = settings(&THREE);
    settings.ejection.slow_start = Duration::from_secs(20);
    let cluster = Cluster::new(settings);
    let start = now();
    let node = cluster.nodes()[0].clone();
    cluster.record_outcome(&node, FAILED, start);
    let picks_after = |seconds: u64| {
        let now = start + Duration::from_secs(10 + seconds);
        let picks = (0..1000).filter_map(|_| cluster.pick_first(choice(0, &[], now)));
        picks.filter(|pick| pick.node().id() == node.id()).count()
    };
    let (early, half, full) = (picks_after(0), picks_after(10), picks_after(20));
    assert!(early < 90 && (130..270).contains(&half), "{early} {half}");
    assert!(full > 280, "{full}");
}

#[test]
fn a_reload_keeps_the_nodes_that_did_not_change() {
    let before = Cluster::new(settings(&["10.0.0.1", "10.0.0.2", "node.test"]));
    before.set_addresses(&address("node.test"), &[ip("10.0.0.9")]);
    before.drain_node("10.0.0.2:8443");
    let node = before.nodes()[0].clone();
    before.record_outcome(&node, FAILED, now());
    let mut changed = settings(&["10.0.0.2", "10.0.0.1", "10.0.0.4", "node.test"]);
    changed.nodes[1].weight = 7;
    let after = Cluster::from_previous(changed, &before);
    let status = after.node_statuses(now());
    let states: Vec<_> = status
        .iter()
        .map(|node| (node.socket.unwrap().ip(), node.state))
        .collect();
    let expected = [
        (ip("10.0.0.2"), NodeState::Drained),
        (ip("10.0.0.1"), NodeState::Ejected),
        (ip("10.0.0.4"), NodeState::Up),
        (ip("10.0.0.9"), NodeState::Up),
    ];
    assert_eq!(states, expected);
    assert_eq!((status[1].weight, status[1].failures), (7, 1));
    assert!(Arc::ptr_eq(&after.nodes()[1], &node));
}

#[test]
fn a_name_is_one_node_per_address() {
    let cluster = Cluster::new(settings(&["node.test", "10.0.0.1"]));
    let name = address("node.test");
    assert_eq!(cluster.dns_names().collect::<Vec<_>>(), [&name]);
    assert_eq!(cluster.nodes().len(), 1);
    let unknown = &cluster.node_statuses(now())[1];
    let shown = (&*unknown.address, unknown.socket, unknown.state);
    assert_eq!(shown, ("node.test:8443", None, NodeState::Unresolved));
    assert_eq!(unknown.last_failure_reason, None);
    cluster.set_resolution_error(&name, "no such name");
    let unknown = cluster.node_statuses(now()).pop().unwrap();
    assert_eq!(unknown.last_failure_reason.as_deref(), Some("no such name"));
    cluster.drain_node("node.test:8443");
    assert!(cluster.set_addresses(&name, &[ip("10.0.0.7"), ip("10.0.0.8")]));
    assert!(!cluster.set_addresses(&name, &[ip("10.0.0.8"), ip("10.0.0.7")]));
    let states: Vec<_> = cluster
        .node_statuses(now())
        .iter()
        .map(|node| node.state)
        .collect();
    assert_eq!(
        states,
        [NodeState::Up, NodeState::Drained, NodeState::Drained]
    );
    let kept = cluster.nodes()[2].clone();
    assert!(cluster.set_addresses(&name, &[ip("10.0.0.8")]));
    assert!(Arc::ptr_eq(&cluster.nodes()[1], &kept));
    assert!(
        !cluster.set_addresses(&name, &[]),
        "the last good addresses stay"
    );
}

proptest! {
    #[test]
    fn never_more_nodes_are_ejected_than_allowed(
        count in 1usize..12, max_ejected in 0u8..=100,
        steps in prop::collection::vec((0u64..8, 0usize..12, 0u8..5), 1..200),
    ) {
        let hosts: Vec<_> = (0..count).map(|n| format!("10.0.0.{n}")).collect();
        let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
        let mut settings = settings(&hosts);
        settings.ejection.max_ejected = max_ejected;
        let cluster = Cluster::new(settings);
        let nodes = cluster.nodes();
        let mut now = now();
        let allowed = (count * usize::from(max_ejected) / 100).max(1);
        for (pause, node, success) in steps {
            now += Duration::from_secs(pause);
            let outcome = if success == 0 { NodeOutcome::Success } else { FAILED };
            cluster.record_outcome(&nodes[node % count], outcome, now);
            let status = cluster.node_statuses(now);
            let ejected = status.iter().filter(|node| node.state == NodeState::Ejected).count();
            prop_assert!(ejected <= allowed, "{ejected} of {count}");
            prop_assert!(cluster.pick_first(choice(0, &[], now)).is_some());
        }
    }
}
