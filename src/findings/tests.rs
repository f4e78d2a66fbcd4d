//! The catalogue is whole, and the list begins, holds and ends by its rules.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::metrics::{AuthResult, Claimant, Incidents, Limiter, Unverified};

mod severity;

const MINUTE: Duration = Duration::from_secs(60);

struct Keys;

impl AccessKeys for Keys {
    fn is_configured(&self, access_key: &str) -> bool {
        access_key.starts_with("known")
    }

    fn is_secret(&self, text: &str) -> bool {
        text == "a-secret-key-0123"
    }

    fn mistake(&self, _: &str) -> Option<String> {
        None
    }

    fn verified(&self, _: &str) -> u64 {
        0
    }

    fn limit_key(&self, access_key: &str, _: Limiter) -> Option<String> {
        (access_key == "known-of-plan").then(|| "[plans.small] rate_limit".to_owned())
    }

    fn shows_claimed(&self) -> bool {
        false
    }
}

fn observation(at: Instant) -> Observation {
    Observation {
        at,
        now: Timestamp::UNIX_EPOCH,
        instance: "here".into(),
        config_file: Some("gateway.toml".into()),
        clusters: Vec::new(),
        listeners: Vec::new(),
        store: None,
        end_dates: Vec::new(),
        counters: Counters::default(),
        incidents: Incidents::default(),
        reload_error: None,
        restart_needed: Vec::new(),
        unreadable_files: Vec::new(),
        recordings: Vec::new(),
        node_clocks: Vec::new(),
        dry_run: false,
        descriptors: None,
    }
}

fn ids(report: &Report) -> Vec<&'static str> {
    report.findings.iter().map(|it| it.entry.id).collect()
}

fn start() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[test]
fn every_entry_is_complete() {
    let rules = include_str!("../../deploy/prometheus/alerts.yaml");
    let runbook = include_str!("../../deploy/troubleshooting.md");
    let mut ids = BTreeSet::new();
    for entry in CATALOGUE {
        let id = entry.id;
        assert!(ids.insert(id), "{id} twice");
        assert!(
            id.bytes().all(|it| it.is_ascii_lowercase() || it == b'-'),
            "{id}"
        );
        assert!(
            entry.advice.len() > 40 && entry.advice.ends_with('.'),
            "{id}: advice"
        );
        let heading = format!("\n### {id}\n");
        assert!(
            runbook.contains(&heading),
            "{id} has no heading in the runbook"
        );
        let rule = rules
            .split("- alert: ")
            .find(|rule| rule.lines().next() == Some(entry.alert));
        let rule = rule.unwrap_or_else(|| panic!("{id}: no alert {}", entry.alert));
        let link = format!("\"RUNBOOKS/{}\"", entry.runbook());
        assert!(
            rule.contains("runbook_url: ") && rule.contains(&link),
            "{id}: {rule}"
        );
    }
    let of_gateway = [
        400, 401, 403, 404, 405, 408, 413, 415, 431, 500, 502, 503, 504, 508,
    ];
    let of_gateway = of_gateway.map(|code| format!("GW{code}"));
    let of_nodes = (1..=13).map(|code| format!("03000{code:02}"));
    for code in of_nodes.chain(of_gateway) {
        let heading = format!("\n### {code}\n");
        assert!(runbook.contains(&heading), "{code} has no heading");
    }
    for rule in rules.split("- alert: ").skip(1) {
        let link = rule.split("troubleshooting.md#").nth(1).unwrap_or_default();
        let anchor = link.split('"').next().unwrap_or_default();
        let has_heading = runbook
            .lines()
            .filter_map(|line| line.strip_prefix("### "))
            .any(|heading| heading.to_lowercase() == anchor);
        assert!(has_heading, "no heading for {rule}");
    }
    for heading in runbook.lines().filter_map(|line| line.strip_prefix("### ")) {
        let is_code = heading.starts_with("GW") || heading.starts_with("03000");
        let is_alert = rules.contains(&format!("- alert: {heading}\n"));
        assert!(
            is_code || is_alert || entry(heading).is_some(),
            "{heading} is neither a finding nor an alert nor a code"
        );
    }
}

#[test]
fn a_counted_finding_begins_at_its_number_and_ends_a_minute_after_its_last_case() {
    let (mut detector, start) = (Detector::default(), start());
    let second = Duration::from_secs(1);
    let mut observe = |after: Duration, unverified: u64| {
        let mut now = observation(start + after);
        now.counters.unverified = unverified;
        detector.observe(&now, &Keys)
    };
    observe(second, 100);
    let (report, _) = observe(second * 2, 109);
    assert!(report.findings.is_empty(), "nine are too few");
    let (report, changes) = observe(second * 30, 110);
    assert_eq!(ids(&report), ["clients-refused"]);
    assert!(matches!(changes[..], [Change::Began(_)]));
    // The first nine are forgotten; the one that is left keeps it.
    assert_eq!(ids(&observe(second * 89, 110).0), ["clients-refused"]);
    let (report, changes) = observe(second * 90, 110);
    assert!(report.findings.is_empty());
    assert!(matches!(changes[..], [Change::Ended(_)]));
}

#[test]
fn a_setting_ends_at_once_and_a_state_a_minute_later() {
    let (mut detector, start) = (Detector::default(), start());
    let mut now = observation(start);
    now.dry_run = true;
    now.descriptors = Some((90, 100));
    let (report, _) = detector.observe(&now, &Keys);
    assert_eq!(
        ids(&report),
        ["descriptors-short", "dry-run-on"],
        "the worse first"
    );
    let (report, _) = detector.observe(&observation(start + MINUTE / 2), &Keys);
    assert_eq!(ids(&report), ["descriptors-short"]);
    let (report, _) = detector.observe(&observation(start + MINUTE), &Keys);
    assert!(report.findings.is_empty());
}

#[test]
fn an_end_date_is_critical_three_days_before() {
    let mut detector = Detector::default();
    let mut severity = |days: i64, kind| {
        let mut now = observation(start());
        let at = Timestamp::from_second(days * 86_400).unwrap();
        let name = "gateway.test".to_owned();
        now.end_dates = vec![EndDate {
            kind,
            owner: "ccfs".into(),
            name,
            since: None,
            at,
        }];
        let (report, _) = detector.observe(&now, &Keys);
        report.findings.first().map(|it| (it.entry.id, it.severity))
    };
    use EndKind::{AccessKey, Crl, ListenerCertificate};
    assert_eq!(severity(15, ListenerCertificate), None);
    let warned = Some(("listener-certificate-ends", Severity::Warning));
    assert_eq!(severity(14, ListenerCertificate), warned);
    let critical = Some(("listener-certificate-ends", Severity::Critical));
    assert_eq!(severity(3, ListenerCertificate), critical);
    assert_eq!(severity(-1, ListenerCertificate), critical);
    assert_eq!(severity(1, Crl), Some(("crl-ends", Severity::Critical)));
    assert_eq!(
        severity(1, AccessKey),
        Some(("access-key-ends", Severity::Note))
    );
}

#[test]
fn what_is_short_lived_is_judged_against_its_own_period() {
    let mut detector = Detector::default();
    let mut severity = |hours: i64, period_hours: i64| {
        let mut now = observation(start());
        let at = Timestamp::from_second(hours * 3600).unwrap();
        let since = at.checked_sub(jiff::SignedDuration::from_hours(period_hours));
        now.end_dates = vec![EndDate {
            kind: EndKind::Crl,
            owner: "ccfs".into(),
            name: String::new(),
            since: since.ok(),
            at,
        }];
        let (report, _) = detector.observe(&now, &Keys);
        report.findings.first().map(|it| it.severity)
    };
    let (warning, critical) = (Some(Severity::Warning), Some(Severity::Critical));
    for (period, warned, criticized) in [(24, 8, 2), (7 * 24, 56, 14), (90 * 24, 14 * 24, 3 * 24)] {
        assert_eq!(severity(warned + 1, period), None, "{period}");
        assert_eq!(severity(warned, period), warning, "{period}");
        assert_eq!(severity(criticized + 1, period), warning, "{period}");
        assert_eq!(severity(criticized, period), critical, "{period}");
        assert_eq!(severity(-1, period), critical, "{period}");
    }
}

#[test]
fn a_ticket_key_of_more_than_seven_days_is_old() {
    let mut detector = Detector::default();
    let mut ids = |days: i64| {
        let mut now = observation(start());
        let since = Timestamp::from_second(-days * 86_400 - 60).unwrap();
        now.listeners.push(ListenerFacts {
            name: "ccfs".into(),
            shadowed: Vec::new(),
            ticket_key_since: Some(since),
        });
        ids(&detector.observe(&now, &Keys).0)
    };
    assert!(ids(6).is_empty() && ids(-1).is_empty());
    assert_eq!(ids(7), ["ticket-key-old"]);
    assert!(ids(0).is_empty(), "it goes as soon as the key is new");
}

#[test]
fn an_account_at_its_limit_names_where_the_limit_is_written() {
    let mut detector = Detector::default();
    for (access_key, key) in [
        ("known-of-plan", "[plans.small] rate_limit"),
        ("known", "[access_keys.known] rate_limit"),
    ] {
        let mut now = observation(start());
        let limited = (access_key.into(), Limiter::AccessKey);
        now.incidents.limited.insert(limited, 1);
        let (report, _) = detector.observe(&now, &Keys);
        let cause = report
            .findings
            .iter()
            .find(|it| &**it.subject.name() == access_key);
        let cause = &cause.unwrap().cause;
        assert!(cause.contains(key), "{cause}");
    }
}

#[test]
fn a_hundred_findings_are_shown_and_the_others_counted() {
    let mut detector = Detector::default();
    let mut now = observation(start());
    for number in 0..130 {
        now.listeners.push(ListenerFacts {
            name: number.to_string().into(),
            shadowed: vec!["validation"],
            ticket_key_since: None,
        });
    }
    let (report, _) = detector.observe(&now, &Keys);
    assert_eq!((report.findings.len(), report.omitted), (100, 30));
    assert_eq!(report.counts[&("shadow-on", Severity::Note)], 130);
}

fn claim(now: &mut Observation, access_key: &str, class: AuthResult, count: u64, ahead: i64) {
    let event = Unverified {
        count,
        shadowed: 0,
        address: IpAddr::from([192, 0, 2, 7]),
        seconds_ahead: ahead,
    };
    now.incidents
        .unverified
        .insert(Claimant::new(access_key, class), event);
}

#[test]
fn claims_are_marked_shortened_and_show_no_secret() {
    let mut detector = Detector::default();
    let mut now = observation(start());
    claim(&mut now, "known-key", AuthResult::Stale, 7, -33_194);
    claim(
        &mut now,
        "stranger-0123456789",
        AuthResult::UnknownKey,
        5,
        0,
    );
    claim(&mut now, "a-secret-key-0123", AuthResult::UnknownKey, 3, 0);
    let (report, _) = detector.observe(&now, &Keys);
    let shown: Vec<_> = report
        .claimed
        .iter()
        .map(|it| it.access_key.as_str())
        .collect();
    assert_eq!(
        shown,
        [
            "known-key",
            "stranger…",
            "a secret key where the ak belongs"
        ]
    );
    assert_eq!(
        report.claimed[0].mistake.as_deref(),
        Some("signed 9 h 13 min too early")
    );
    let json = report.claimed[1].to_json();
    assert_eq!(
        (&json["length"], &json["configured"]),
        (&19.into(), &false.into())
    );
}

/// The same, of which `known` has verified.
struct Mended;

impl AccessKeys for Mended {
    fn is_configured(&self, access_key: &str) -> bool {
        Keys.is_configured(access_key)
    }

    fn is_secret(&self, text: &str) -> bool {
        Keys.is_secret(text)
    }

    fn mistake(&self, _: &str) -> Option<String> {
        None
    }

    fn verified(&self, access_key: &str) -> u64 {
        u64::from(access_key == "known")
    }

    fn limit_key(&self, _: &str, _: Limiter) -> Option<String> {
        None
    }

    fn shows_claimed(&self) -> bool {
        false
    }
}

#[test]
fn who_would_be_refused_is_named_until_it_verifies_or_shadow_ends() {
    let (mut detector, start) = (Detector::default(), start());
    let listeners = |shadowed: &[&'static str]| {
        let shadowed = shadowed.to_vec();
        vec![ListenerFacts {
            name: "l".into(),
            shadowed,
            ticket_key_since: None,
        }]
    };
    let on_trial = |report: &Report| -> Vec<String> {
        report.on_trial().map(|it| it.access_key.clone()).collect()
    };
    let mut now = observation(start);
    now.listeners = listeners(&["authentication"]);
    for (access_key, class) in [
        ("known-broken", AuthResult::WrongSignature),
        ("known", AuthResult::Stale),
        ("", AuthResult::Missing),
        ("", AuthResult::OtherScheme),
    ] {
        claim(&mut now, access_key, class, 3, 0);
    }
    for event in now.incidents.unverified.values_mut() {
        event.shadowed = event.count;
    }
    claim(&mut now, "known-refused", AuthResult::WrongSignature, 9, 0);
    let (report, _) = detector.observe(&now, &Keys);
    let mut named = on_trial(&report);
    named.sort();
    assert_eq!(named, ["", "", "known", "known-broken"]);
    let shadow_on = report.findings.iter().find(|it| it.entry.id == "shadow-on");
    let shadow_on = shadow_on.unwrap();
    let cause = &shadow_on.cause;
    assert!(cause.contains("known-broken (wrong_signature)"), "{cause}");
    assert!(cause.contains("no access key (missing)"), "{cause}");
    let listed = &shadow_on.details["would_be_refused"];
    assert_eq!(listed.as_array().unwrap().len(), 4);
    assert_eq!(listed[0]["would_be_refused"], 3);

    // `known` verifies; it leaves the list a minute after its last failure.
    for (seconds, expected) in [(30, 4), (61, 3)] {
        let mut now = observation(start + Duration::from_secs(seconds));
        now.listeners = listeners(&["authentication"]);
        let (report, _) = detector.observe(&now, &Mended);
        assert_eq!(on_trial(&report).len(), expected);
    }
    let mut now = observation(start + MINUTE * 2);
    now.listeners = listeners(&["validation"]);
    assert!(on_trial(&detector.observe(&now, &Mended).0).is_empty());
}

#[test]
fn a_million_claims_take_ten_places_and_the_heaviest_stay() {
    let (mut detector, start) = (Detector::default(), start());
    let mut now = observation(start);
    claim(&mut now, "heavy", AuthResult::UnknownKey, 50, 0);
    detector.observe(&now, &Keys);
    for second in 1..200 {
        let mut now = observation(start + Duration::from_secs(second));
        for number in 0..100 {
            claim(
                &mut now,
                &format!("x{second}-{number}"),
                AuthResult::UnknownKey,
                1,
                0,
            );
        }
        let (report, _) = detector.observe(&now, &Keys);
        assert_eq!(report.claimed.len(), 10);
        assert_eq!(report.claimed[0].access_key, "heavy");
    }
    let (report, _) = detector.observe(&observation(start + MINUTE * 60 * 25), &Keys);
    assert!(report.claimed.is_empty(), "forgotten after a day");
}

#[test]
fn three_access_keys_that_are_off_in_one_direction_point_to_the_clock() {
    let (mut detector, start) = (Detector::default(), start());
    let mut now = observation(start);
    claim(&mut now, "known-1", AuthResult::Stale, 1, -3600);
    claim(&mut now, "known-2", AuthResult::Stale, 1, 3600);
    claim(&mut now, "stranger", AuthResult::Stale, 1, -3600);
    claim(&mut now, "known-3", AuthResult::Stale, 1, -3660);
    let (report, _) = detector.observe(&now, &Keys);
    assert!(
        report.findings.is_empty(),
        "two of one direction: {report:?}"
    );
    let mut now = observation(start + MINUTE * 9);
    claim(&mut now, "known-4", AuthResult::Stale, 1, -3700);
    let (report, _) = detector.observe(&now, &Keys);
    assert_eq!(ids(&report), ["clock-off"]);
    assert!(
        report.findings[0].cause.contains("1 h 1 min too early"),
        "{report:?}"
    );
    assert_eq!(
        report.findings[0].details["access_keys"]
            .as_array()
            .map(Vec::len),
        Some(3)
    );
    let (report, _) = detector.observe(&observation(start + MINUTE * 10), &Keys);
    assert!(
        report.findings.is_empty(),
        "two of them are ten minutes old"
    );
    let mut now = observation(start + MINUTE * 11);
    for access_key in ["known-5", "known-6"] {
        claim(&mut now, access_key, AuthResult::Stale, 1, -3600);
    }
    assert_eq!(ids(&detector.observe(&now, &Keys).0), ["clock-off"]);
    let (report, _) = detector.observe(&observation(start + MINUTE * 12), &Keys);
    assert!(
        report.findings.is_empty(),
        "a minute after the last case, not ten"
    );
}

#[test]
fn recordings_that_are_not_found_are_a_finding_by_share_or_by_offset() {
    let facts = |answers, not_found, slips: &[(&str, u64)]| RecordingFacts {
        access_key: Arc::from("known"),
        answers,
        not_found,
        slips: slips
            .iter()
            .map(|(by, count)| ((*by).to_owned(), *count))
            .collect(),
        last: start(),
    };
    let finds = |facts| {
        let mut now = observation(start());
        now.recordings = vec![facts];
        let (report, _) = Detector::default().observe(&now, &Keys);
        report.findings.first().map(|it| it.cause.clone())
    };
    assert_eq!(finds(facts(40, 19, &[("+08:00", 2), ("-01:00", 2)])), None);
    assert_eq!(finds(facts(41, 20, &[])), None);
    assert!(
        finds(facts(40, 20, &[]))
            .unwrap()
            .contains("20 of 40 requests")
    );
    assert!(
        finds(facts(3, 3, &[("+08:00", 3)]))
            .unwrap()
            .contains("+08:00")
    );
}

fn cluster(other_tier: Option<&str>) -> ClusterFacts {
    ClusterFacts {
        name: "ccfs".into(),
        nodes: Vec::new(),
        panic: None,
        insecure: false,
        other_tier: other_tier.map(str::to_owned),
        requests: 0,
        failed: 0,
    }
}

/// The rows whose causes a test cannot bring about from outside.
#[test]
fn each_counter_begins_its_finding_and_ends_it_a_minute_later() {
    type Grow = fn(&mut Counters);
    let cases: [(&str, Severity, Grow); 7] = [
        ("at-capacity", Severity::Warning, |it| it.shed_buffered = 2),
        ("at-capacity", Severity::Warning, |it| {
            it.connections_closed = 2
        }),
        ("at-capacity", Severity::Warning, |it| {
            it.address_connections_closed = 2
        }),
        ("log-lines-lost", Severity::Warning, |it| {
            it.access_log_lost = 3
        }),
        ("log-lines-lost", Severity::Warning, |it| {
            it.diagnostics_lost = 3
        }),
        ("audit-lines-lost", Severity::Critical, |it| {
            it.audit_lost = 1
        }),
        ("defect", Severity::Warning, |it| it.panics = 1),
    ];
    for (id, severity, grow) in cases {
        let (mut detector, start) = (Detector::default(), start());
        let mut observe = |after: Duration, grown: bool| {
            let mut now = observation(start + after);
            if grown {
                grow(&mut now.counters);
            }
            let (report, _) = detector.observe(&now, &Keys);
            report.findings
        };
        assert!(observe(Duration::ZERO, false).is_empty(), "{id}");
        let begun = observe(MINUTE, true);
        let found: Vec<_> = begun.iter().map(|it| (it.entry.id, it.severity)).collect();
        assert_eq!(found, [(id, severity)]);
        assert_eq!(
            observe(MINUTE * 2 - Duration::from_secs(1), true).len(),
            1,
            "{id}"
        );
        assert!(observe(MINUTE * 2, true).is_empty(), "{id}");
    }
}

#[test]
fn other_tiers_node_clocks_and_bad_key_files_are_findings() {
    let mut detector = Detector::default();
    let mut now = observation(start());
    now.clusters = vec![cluster(Some("the nodes of tier 1 serve"))];
    now.node_clocks = vec![NodeClock {
        node: "ccfs/n:1".into(),
        seconds_ahead: -90,
    }];
    now.unreadable_files = vec![UnreadableFile {
        path: "keys/a.toml".into(),
        cause: "its 3 access keys are not served".to_owned(),
        is_critical: true,
    }];
    let (report, _) = detector.observe(&now, &Keys);
    assert_eq!(
        ids(&report),
        ["file-unreadable", "clock-off", "tier-or-fallback-in-use"]
    );
    assert_eq!(report.findings[0].severity, Severity::Critical);
    assert!(
        report.findings[1].cause.contains("1 min 30 s behind"),
        "{report:?}"
    );
}
