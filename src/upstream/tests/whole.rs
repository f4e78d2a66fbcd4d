//! JSON answers at one node: what passes, what is none, which connection is used.

use std::task::Poll;

use http::StatusCode;

use super::toy::{Act, OK, Toy, cluster, json, ok, settings};
use super::*;

#[tokio::test]
async fn an_answer_passes_without_its_framing() {
    let answer =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Own: 1\r\nKeep-Alive: 5\r\n\
                  Connection: keep-alive, x-hop\r\nX-Hop: 1\r\nX-Gateway-Error: no\r\n\
                  Transfer-Encoding: chunked\r\n\r\n"
            .to_owned()
            + &format!("{:x}\r\n{OK}\r\n0\r\n\r\n", OK.len());
    let node = Toy::answering(answer.into_bytes()).await;
    let sender = Sender::new();
    let reply = sender.whole(&delivery(QUERY, &cluster(&[&node]))).await;
    let reply = reply.unwrap();
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.body, OK);
    assert_eq!(reply.json.unwrap().result_code.as_deref(), Some("0"));
    let names: Vec<_> = reply.headers.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["content-type", "x-own"]);
    assert_eq!(reply.trail.tries, 1);
    assert_eq!(*reply.trail.node.unwrap(), *node.address.to_string());
    assert_eq!(sender.totals().get(Try::Ok), 1);
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let node = Toy::answering(ok()).await;
    let (sender, cluster) = (Sender::new(), cluster(&[&node]));
    for name in [QUERY, QUERY, JOB, JOB] {
        sender.whole(&delivery(name, &cluster)).await.unwrap();
    }
    assert_eq!(node.seen().last().unwrap().place, 3);
    assert_eq!(cluster.nodes(Instant::now().into_std())[0].in_flight, 0);
}

#[tokio::test]
async fn a_connection_with_surplus_bytes_is_never_used_again() {
    let twice = [ok(), json("200 OK", r#"{"resultCode":"evil"}"#)].concat();
    let node = Toy::answering(twice).await;
    let (sender, cluster) = (Sender::new(), cluster(&[&node]));
    for _ in 0..5 {
        let reply = sender.whole(&delivery(QUERY, &cluster)).await.unwrap();
        assert_eq!(reply.body, OK);
    }
    assert!(node.seen().iter().all(|seen| seen.place == 0));
}

#[tokio::test]
async fn a_connection_that_the_node_closes_is_invisible() {
    for closes in [Act::Cut(Vec::new()), Act::AnswerAndClose(Vec::new())] {
        // The second request of a connection finds it closed.
        let node = Toy::start(move |seen| match seen.place {
            0 => Act::Answer(ok()),
            _ => closes.clone(),
        })
        .await;
        let (sender, cluster) = (Sender::new(), cluster(&[&node]));
        for _ in 0..6 {
            let reply = sender.whole(&delivery(QUERY, &cluster)).await.unwrap();
            assert_eq!(reply.trail.tries, 1);
        }
        assert_eq!(sender.totals().get(Retry::Reconnected), 5);
        assert_eq!(cluster.nodes(Instant::now().into_std())[0].failures, 0);
    }
}

#[tokio::test]
async fn a_job_is_not_sent_twice_over_a_stale_connection() {
    let node = Toy::start(|seen| match seen.place {
        0 => Act::Answer(ok()),
        _ => Act::Cut(Vec::new()),
    })
    .await;
    let (sender, cluster) = (Sender::new(), cluster(&[&node]));
    sender.whole(&delivery(JOB, &cluster)).await.unwrap();
    let failure = sender.whole(&delivery(JOB, &cluster)).await.unwrap_err();
    assert_eq!((failure.cause, failure.sent), (Cause::Broken, true));
    assert_eq!(node.count(), 2);
}

#[test]
fn a_job_looks_whether_its_connection_was_closed() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    // Lives elsewhere, so that it closes while this runtime looks away.
    let (tell, told) = std::sync::mpsc::channel();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let elsewhere = std::thread::spawn(move || {
        runtime().block_on(async {
            let pause = Duration::from_millis(20);
            let node = Toy::start(move |_| Act::AnswerAndCloseLater(ok(), pause)).await;
            tell.send(node.clone()).unwrap();
            let _ = ended.await;
        });
    });
    let node = told.recv().unwrap();
    runtime().block_on(async {
        let (sender, cluster) = (Sender::new(), cluster(&[&node]));
        for _ in 0..5 {
            sender.whole(&delivery(JOB, &cluster)).await.unwrap();
            while node.open() > 0 {
                std::thread::yield_now();
            }
        }
    });
    assert_eq!(node.count(), 5);
    drop(end);
    elsewhere.join().unwrap();
}

#[tokio::test]
async fn what_is_no_answer_is_a_failure() {
    for (what, act, cause) in no_answers() {
        let node = Toy::start(move |_| act.clone()).await;
        let sender = Sender::new();
        let result = sender.whole(&delivery(QUERY, &cluster(&[&node]))).await;
        let failure = result.expect_err(what);
        assert_eq!(failure.cause, cause, "{what}");
        assert!(failure.sent, "{what}");
        assert_eq!(failure.trail.tries, 1, "{what}");
        until("the connection is dropped", || node.open() == 0).await;
    }
}

fn no_answers() -> Vec<(&'static str, Act, Cause)> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    vec![
        ("no JSON", Act::Answer(json("200 OK", "<html>")), Cause::Garbage),
        ("no object", Act::Answer(json("200 OK", "[1]")), Cause::Garbage),
        ("empty", Act::Answer(json("200 OK", "")), Cause::Garbage),
        (
            "too large",
            Act::Answer(json("200 OK", &format!("{{\"a\":\"{}\"}}", "x".repeat(70_000)))),
            Cause::Garbage,
        ),
        (
            "cut by length",
            Act::AnswerAndClose(format!("{head}content-length: 99\r\n\r\n{{}}").into()),
            Cause::Broken,
        ),
        (
            "cut JSON without a length",
            Act::AnswerAndClose(format!("{head}\r\n{{\"resultCode\":").into()),
            Cause::Garbage,
        ),
        (
            "no goodbye",
            Act::Cut(format!("{head}\r\n{OK}").into()),
            Cause::Broken,
        ),
        (
            "length and chunks",
            Act::Answer(
                format!("{head}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n")
                    .into(),
            ),
            Cause::Garbage,
        ),
        (
            "two lengths",
            Act::Answer(format!("{head}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}").into()),
            Cause::Garbage,
        ),
        (
            "NUL",
            Act::Answer(format!("{head}x: a\0b\r\ncontent-length: 2\r\n\r\n{{}}").into()),
            Cause::Garbage,
        ),
        ("half a head", Act::AnswerAndClose(head.into()), Cause::Broken),
        ("not HTTP", Act::Answer(b"220 mail\r\n\r\n".to_vec()), Cause::Garbage),
        (
            "another protocol",
            Act::Answer(b"HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n".to_vec()),
            Cause::Garbage,
        ),
    ]
}

#[tokio::test]
async fn other_statuses_pass_as_they_are() {
    for (status, body) in [
        ("401 Unauthorized", "<html>"),
        ("500 Oops", ""),
        ("204 No", ""),
    ] {
        let node = Toy::answering(json(status, body)).await;
        let sender = Sender::new();
        let reply = sender.whole(&delivery(QUERY, &cluster(&[&node]))).await;
        let reply = reply.unwrap();
        assert_eq!(reply.status.as_str(), &status[..3]);
        assert_eq!(reply.body, body);
        assert!(reply.json.is_none());
    }
}

#[tokio::test]
async fn whoever_leaves_takes_everything_with_him() {
    let node = Toy::start(|_| Act::Hang).await;
    let (sender, cluster) = (Sender::new(), cluster(&[&node]));
    let delivery = delivery(QUERY, &cluster);
    {
        let mut waiting = std::pin::pin!(sender.whole(&delivery));
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("it hangs"),
            () = until("the node has it", || node.count() == 1) => {}
        }
    }
    let status = &cluster.nodes(Instant::now().into_std())[0];
    assert_eq!(
        (status.in_flight, status.connections, status.failures),
        (0, 0, 0)
    );
    assert_eq!(sender.totals().get(Try::Cancelled), 1);
}

#[tokio::test]
async fn over_all_workers_a_node_has_no_more_connections_than_allowed() {
    let node = Toy::answering(ok()).await;
    let mut settings = settings(&[node.address]);
    settings.pool.max_connections = 2;
    let cluster = Cluster::new(settings);
    let workers = [Sender::new(), Sender::new(), Sender::new()];
    for worker in workers.iter().cycle().take(9) {
        worker.whole(&delivery(QUERY, &cluster)).await.unwrap();
        assert!(cluster.nodes(Instant::now().into_std())[0].connections <= 2);
    }
    until("the third is closed", || node.open() <= 2).await;
}

#[tokio::test]
async fn a_node_at_its_cap_takes_nothing_more() {
    let node = Toy::start(|_| Act::Hang).await;
    let mut settings = settings(&[node.address]);
    settings.pool.max_connections = 1;
    let cluster = Cluster::new(settings);
    let (sender, delivery) = (Sender::new(), delivery(QUERY, &cluster));
    let mut waiting = std::pin::pin!(sender.whole(&delivery));
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("it hangs"),
        () = until("the node has it", || node.count() == 1) => {}
    }
    let failure = sender.whole(&delivery).await.unwrap_err();
    assert_eq!((failure.cause, failure.sent), (Cause::NoNode, false));
}

#[tokio::test]
async fn an_idle_or_old_connection_is_closed_in_order() {
    for (idle_timeout, max_age) in [(40, 60_000), (120, 10)] {
        let node = Toy::answering(ok()).await;
        let mut settings = settings(&[node.address]);
        settings.pool.idle_timeout = Duration::from_millis(idle_timeout);
        settings.pool.max_age = Duration::from_millis(max_age);
        let cluster = Cluster::new(settings);
        let sender = Sender::new();
        sender.whole(&delivery(QUERY, &cluster)).await.unwrap();
        until("it is closed", || node.open() == 0).await;
        assert_eq!(node.goodbyes(), 1, "with a close_notify");
    }
}

#[tokio::test]
async fn more_idle_connections_than_allowed_are_closed() {
    let node = Toy::answering(ok()).await;
    let mut settings = settings(&[node.address]);
    settings.pool.max_idle = 2;
    let cluster = Cluster::new(settings);
    let (sender, delivery) = (Sender::new(), delivery(QUERY, &cluster));
    let five = (0..5).map(|_| sender.whole(&delivery));
    let mut five: Vec<_> = five.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        five.retain_mut(|one| one.as_mut().poll(cx).is_pending());
        if five.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    until("three are closed", || node.open() == 2).await;
}
