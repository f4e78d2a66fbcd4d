//! Several nodes, some of them unwell.

use http::StatusCode;

use super::toy::{Act, BUSY, OK, Toy, cluster, json, nobody, ok, settings};
use super::*;

/// What a sick node may do, by name.
fn sicknesses() -> Vec<(&'static str, Act)> {
    vec![
        ("closes", Act::Cut(Vec::new())),
        ("closes in order", Act::AnswerAndClose(Vec::new())),
        (
            "half a head",
            Act::Cut(b"HTTP/1.1 200 OK\r\ncontent-".to_vec()),
        ),
        (
            "half a body",
            Act::Cut(b"HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n{".to_vec()),
        ),
        ("garbage", Act::Answer(json("200 OK", "<html>"))),
        ("502", Act::Answer(json("502 Bad Gateway", "x"))),
        ("503", Act::Answer(json("503 Unavailable", "x"))),
        ("504", Act::Answer(json("504 Timeout", "x"))),
        ("busy", Act::Answer(json("200 OK", BUSY))),
    ]
}

#[tokio::test]
async fn no_repeatable_request_fails_while_a_healthy_node_is_left() {
    for (what, act) in sicknesses() {
        for name in [QUERY, DOWNLOAD] {
            let sick = Toy::start({
                let act = act.clone();
                move |_| act.clone()
            })
            .await;
            let well = Toy::answering(ok()).await;
            let (sender, cluster) = (Sender::new(), cluster(&[&sick, &well]));
            // As a download, garbage and a stream that breaks later are what the node says.
            if name == DOWNLOAD && matches!(what, "garbage" | "half a body") {
                continue;
            }
            for _ in 0..10 {
                let delivery = delivery(name, &cluster);
                let status = if name == QUERY {
                    sender.whole(&delivery).await.map(|reply| reply.status)
                } else {
                    sender.stream(&delivery).await.map(|reply| reply.status)
                };
                assert_eq!(status.expect(what), StatusCode::OK, "{what}");
            }
            assert_eq!(well.count(), 10, "{what}");
            assert!(sick.count() > 0, "{what}");
        }
    }
}

#[tokio::test]
async fn a_node_that_is_gone_costs_no_budget() {
    let well = Toy::answering(ok()).await;
    let mut settings = settings(&[nobody().await, nobody().await, well.address]);
    settings.retries = crate::cluster::Retries {
        budget: 0,
        floor: 0,
    };
    let cluster = Cluster::new(settings);
    let sender = Sender::new();
    for name in [QUERY, JOB] {
        for _ in 0..6 {
            sender.whole(&delivery(name, &cluster)).await.unwrap();
        }
    }
    assert_eq!(well.count(), 12);
    assert!(sender.totals().get(Try::Unreachable) >= 6);
}

#[tokio::test]
async fn without_budget_the_answer_passes() {
    let sick = Toy::answering(json("503 Unavailable", "x")).await;
    let well = Toy::answering(ok()).await;
    let mut settings = settings(&[sick.address, well.address]);
    settings.retries = crate::cluster::Retries {
        budget: 0,
        floor: 0,
    };
    let cluster = Cluster::new(settings);
    let sender = Sender::new();
    let reply = sender.whole(&delivery(QUERY, &cluster)).await.unwrap();
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(well.count(), 0);
    assert_eq!(sender.totals().get(RetryBudget::Exhausted), 1);
}

#[tokio::test]
async fn a_job_reaches_one_node_at_most() {
    for (what, act) in sicknesses() {
        let make = || {
            let act = act.clone();
            Toy::start(move |_| act.clone())
        };
        let (one, two) = (make().await, make().await);
        let (sender, cluster) = (Sender::new(), cluster(&[&one, &two]));
        let result = sender.whole(&delivery(JOB, &cluster)).await;
        let reached = if what == "busy" { 2 } else { 1 };
        assert_eq!(one.count() + two.count(), reached, "{what}");
        match result {
            Ok(reply) => assert!(what == "busy" || reply.status.is_server_error(), "{what}"),
            Err(failure) => assert!(failure.sent, "{what}"),
        }
    }
}

#[tokio::test]
async fn a_busy_answer_proves_nothing_was_done_so_a_job_moves_on() {
    let busy = Toy::answering(json("200 OK", BUSY)).await;
    let well = Toy::answering(ok()).await;
    let (sender, cluster) = (Sender::new(), cluster(&[&busy, &well]));
    let reply = sender.whole(&delivery(JOB, &cluster)).await.unwrap();
    assert_eq!((reply.body.as_ref(), reply.trail.tries), (OK.as_bytes(), 2));
    // But a busy answer does not excuse a node that may have acted.
    let lost = Toy::start(|_| Act::Cut(Vec::new())).await;
    let cluster = toy::cluster(&[&busy, &lost]);
    let failure = sender.whole(&delivery(JOB, &cluster)).await.unwrap_err();
    assert_eq!((failure.cause, failure.sent), (Cause::Broken, true));
}

#[tokio::test]
async fn when_none_is_left_the_last_answer_passes() {
    let make = |status: &'static str, body| Toy::answering(json(status, body));
    let busy = (make("200 OK", BUSY).await, make("200 OK", BUSY).await);
    let unwell = (make("503 A", "a").await, make("503 B", "a").await);
    for ((one, two), status) in [(&busy, 200), (&unwell, 503)].map(|((a, b), s)| ((a, b), s)) {
        for name in [QUERY, DOWNLOAD] {
            let (sender, cluster) = (Sender::new(), cluster(&[one, two]));
            let delivery = delivery(name, &cluster);
            let (status_seen, tries) = if name == QUERY {
                let reply = sender.whole(&delivery).await.unwrap();
                (reply.status, reply.trail.tries)
            } else {
                let reply = sender.stream(&delivery).await.unwrap();
                (reply.status, reply.trail.tries)
            };
            assert_eq!((status_seen.as_u16(), tries), (status, 2));
        }
    }
    // Also when the last node does not answer at all.
    let one = make("503 A", "a").await;
    let cluster = Cluster::new(settings(&[one.address, nobody().await]));
    let sender = Sender::new();
    let reply = sender.whole(&delivery(QUERY, &cluster)).await.unwrap();
    assert_eq!(reply.status.as_u16(), 503);
}

#[tokio::test]
async fn a_hanging_node_is_left_for_another() {
    let hanging = Toy::start(|_| Act::Hang).await;
    let well = Toy::answering(ok()).await;
    let mut settings = settings(&[hanging.address, well.address]);
    settings.timeouts.per_try = Duration::from_millis(60);
    let cluster = Cluster::new(settings);
    let sender = Sender::new();
    let reply = sender.whole(&delivery(QUERY, &cluster)).await.unwrap();
    assert_eq!(reply.trail.tries, 2);
    assert!(reply.trail.elapsed >= Duration::from_millis(60));
    assert_eq!(cluster.nodes(Instant::now().into_std())[0].failures, 1);
    assert_eq!(hanging.count(), 1);
}

#[tokio::test]
async fn the_last_try_is_not_cut_by_the_deadline_of_one_try() {
    // A job never moves on after it was sent, so its only try is its last.
    for name in [QUERY, JOB] {
        let hanging = Toy::start(|_| Act::Hang).await;
        let other = Toy::start(|_| Act::Hang).await;
        let mut settings = settings(&[hanging.address, other.address]);
        settings.timeouts.per_try = Duration::from_millis(30);
        let cluster = Cluster::new(settings);
        let sender = Sender::new();
        let last_try = Duration::from_millis(200);
        let delivery = delivery(name, &cluster);
        let failure = sender.upstream.whole(&delivery, last_try).await;
        let failure = failure.unwrap_err();
        assert_eq!((failure.cause, failure.sent), (Cause::Timeout, true));
        assert!(failure.trail.elapsed >= last_try, "{name}");
        assert_eq!(failure.trail.tries, if name == QUERY { 2 } else { 1 });
    }
}

#[tokio::test]
async fn a_node_that_fails_is_put_aside_and_taken_back_in_need() {
    let well = Toy::answering(ok()).await;
    let mut settings = settings(&[nobody().await, well.address]);
    settings.ejection.consecutive_failures = 3;
    let cluster = Cluster::new(settings);
    let sender = Sender::new();
    for _ in 0..20 {
        sender.whole(&delivery(QUERY, &cluster)).await.unwrap();
    }
    assert_eq!(sender.totals().get(Try::Unreachable), 3);
    let status = &cluster.nodes(Instant::now().into_std())[0];
    assert_eq!(status.state.as_str(), "ejected");
    // The other one goes too: what looks dead is tried before a request fails.
    drop(well);
    let failure = sender.whole(&delivery(QUERY, &cluster)).await.unwrap_err();
    assert_eq!(
        (failure.cause, failure.trail.tries),
        (Cause::Unreachable, 2)
    );
}

#[tokio::test]
async fn a_drained_node_gets_nothing() {
    let (one, two) = (Toy::answering(ok()).await, Toy::answering(ok()).await);
    let (sender, cluster) = (Sender::new(), cluster(&[&one, &two]));
    assert!(cluster.drain_node(&one.address.to_string()));
    for _ in 0..4 {
        sender.whole(&delivery(QUERY, &cluster)).await.unwrap();
    }
    assert_eq!((one.count(), two.count()), (0, 4));
    assert!(cluster.drain_node(&two.address.to_string()));
    let failure = sender.whole(&delivery(QUERY, &cluster)).await.unwrap_err();
    assert_eq!(failure.cause, Cause::NoNode);
    assert!(!cluster.drain_node("127.0.0.1:1"));
}

#[tokio::test]
async fn a_node_that_dies_under_load_loses_nothing() {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Toy::answering(ok()).await);
    }
    let cluster = cluster(&[&nodes[0], &nodes[1], &nodes[2]]);
    let sender = Arc::new(Sender::new());
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let (sender, delivery) = (sender.clone(), delivery(QUERY, &cluster));
        clients.spawn(async move {
            for _ in 0..20 {
                sender.whole(&delivery).await.unwrap();
            }
        });
    }
    until("they are busy", || nodes[0].count() > 50).await;
    let dead = nodes.remove(0);
    let seen = dead.count();
    drop(dead);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let rest = nodes[0].count() + nodes[1].count();
    assert!(seen < 100 && rest > 500, "{seen} and {rest}");
}

#[tokio::test]
async fn without_budget_a_slow_node_is_waited_for() {
    let slow = Toy::start(|_| Act::Late(Duration::from_millis(120), ok())).await;
    let other = Toy::answering(ok()).await;
    let mut settings = settings(&[slow.address, other.address]);
    settings.timeouts.per_try = Duration::from_millis(30);
    settings.retries = crate::cluster::Retries {
        budget: 0,
        floor: 0,
    };
    let cluster = Cluster::new(settings);
    let sender = Sender::new();
    let reply = sender.whole(&delivery(QUERY, &cluster)).await.unwrap();
    assert_eq!((reply.trail.tries, other.count()), (1, 0));
}
