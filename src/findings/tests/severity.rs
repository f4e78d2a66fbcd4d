//! Findings that become worse.

use super::*;
use crate::cluster::Panic;

#[test]
fn a_finding_that_becomes_critical_says_so_once() {
    let mut detector = Detector::default();
    let mut changes = |days: i64| {
        let mut now = observation(start());
        now.end_dates = vec![EndDate {
            kind: EndKind::ListenerCertificate,
            owner: "ccfs".into(),
            name: String::new(),
            since: None,
            at: Timestamp::from_second(days * 86_400).unwrap(),
        }];
        detector.observe(&now, &Keys).1
    };
    assert!(matches!(changes(10)[..], [Change::Began(_)]));
    assert!(changes(9).is_empty());
    let worse = changes(2);
    assert!(
        matches!(&worse[..], [Change::Worsened(it)] if it.severity == Severity::Critical),
        "{worse:?}"
    );
    assert!(changes(10).is_empty(), "it ends, or it holds");
    assert!(
        changes(2).is_empty(),
        "one that comes and goes says no more"
    );
    assert!(matches!(changes(20)[..], [Change::Ended(_)]));
}

#[test]
fn panic_mode_counts_the_nodes_that_the_cluster_counts() {
    let mut now = observation(start());
    now.clusters = vec![ClusterFacts {
        panic: Some(Panic {
            healthy: 1,
            nodes: 3,
        }),
        ..cluster(None)
    }];
    let (report, _) = Detector::default().observe(&now, &Keys);
    assert_eq!(ids(&report), ["panic"]);
    let cause = &report.findings[0].cause;
    assert!(cause.starts_with("only 1 of 3 nodes are up"), "{cause}");
}

#[test]
fn what_is_wrong_now_comes_before_what_only_has_not_ended() {
    let (mut detector, start) = (Detector::default(), start());
    let mut observe = |after: u64, (buffered, panics): (u64, u64)| {
        let mut now = observation(start + Duration::from_secs(after));
        (now.counters.shed_buffered, now.counters.panics) = (buffered, panics);
        let (report, _) = detector.observe(&now, &Keys);
        report
            .findings
            .iter()
            .map(|it| it.entry.id)
            .collect::<Vec<_>>()
    };
    observe(0, (0, 0));
    assert_eq!(observe(1, (90, 0)), ["at-capacity"]);
    // More was refused than connections were closed.
    assert_eq!(observe(2, (90, 1)), ["at-capacity", "defect"]);
    assert_eq!(observe(20, (90, 2)), ["defect", "at-capacity"]);
}

#[test]
fn what_shadow_authentication_forwards_does_not_fail() {
    let (mut detector, start) = (Detector::default(), start());
    let mut observe = |after: u64, (unverified, shadowed): (u64, u64)| {
        let mut now = observation(start + Duration::from_secs(after));
        (now.counters.requests, now.counters.unverified) = (2 * unverified, unverified);
        now.counters.shadowed = shadowed;
        detector.observe(&now, &Keys).0.findings.into_iter().next()
    };
    assert!(observe(0, (0, 0)).is_none());
    let finding = observe(1, (20, 15)).unwrap();
    assert_eq!(finding.failing.share, Some(0.125));
    assert!(
        finding
            .cause
            .contains("; 15 of them went to a node all the same (shadow)")
    );
}
