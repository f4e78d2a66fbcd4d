//! Callers whom the gateway does not know, interfaces without signature, paths outside the table,
//! routes.

use ccfs_gateway::auth::{AccessKey, Credential, Secret};
use ccfs_gateway::cli::client::{NAMES, SignedRequest};
use ccfs_gateway::stand_in::{Received, files};
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, HOST};
use http::{HeaderName, Method};
use jiff::Timestamp;
use serde_json::json;

use crate::expect::{answered, carries_what_all_do, refused};
use crate::support::{BERLIN, SHANGHAI, STRANGER, Setup, World, credential, secret, signed};

const OFF: &str = "ak-switched-off";

async fn hospitable(tables: &str) -> World {
    let setup = Setup {
        listener: "unknown_clients = \"forward\"".into(),
        accounts: vec![(OFF, "time_zone = \"Asia/Shanghai\"\nenabled = false")],
        tables: tables.into(),
        ..Setup::default()
    };
    setup.start().await
}

fn is_as_sent(got: &Received, sent: &SignedRequest) {
    assert_eq!(
        (got.target.as_str(), &got.body),
        (sent.target.as_str(), &sent.body)
    );
    for (name, value) in &sent.headers {
        assert_eq!(got.header(name.as_str()), value.to_str().ok(), "{name}");
    }
}

#[tokio::test]
async fn a_stranger_goes_on_byte_for_byte_and_is_never_cached() {
    let world = hospitable("").await;
    let versionless = json!({
        "callId": "1-1", "beginTime": "2022-01-02 10:00:00", "endTime": "2022-01-02 11:00:00",
    });
    for body in [
        versionless.to_string(),
        "no json".into(),
        "{ \"callId\" : 5 } ".into(),
    ] {
        let mut request = world.post(body);
        request
            .headers
            .insert(HOST, "records.example.com".parse().unwrap());
        let request = signed(request, STRANGER);
        for _ in 0..2 {
            let answer = world.send(&request).await;
            assert_eq!(answer.header("x-gateway-error"), None);
            assert_eq!(answer.header("age"), None);
            carries_what_all_do(&answer);
            let got = world.sole();
            is_as_sent(&got, &request);
            assert_eq!(got.access_key.as_deref(), Some(STRANGER));
        }
    }
    // What a known caller has in the cache is not for a stranger, nor the other way round.
    answered(&world.ask("1-2").await, "0");
    world.sole();
    let request = signed(world.recording("1-2"), STRANGER);
    world.send(&request).await;
    world.sole();
}

#[tokio::test]
async fn other_schemes_go_on_and_the_node_judges_them() {
    let world = hospitable("").await;
    for value in [
        "Bearer abc.def",
        "SDK-HMAC-SHA256 Access=x, SignedHeaders=host, Signature=y",
        "Basic eDp5",
    ] {
        let request = world.recording("1-1").authorized(value.parse().unwrap());
        let answer = world.send(&request).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("x-gateway-error")),
            (401, None)
        );
        is_as_sent(&world.sole(), &request);
    }
    let mut without = world.recording("1-1");
    without.headers.remove(AUTHORIZATION);
    assert_eq!(world.send(&without).await.header("x-gateway-error"), None);
    is_as_sent(&world.sole(), &without);
}

#[tokio::test]
async fn who_names_a_configured_ak_verifies_or_is_401() {
    let world = hospitable("").await;
    let forged = |ak: &str| {
        let secret = Secret::new(secret(STRANGER).into_bytes());
        let credential = Credential::new(AccessKey::from(ak), vec![secret], true);
        let request = world.recording("1-1");
        request.sign(&credential, NAMES, Timestamp::now()).unwrap()
    };
    let mut requests = vec![
        forged(SHANGHAI),
        forged(BERLIN),
        forged(OFF),
        signed(world.recording("1-1"), OFF),
    ];
    for value in [
        format!("Bearer {SHANGHAI}"),
        format!("SDK-HMAC-SHA256 Access={SHANGHAI}, SignedHeaders=host, Signature=y"),
        format!("SDK-HMAC-SHA256 Access=x,{SHANGHAI},y"),
        format!("auth-v3/{SHANGHAI}/2022-01-02T10:00:00Z/host/00"),
        format!("AUTH-V2/{OFF}/2022-01-02T10:00:00Z/host/00"),
        format!("Bearer\t{SHANGHAI}"),
        format!("auth-v2/{STRANGER}/2022-01-02T10:00:00Z/{SHANGHAI}/00"),
        SHANGHAI.into(),
    ] {
        requests.push(world.recording("1-1").authorized(value.parse().unwrap()));
    }
    for request in requests {
        let answer = world.send(&request).await;
        refused(&answer, 401, "unauthenticated", "GW401");
    }
    // Two values are nobody's, whoever they name.
    let mut doubled = signed(world.recording("1-1"), STRANGER);
    doubled
        .headers
        .append(AUTHORIZATION, "Bearer x".parse().unwrap());
    refused(&world.send(&doubled).await, 401, "unauthenticated", "GW401");
    world.nobody_was_asked();
}

#[tokio::test]
async fn a_stranger_stays_within_the_table() {
    let world = hospitable("").await;
    for (tail, expected) in [
        ("downloadRecord", 200),
        ("nothing", 401),
        ("downloadRecord/", 401),
    ] {
        let body = "{\"request\":{\"version\":\"2.0\"},\"msgBody\":{\"fileName\":\"a.wav\"}}";
        let answer = world
            .send(&signed(world.post_to(tail, body), STRANGER))
            .await;
        assert_eq!(answer.status.as_u16(), expected, "{tail}");
    }
    assert_eq!(world.received().len(), 1);
    let url = format!("{}/rest/cmsapp/x", world.url());
    let outside = signed(
        SignedRequest::get(&url)
            .unwrap()
            .with(http::header::CONTENT_LENGTH, "0")
            .with(http::header::CONTENT_TYPE, "a/b"),
        STRANGER,
    );
    refused(&world.send(&outside).await, 401, "unauthenticated", "GW401");
}

#[tokio::test]
async fn host_node_does_not_touch_a_stranger() {
    let setup = Setup {
        listener: "unknown_clients = \"forward\"".into(),
        cluster: "host = \"node\"".into(),
        ..Setup::default()
    };
    let world = setup.start().await;
    let request = signed(world.recording("1-1"), STRANGER);
    answered(&world.send(&request).await, "0");
    is_as_sent(&world.sole(), &request);
}

#[tokio::test]
async fn strangers_are_limited_by_address_and_known_callers_are_not() {
    let world = hospitable("[limits]\nper_address = { per_second = 1, burst = 3 }").await;
    let mut statuses = Vec::new();
    for _ in 0..5 {
        let answer = world.send(&signed(world.recording("1-1"), STRANGER)).await;
        statuses.push(answer.status.as_u16());
        if answer.status == 429 {
            refused(&answer, 429, "rate-limited", "0300009");
            assert!(answer.header("retry-after").is_some());
            assert_eq!(answer.header("connection"), Some("close"));
        }
    }
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    for _ in 0..5 {
        answered(&world.ask("1-1").await, "0");
    }
}

async fn token(world: &World, file: &str) -> String {
    let body = json!({"request": {"version": "2.0"}, "msgBody": {"fileName": file}});
    let request = signed(
        world.post_to("requestPlayVoice", body.to_string()),
        SHANGHAI,
    );
    let answer = world.send(&request).await;
    answered(&answer, "0");
    world.sole();
    answer.json()["resultData"]["token"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn play(world: &World, token: &str) -> SignedRequest {
    let url = format!(
        "{}/CCFS/resource/ccfs/playVoice?t=1&version=2.0&st={token}",
        world.url()
    );
    SignedRequest::get(&url).unwrap()
}

#[tokio::test]
async fn voice_is_played_without_a_signature() {
    let world = World::start().await;
    let request = play(&world, &token(&world, "a/size-300000.wav").await);
    let answer = world.send(&request).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 300_000));
    assert!(files::matches(0, &answer.body));
    carries_what_all_do(&answer);
    let got = world.sole();
    assert_eq!(
        (got.target.as_str(), got.header("authorization")),
        (request.target.as_str(), None)
    );

    let right = request
        .clone()
        .sign(&credential(SHANGHAI), "host", Timestamp::now())
        .unwrap();
    assert_eq!(world.send(&right).await.status, 200);
    world.sole();
    for wrong in ["Bearer x", "auth-v2/x"] {
        let answer = world
            .send(&request.clone().authorized(wrong.parse().unwrap()))
            .await;
        refused(&answer, 401, "unauthenticated", "GW401");
    }
    let mut moved = right;
    moved.target += "&x=1";
    refused(&world.send(&moved).await, 401, "unauthenticated", "GW401");
    world.nobody_was_asked();
    let answer = world.send(&play(&world, "no-token")).await;
    assert_eq!(
        answer.result_code().as_deref(),
        Some("010106"),
        "failures are labelled as files"
    );
}

#[tokio::test]
async fn who_plays_is_limited_by_address() {
    let tables = "[limits]\nper_address = { per_second = 1, burst = 2 }".into();
    let world = Setup {
        tables,
        ..Setup::default()
    }
    .start()
    .await;
    let request = play(&world, &token(&world, "a.wav").await);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let answer = world.send(&request).await;
        statuses.push(answer.status.as_u16());
        if answer.status == 429 {
            refused(&answer, 429, "rate-limited", "0300008");
        }
    }
    assert_eq!(statuses, [200, 200, 429]);
}

#[tokio::test]
async fn a_token_stands_in_no_log() {
    let world = World::start().await;
    let token = token(&world, "a.wav").await;
    world.send(&play(&world, &token)).await;
    let log = world.file("access.log");
    crate::support::eventually("the access log has its line", async || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("playVoice"))
    })
    .await;
    let text = crate::support::read(&log);
    assert!(!text.contains(&token) && !text.contains("st="), "{text}");
}

#[tokio::test]
async fn paths_outside_the_table_are_for_verified_callers() {
    let world = World::start().await;
    for (method, path, body) in [
        (
            Method::POST,
            "/rest/cmsapp/v1/call?x=1&y=%2f",
            "{\"a\": 1 , \"a\":2}",
        ),
        (Method::PUT, "/CCFS/resource/ccfs/future", "not json"),
        (
            Method::GET,
            "/CCFS/resource/ccfs/getRecordFileUrlFromObs/",
            "",
        ),
        (Method::PATCH, "/a//b/", "x"),
    ] {
        let url = format!("{}{path}", world.url());
        let mut request = SignedRequest::post(&url, body).unwrap();
        request.method = method;
        let request = request
            .with(ACCEPT_ENCODING, "gzip")
            .with(HeaderName::from_static("x-other"), "a  b");
        refused(&world.send(&request).await, 401, "unauthenticated", "GW401");
        let stranger = signed(request.clone(), STRANGER);
        refused(
            &world.send(&stranger).await,
            401,
            "unauthenticated",
            "GW401",
        );
        world.nobody_was_asked();
        let request = signed(request, SHANGHAI);
        let answer = world.send(&request).await;
        answered(&answer, "0");
        is_as_sent(&world.sole(), &request);
    }
}

#[tokio::test]
async fn unlisted_paths_take_uploads() {
    let world = World::start().await;
    let request = signed(world.post_to("unlisted", "x".repeat(1 << 20)), SHANGHAI);
    answered(&world.send(&request).await, "0");
    assert_eq!(world.sole().body_length, 1 << 20);
    let request = signed(
        world.post_to("unlisted", "x".repeat((8 << 20) + 1)),
        SHANGHAI,
    );
    refused(&world.send(&request).await, 413, "body-too-large", "GW413");
}

#[tokio::test]
async fn the_longest_route_wins_and_no_route_is_404() {
    let setup = Setup {
        nodes: 3,
        listener: "routes = { \"/CCFS/\" = \"records\", \"/CCFS/resource/ccfs/ivr/\" = \"ivr\", \
                   \"/rest/cmsapp/\" = \"cms\" }"
            .into(),
        tables: ["records", "ivr", "cms"]
            .iter()
            .enumerate()
            .map(|(node, name)| {
                format!(
                    "[clusters.{name}]\nnodes = [\"{{node{node}}}\"]\ntls = {{ ca = \"ca.pem\" }}\n"
                )
            })
            .collect(),
        ..Setup::default()
    };
    let world = setup.start().await;
    for (path, node) in [
        ("/CCFS/resource/ccfs/getFuture", Some(0)),
        ("/CCFS/resource/ccfs/ivr/getFuture", Some(1)),
        ("/CCFS/resource/ccfs/ivr/", Some(1)),
        ("/CCFS/resource/ccfs/ivr", Some(0)),
        ("/CCFS/resource/ccfs/ivrx/getFuture", Some(0)),
        ("/rest/cmsapp/v1", Some(2)),
        ("/rest/cms/v1", None),
        ("/rest/cmsapp", None),
        ("/CCFS", None),
        ("/ccfs/x", None),
        ("/x/CCFS/y", None),
    ] {
        let url = format!("{}{path}", world.url());
        let request = signed(SignedRequest::post(&url, "{}").unwrap(), SHANGHAI);
        let answer = world.send(&request).await;
        match node {
            Some(node) => {
                answered(&answer, "0");
                let here = world.nodes[node].requests();
                assert!(here.iter().any(|got| got.target == path), "{path}");
                world.sole();
            }
            None => {
                refused(&answer, 404, "not-found", "GW404");
                world.nobody_was_asked();
            }
        }
    }
}

#[tokio::test]
async fn unknown_paths_can_be_404() {
    let listener = "unknown_paths = \"reject\"".into();
    let world = Setup {
        listener,
        ..Setup::default()
    }
    .start()
    .await;
    for tail in [
        "future",
        "getRecordFileUrlFromObs/",
        "getrecordfileurlfromobs",
        "ivr",
    ] {
        let answer = world
            .send(&signed(world.post_to(tail, "{}"), SHANGHAI))
            .await;
        refused(&answer, 404, "not-found", "GW404");
        let answer = world.send(&world.post_to(tail, "{}")).await;
        refused(&answer, 404, "not-found", "GW404");
    }
    world.nobody_was_asked();
    answered(&world.ask("1-1").await, "0");
}
