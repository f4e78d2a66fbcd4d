//! Retries of requests that are not idempotent, stale connections, and the retry budget.

use std::time::Duration;

use ccfs_gateway::stand_in::{AcceptBehavior, Fault, When};

use crate::load::{JOBS, Kind, Load, Target, counter, env_admin_request};
use crate::support::{Setup, TestEnv};

const PAUSE: Duration = Duration::from_millis(5);

/// Two nodes that are never ejected, with short timeouts.
async fn stubborn(retries: &str) -> TestEnv {
    Setup {
        nodes: 2,
        cluster: format!(
            "ejection = {{ consecutive_failures = 0 }}\nhealth_check = {{ enabled = false }}\n\
             timeouts = {{ connect = \"500ms\", per_try = \"500ms\", overall = \"900ms\" }}\n{retries}"
        ),
        ..Setup::default()
    }
    .start()
    .await
}

fn all_faults() -> Vec<Fault> {
    vec![
        Fault::CloseAfterResponse,
        Fault::CloseBeforeResponse,
        Fault::CloseInBody,
        Fault::CloseInHead,
        Fault::DelayHead(Duration::from_millis(700)),
        Fault::DelayBody(Duration::from_millis(700)),
        Fault::GarbageHttp,
        Fault::GarbageJson,
        Fault::Hang,
        Fault::HangInBody,
        Fault::Interim,
        Fault::ContentLengthAndChunked,
        Fault::NulInHeaderValue,
        Fault::Reset,
        Fault::ResetInBody,
        Fault::ResultCode("0399999".into()),
        Fault::Status(500),
        Fault::Status(502),
        Fault::Status(503),
        Fault::Status(504),
        Fault::ExtraResponse,
        Fault::ConflictingContentLengths,
        Fault::UntilClose,
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_never_reaches_two_nodes() {
    let env = stubborn("").await;
    let target = Target::of(&env);
    let mut reached = 0;
    let faults = all_faults();
    let asked = faults.len() * JOBS.len();
    for fault in faults {
        for node in &env.nodes {
            node.clear_record();
            node.faults().inject(fault.clone(), When::Always);
        }
        let mut jobs = tokio::task::JoinSet::new();
        for job in JOBS {
            let target = target.clone();
            jobs.spawn(async move { target.send(Kind::Job(job), "once").await });
        }
        jobs.join_all().await;
        for job in JOBS {
            let counts: Vec<_> = env.nodes.iter().map(|node| node.count(job)).collect();
            // Zero, if a busy machine could not connect in time.
            let sent = counts.iter().sum::<u64>();
            assert!(sent <= 1, "{job} under {fault:?}: {counts:?}");
            reached += sent;
        }
        env.nodes.iter().for_each(|node| node.faults().clear());
    }
    assert!(reached * 10 > asked as u64 * 9, "{reached} of {asked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_fails_over_while_nothing_was_processed() {
    let mut env = stubborn("").await;
    let target = Target::of(&env);
    env.nodes[0]
        .faults()
        .inject(Fault::FlowControl, When::Always);
    for job in JOBS {
        target.send(Kind::Job(job), "busy").await.unwrap();
    }
    env.nodes[0].faults().clear();
    for admission in [AcceptBehavior::Reset, AcceptBehavior::Stall] {
        let mut connected = env.nodes[0].connections();
        env.nodes[0].stop().await;
        env.nodes[0].restart().await.unwrap();
        env.nodes[0].faults().set_accept_behavior(admission);
        while env.nodes[0].connections() == connected {
            target
                .send(Kind::Job(JOBS[0]), "unreachable")
                .await
                .unwrap();
        }
        connected = env.nodes[0].connections();
        assert!(connected > 0);
        env.nodes[0].faults().clear();
    }
    env.nodes[0].stop().await;
    for _ in 0..10 {
        for job in JOBS {
            target.send(Kind::Job(job), "stopped").await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_connections_fail_no_request() {
    let env = stubborn("retries = { budget = 0, floor = 0 }").await;
    for node in &env.nodes {
        node.faults()
            .inject(Fault::CloseAfterResponse, When::Every(2));
    }
    let target = Target::of(&env);
    let recordings = Load::start(&target, Kind::Recording, 4, PAUSE);
    recordings.wait_for_responses(200).await;
    recordings.stop().await.assert_nothing_lost("stale");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exhausted_retry_budget_passes_the_response_on_and_is_counted() {
    let env = stubborn("retries = { budget = 0, floor = 1 }").await;
    env.nodes[0]
        .faults()
        .inject(Fault::Status(503), When::Always);
    let recordings = Load::start(&Target::of(&env), Kind::Recording, 4, PAUSE);
    recordings.wait_for_responses(100).await;
    let tally = recordings.stop().await;
    assert!(!tally.failed.is_empty());
    assert!(
        tally
            .failed
            .iter()
            .all(|what| what.contains("503 Service Unavailable node"))
    );
    let metrics = env_admin_request(&env, "GET", "/metrics").await;
    let refused = counter(&metrics, "ccfs_gateway_retry_budget_exhausted_total");
    assert!(refused >= tally.failed.len() as u64);
    let reason = "ccfs_gateway_upstream_retries_total{reason=\"server_error\"}";
    assert!(counter(&metrics, reason) >= 1, "the floor");
}
