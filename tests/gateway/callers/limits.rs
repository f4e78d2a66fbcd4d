//! The budgets of callers, their access keys and addresses: each pays its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ccfs_gateway::client::{ClientRequest, ClientResponse};
use ccfs_gateway::stand_in::{Fault, When};
use http::header::AUTHORIZATION;

use super::{Authority, Site, X_API_KEY, caller};
use crate::assertions::{assert_gateway_error, assert_node_response};
use crate::page;
use crate::support::{SHANGHAI, TestEnv, eventually, signed, write_secret};

const SLOW: &str = "rate_limit = { per_hour = 10, burst = 2 }";

#[tokio::test]
async fn a_caller_has_a_budget_of_its_own_besides_that_of_its_access_key() {
    let authority = Authority::new("clients");
    let tables = caller("a", &format!("client_certificate = [\"CN=a\"]\n{SLOW}"))
        + &caller("b", &format!("client_certificate = [\"CN=b\"]\n{SLOW}"));
    let mut site = Site::new(&authority, &tables);
    site.setup.shanghai = "rate_limit = { per_hour = 10, burst = 4 }".to_owned();
    let env = site.start().await;
    let [a, b] = ["CN=a", "CN=b"].map(|name| authority.issue(&[name]));
    let left = |response: &ClientResponse| response.header("ratelimit").unwrap().to_owned();
    let first = env.recording_of(&a, "1-0").await;
    assert!(
        left(&first).starts_with("\"caller\";r=1;"),
        "{}",
        left(&first)
    );
    assert_eq!(
        first.header("ratelimit-policy"),
        Some("\"caller\";q=2;w=720")
    );
    assert_node_response(&env.recording_of(&a, "1-1").await, "0");
    // A hit is free.
    assert_node_response(&env.recording_of(&a, "1-0").await, "0");
    for _ in 0..5 {
        let refused = env.recording_of(&a, "1-2").await;
        assert_gateway_error(&refused, 429, "rate-limited", "0300009");
        assert!(left(&refused).starts_with("\"caller\";r=0;"));
        assert!(refused.header("retry-after").is_some());
    }
    // What was refused to one caller was charged to nobody: two are left of the access key's four.
    assert_node_response(&env.recording_of(&b, "1-3").await, "0");
    let last = env.send(&signed(env.recording("1-4"), SHANGHAI)).await;
    assert!(left(&last).starts_with("\"ak\";r=0;"), "{}", left(&last));
    // The access key has none left: nothing is taken from the caller, which has one.
    for _ in 0..3 {
        let refused = env.recording_of(&b, "1-5").await;
        assert_gateway_error(&refused, 429, "rate-limited", "0300009");
        assert!(left(&refused).starts_with("\"ak\";r=0;"));
    }
    let admin = env.bound.admin.unwrap();
    let count = |decision: &str, limiter: &str| {
        format!(
            "ratelimit_decisions_total{{limiter=\"{limiter}\",decision=\"{decision}\",source=\"local\"}}"
        )
    };
    assert_eq!(page::metric(admin, &count("refused", "caller")).await, 5.0);
    assert_eq!(page::metric(admin, &count("allowed", "caller")).await, 3.0);
    let finding = async || {
        let status = page::get(admin, "/status").await.json();
        let findings = status["findings"].as_array().unwrap().clone();
        findings
            .into_iter()
            .find(|it| it["subject"]["kind"] == "caller")
    };
    eventually("the finding", async || finding().await.is_some()).await;
    let finding = finding().await.unwrap();
    assert_eq!(finding["subject"]["name"], "a");
    assert_eq!(
        finding["details"]["limits"][0]["key"],
        "[callers.a] rate_limit"
    );
    let status = page::get(admin, "/status").await.json();
    let figures = |caller: usize| {
        let names = [
            "requests",
            "hits",
            "limited",
            "refused",
            "failed",
            "not_found",
        ];
        names.map(|name| status["callers"][caller][name].as_u64().unwrap())
    };
    assert_eq!(
        (figures(0), figures(1)),
        ([8, 1, 5, 0, 0, 0], [4, 0, 3, 0, 0, 0])
    );
}

#[tokio::test]
async fn the_ceiling_of_a_caller_counts_hits() {
    let authority = Authority::new("clients");
    let keys = "client_certificate = [\"CN=a\"]\nceiling = { per_hour = 10, burst = 3 }";
    let env = Site::new(&authority, &caller("a", keys)).start().await;
    let a = authority.issue(&["CN=a"]);
    for _ in 0..3 {
        assert_node_response(&env.recording_of(&a, "1-0").await, "0");
    }
    let refused = env.recording_of(&a, "1-0").await;
    assert_gateway_error(&refused, 429, "rate-limited", "0300009");
    assert!(
        refused
            .header("ratelimit")
            .unwrap()
            .starts_with("\"ceiling\";r=0;")
    );
    assert_node_response(&env.get_recording("1-0").await, "0");
}

#[tokio::test]
async fn a_caller_has_a_quarter_of_the_places_of_its_access_key() {
    let authority = Authority::new("clients");
    let mut site = Site::new(&authority, &caller("a", "client_certificate = [\"CN=a\"]"));
    site.setup.shanghai = "in_flight = 8".to_owned();
    let env = site.start().await;
    let client = Arc::new(env.client_of(&authority.issue(&["CN=a"])));
    env.nodes[0]
        .faults()
        .inject(Fault::DelayHead(Duration::from_secs(30)), When::Always);
    let held: Vec<_> = (0..2)
        .map(|n| {
            let (client, request) = (client.clone(), env.recording(&format!("1-{n}")));
            tokio::spawn(async move { client.send(&request).await.map(drop) })
        })
        .collect();
    let admin = env.bound.admin.unwrap();
    eventually("both are in flight", async || {
        let status = page::get(admin, "/status").await.json();
        status["callers"][0]["in_flight"] == 2
    })
    .await;
    let refused = client.send(&env.recording("1-2")).await.unwrap();
    assert_gateway_error(&refused, 429, "rate-limited", "0300009");
    held.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_dry_run_counts_the_limits_of_callers_and_refuses_nothing() {
    let authority = Authority::new("clients");
    let keys = format!("client_certificate = [\"CN=a\"]\n{SLOW}");
    let tables = caller("a", &keys) + "[limits]\ndry_run = true\n";
    let env = Site::new(&authority, &tables).start().await;
    let a = authority.issue(&["CN=a"]);
    for n in 0..4 {
        let response = env.recording_of(&a, &format!("1-{n}")).await;
        assert_node_response(&response, "0");
        let would_refuse = env.log_line(&response).await["gw.would_refuse"].clone();
        assert_eq!(would_refuse == "caller", n > 1, "{n}: {would_refuse}");
    }
}

#[tokio::test]
async fn a_forged_identity_costs_the_address_and_not_the_access_key() {
    let authority = Authority::new("clients");
    let tables = caller("a", "client_certificate = [\"CN=a\"]")
        + "[limits]\nper_address = { per_hour = 60, burst = 3 }\n";
    let mut site = Site::new(&authority, &tables);
    site.setup.shanghai = "rate_limit = { per_hour = 10, burst = 1 }".to_owned();
    let env = site.start().await;
    let client = env.client_of(&authority.issue(&["CN=b"]));
    let mut statuses = Vec::new();
    for _ in 0..5 {
        let response = client.send(&env.recording("1-1")).await.unwrap();
        statuses.push(response.status.as_u16());
    }
    assert_eq!(statuses, [401, 401, 401, 429, 429]);
    let wrong = env.recording("1-1").with_header(AUTHORIZATION, "Bearer x");
    let caller = env.client_of(&authority.issue(&["CN=a"]));
    assert_eq!(caller.send(&wrong).await.unwrap().status.as_u16(), 429);
    // Who verifies is not refused for the address, and nothing was charged to the access key.
    assert_node_response(&caller.send(&env.recording("1-1")).await.unwrap(), "0");
}

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// Starts a gateway with a caller that has [`KEY`] and these keys, and with these tables.
async fn start_with_key(keys: &str, tables: &str) -> TestEnv {
    let keys = format!("api_key_file = \"qa-key\"\n{keys}");
    let authority = Authority::new("clients");
    let mut site = Site::new(&authority, &(caller("qa", &keys) + tables));
    site.setup.listener = "playback = true".to_owned();
    site.setup.shanghai = "ceiling = { per_hour = 10, burst = 8 }".to_owned();
    let write = |folder: &Path| write_secret(&folder.join("qa-key"), KEY.as_bytes());
    site.start_after(write).await
}

#[tokio::test]
async fn what_is_refused_to_a_caller_counts_for_its_ceiling_and_that_of_its_access_key() {
    let keys = "ceiling = { per_hour = 10, burst = 4 }\ninterfaces = [\"downloadRecord\"]";
    let env = start_with_key(keys, "").await;
    let link = "/recordings/1-1?begin=2021-11-24T16:25:03Z&end=2021-11-24T17:25:11Z";
    let link = ClientRequest::get(&format!("{}{link}", env.url())).unwrap();
    let mut unlisted = env.recording("1-1");
    unlisted.target = "/rest/x".to_owned();
    let mut statuses = Vec::new();
    for request in [
        env.recording("1-1"),
        unlisted,
        env.post_to("downloadRecord?a=b", "{}"),
        link,
        env.recording("1-1"),
    ] {
        let request = request.with_header(X_API_KEY, KEY);
        statuses.push(env.send(&request).await.status.as_u16());
    }
    assert_eq!(statuses, [403, 404, 400, 403, 429]);
    // Four of the eight of the access key are left. Clients that sign get no tickets.
    let ticket = "/recordings/1-1/ticket?begin=2021-11-24T16:25:03Z&end=2021-11-24T17:25:11Z";
    for status in [403, 403, 403, 403, 429] {
        let mut request = env.recording("1-1");
        request.target = ticket.to_owned();
        let response = env.send(&signed(request, SHANGHAI)).await;
        assert_eq!(response.status.as_u16(), status);
    }
    env.assert_no_upstream_request();
}

#[tokio::test]
async fn what_a_caller_may_not_ask_is_refused_before_its_body() {
    let env = start_with_key("", "[limits]\nbody_timeout = \"1s\"\n").await;
    let wrong = KEY.replace('0', "1");
    for (key, path, status) in [
        (KEY, "ivr/uploadFile", 403),
        (KEY, "ivr/uploadFile?vdnId=1", 403),
        (KEY, "getRecordFileUrlFromObs?a=b", 400),
        (KEY, "unlisted", 404),
        // An unknown key is like a wrong signature: it is judged behind the body.
        (&wrong, "ivr/uploadFile", 408),
        (&wrong, "unlisted", 408),
    ] {
        let mut connection = env.target().connect().await;
        let head = format!(
            "POST /CCFS/resource/ccfs/{path} HTTP/1.1\r\nHost: h\r\nX-Api-Key: {key}\r\n\
             Content-Length: 60000\r\n\r\n"
        );
        connection.send(head.as_bytes()).await;
        let response = connection.response().await.unwrap();
        assert_eq!(response.status, status, "{path}");
    }
    env.assert_no_upstream_request();
}
