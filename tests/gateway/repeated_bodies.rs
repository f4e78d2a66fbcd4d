//! Each worker remembers what repeated bodies become (§3). What they become still follows the access key of each
//! request, and answers stay with their cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use ccfs_gateway::client::ClientRequest;
use ccfs_gateway::stand_in::RecordedRequest;
use http::header::CACHE_CONTROL;
use serde_json::Value;

use crate::cache::{STORED, cache_status};
use crate::recording::{NEW_YORK, odd_body};
use crate::reload::edited;
use crate::support::{BERLIN, SHANGHAI, Setup, TestEnv, read, signed};

/// Ten o'clock in UTC, which a body without version means for the access keys here.
const BEGIN: &str = "2022-07-01 10:00:00";

const END: &str = "2022-07-01 11:00:00";

/// Each worker remembers for itself.
const ONE_WORKER: &str = "[server]\nworkers = 1\n";

fn begin_time(request: &RecordedRequest) -> String {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    body["beginTime"].as_str().unwrap().to_owned()
}

/// Asks for a recording three times past the cache; the third at the latest finds its body normalized. What other
/// access keys asked for meanwhile was read by their own zone.
async fn assert_becomes(env: &TestEnv, request: &ClientRequest, begin: &str) {
    for _ in 0..3 {
        env.nodes[0].clear_record();
        let response = env.send(&signed(request.clone(), BERLIN)).await;
        assert_eq!(response.result_code().as_deref(), Some("0"));
        let received = env.upstream_requests();
        let (by_berlin, by_new_york): (Vec<_>, Vec<_>) = received
            .iter()
            .partition(|got| got.access_key.as_deref() == Some(BERLIN));
        assert_eq!(by_berlin.len(), 1);
        assert_eq!(begin_time(by_berlin[0]), begin);
        for got in by_new_york {
            assert_eq!(begin_time(got), "2022-07-01 06:00:00");
        }
    }
}

#[tokio::test]
async fn under_load_a_repeated_body_follows_the_zone_of_its_access_key() {
    let env = Setup {
        accounts: vec![(
            NEW_YORK,
            "time_zone = \"America/New_York\"\nversionless = \"utc\"",
        )],
        berlin: "versionless = \"utc\"".into(),
        tables: ONE_WORKER.into(),
        ..Setup::default()
    }
    .start()
    .await;
    let request = env
        .post(odd_body("1637742300-1", false, BEGIN, END))
        .with_header(CACHE_CONTROL, "no-cache");
    let stop = Arc::new(AtomicBool::new(false));
    // The same bytes by another access key, on connections of their own.
    let others: Vec<_> = std::iter::repeat_with(|| {
        let (client, request, stop) = (env.new_client(), request.clone(), stop.clone());
        tokio::spawn(async move {
            let mut answered = 0_u64;
            while !stop.load(Relaxed) {
                let response = client.send(&signed(request.clone(), NEW_YORK)).await;
                assert_eq!(response.unwrap().result_code().as_deref(), Some("0"));
                answered += 1;
            }
            answered
        })
    })
    .take(4)
    .collect();

    let berlin = read(&env.file("gateway.toml"));
    let tokyo = berlin.replace("Europe/Berlin", "Asia/Tokyo");
    let without = berlin.replace(&format!("[access_keys.{BERLIN}]"), "[access_keys.another]");
    for _ in 0..10 {
        edited(&env, |_| berlin.clone()).await;
        assert_becomes(&env, &request, "2022-07-01 12:00:00").await;
        edited(&env, |_| tokyo.clone()).await;
        assert_becomes(&env, &request, "2022-07-01 19:00:00").await;
        // The account is freed, and another one made.
        edited(&env, |_| without.clone()).await;
        let response = env.send(&signed(request.clone(), BERLIN)).await;
        assert_eq!(response.status, 401);
    }
    stop.store(true, Relaxed);
    for other in others {
        let answered = other.await.unwrap();
        assert!(answered > 30, "{answered}");
    }
}

#[tokio::test]
async fn two_clusters_answer_the_same_body_each_from_its_nodes() {
    let env = Setup {
        nodes: 2,
        listener: "routes = { \"/\" = \"one\" }".into(),
        tables: ONE_WORKER.to_owned()
            + "[clusters.one]\nnodes = [\"{node0}\"]\ntls = { ca = \"ca.pem\" }\n\
             [clusters.two]\nnodes = [\"{node1}\"]\ntls = { ca = \"ca.pem\" }\n\
             [listeners.two]\nbind = \"127.0.0.1:0\"\ncluster = \"two\"\n\
             tls = { certificate = \"leaf.pem\", private_key = \"leaf.key\" }\n",
        ..Setup::default()
    }
    .start()
    .await;
    let body = odd_body("1637742300-1", true, BEGIN, END);
    for (place, listener) in [(0, "ccfs"), (1, "two")] {
        let url = format!("https://{}", env.bound.listeners[listener]);
        let request = ClientRequest::post(&url, body.clone()).unwrap();
        for repeat in 0..5 {
            let response = env.send(&signed(request.clone(), SHANGHAI)).await;
            assert_eq!(cache_status(&response) == STORED, repeat == 0);
        }
        assert_eq!(env.nodes[place].count("getRecordFileUrlFromObs"), 1);
    }
}
