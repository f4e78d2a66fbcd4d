use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::admin::Reloaded;
use crate::metrics::{RequestFailure, RequestOutcome};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn facts(now: i64) -> JournalFacts<'static> {
    JournalFacts {
        now: at(now),
        nodes: Vec::new(),
        reload: None,
        is_draining: false,
    }
}

fn shown(journal: &Journal) -> Value {
    let mut status = json!({});
    journal.add_to(&mut status);
    status
}

fn texts(journal: &Journal) -> Vec<String> {
    let status = shown(journal);
    let events = status["events"].as_array().unwrap().iter();
    events
        .map(|event| event["text"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn each_reload_and_the_drain_are_one_event() {
    let journal = Journal::default();
    let done = Reloaded {
        generation: 2,
        changes: vec!["+1 access key (a)".to_owned()],
        ..Reloaded::default()
    };
    let reload = |second, result| {
        Some(Arc::new(ReloadAttempt {
            at: at(second),
            result,
        }))
    };
    for now in 10..13 {
        journal.observe(&JournalFacts {
            reload: reload(9, Ok(done.clone())),
            ..facts(now)
        });
    }
    for now in 20..22 {
        journal.observe(&JournalFacts {
            reload: reload(19, Err("line one\nline two".to_owned())),
            is_draining: true,
            ..facts(now)
        });
    }
    assert_eq!(
        texts(&journal),
        [
            "the gateway drains: it ends when its requests have ended",
            "reload rejected: line one",
            "configuration reloaded, generation 2: +1 access key (a)",
        ]
    );
    assert_eq!(shown(&journal)["events"][1]["severity"], "warning");
}

#[test]
fn events_are_bounded_short_and_escaped() {
    let journal = Journal::default();
    for number in 0..EVENTS + 10 {
        journal.note_order(
            format!("order {number} \u{202e}{}", "x".repeat(1000)),
            at(1),
        );
    }
    let texts = texts(&journal);
    assert_eq!(texts.len(), EVENTS);
    assert!(
        texts[0].starts_with("order 59 \\u{202e}xxx"),
        "{}",
        texts[0]
    );
    assert!(texts[0].chars().count() < MAX_TEXT + 20);
}

#[test]
fn refused_requests_do_not_push_out_failed_ones() {
    let journal = Journal::default();
    let request = |second, status, outcome| FailedRequest {
        at: at(second),
        request_id: "id".into(),
        listener: "ccfs".into(),
        client: IpAddr::from([127, 0, 0, 1]),
        access_key: None,
        call_id: None,
        method: None,
        interface: None,
        path: Some("/\u{1b}[2J".into()),
        status,
        result_code: None,
        outcome,
        node: None,
        attempts: 0,
        duration: Duration::from_millis(3),
        reason: None,
    };
    let metrics = crate::metrics::Metrics::default();
    let shard = metrics.add_shard();
    shard.note_failed(RequestFailure::Failed, || {
        request(1, 502, RequestOutcome::NodeFailed)
    });
    for second in 2..200 {
        shard.note_failed(RequestFailure::Refused, || {
            request(second, 401, RequestOutcome::Unauthenticated)
        });
        if second % 20 == 0 {
            journal.note_failed(&metrics.take_incidents().failed_requests);
        }
    }
    let shown = shown(&journal);
    let failed = shown["failed_requests"].as_array().unwrap();
    assert_eq!(failed.len(), FAILED + 1);
    assert_eq!(failed[0]["at"], "1970-01-01T00:03:00.000Z");
    assert_eq!(failed[FAILED]["status"], 502);
    assert_eq!(failed[0]["path"], "/\\u{1b}[2J");
}
