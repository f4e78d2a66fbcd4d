//! Tickets: what one opens, for how long, and what its holder may ask for.

use std::time::{Duration, Instant};

use ccfs_gateway::client::ClientRequest;
use ccfs_gateway::stand_in::{Fault, When};
use http::Method;
use http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, HOST};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::X_API_KEY;
use super::caller;
use super::links::{KEY, WINDOW, link, location, play, sign, start, start_with, with_key};
use crate::assertions::{assert_gateway_error, assert_node_response};
use crate::page;
use crate::support::{BERLIN, SHANGHAI, Setup, TestEnv, eventually, read, write_secret};

/// A URL with an expiry, as CC-FS gives it out.
fn url(number: u32) -> String {
    format!("https://obs.example.com/{number}?AccessKeyId=a&Expires=4102444800&Signature=s{number}")
}

/// Opens a ticket for a target, as a client that asks for JSON.
async fn open_as_json(env: &TestEnv, target: &str) -> ccfs_gateway::client::ClientResponse {
    let issued = ticket(env, target).await;
    let request = get(env, issued["url"].as_str().unwrap());
    let request = request.with_header(ACCEPT, "application/json");
    env.send(&request).await
}

#[tokio::test]
async fn a_ticket_gives_one_recording_out_however_it_is_asked() {
    let env = start("").await;
    let second = open_as_json(&env, &format!("array-3/ticket?{WINDOW}&n=2")).await;
    let by_key = play(&env, &format!("array-3?{WINDOW}&n=2")).await;
    assert_eq!(location(&second), location(&by_key));
    assert!(second.body.is_empty());
    // No refusal holds another one of the recordings either.
    let (urls, one) = (json!([url(1), url(2)]), json!({ "a": url(1), "b": url(2) }));
    for (call_id, code, data, number, status) in [
        ("1-1", "0", &urls, 3, 404),
        ("1-2", "0", &one, 1, 502),
        ("1-3", "0300012", &urls, 1, 404),
        ("1-4", "0300009", &urls, 1, 503),
        ("1-5", "0300001", &urls, 1, 400),
        ("1-6", "0100000", &urls, 1, 502),
    ] {
        let body = json!({ "resultCode": code, "resultDesc": "d", "resultData": data });
        let fault = Fault::Body("application/json", body.to_string());
        env.nodes[0].faults().inject(fault, When::Always);
        let target = format!("{call_id}/ticket?{WINDOW}&n={number}");
        let response = open_as_json(&env, &target).await;
        assert_eq!(response.status.as_u16(), status, "{call_id}");
        let text = String::from_utf8_lossy(&response.body);
        assert!(!text.contains("https"), "{text}");
        let seen = response.json();
        assert_eq!(
            (&seen["resultCode"], &seen["resultData"]),
            (&code.into(), &Value::Null)
        );
        env.nodes[0].faults().clear();
    }
    // Who has the key reads what CC-FS says.
    let request = with_key(link(&env, Method::GET, &format!("array-3?{WINDOW}&n=2")));
    let response = env
        .send(&request.with_header(ACCEPT, "application/json"))
        .await;
    assert_node_response(&response, "0");
    assert_eq!(response.json()["resultData"]["url"][1], location(&second));
}

#[tokio::test]
async fn the_holder_of_a_ticket_neither_waits_nor_has_a_node_asked_anew() {
    let env = start("").await;
    let issued = ticket(&env, &format!("1-1/ticket?{WINDOW}")).await;
    let of_ticket = get(&env, issued["url"].as_str().unwrap());
    let first = location(&env.send(&of_ticket).await);
    env.sole_upstream_request();
    let reload = of_ticket.with_header(CACHE_CONTROL, "no-cache");
    assert_eq!(location(&env.send(&reload).await), first);
    env.assert_no_upstream_request();

    env.nodes[0].faults().add_unknown_call("9-9");
    let issued = ticket(&env, &format!("9-9/ticket?{WINDOW}")).await;
    let patient = get(&env, issued["url"].as_str().unwrap())
        .with_header(http::HeaderName::from_static("prefer"), "wait=30");
    // From the node, and from the cache of what is not there.
    for _ in 0..2 {
        let started = Instant::now();
        let response = env.send(&patient).await;
        assert_eq!(response.status.as_u16(), 404);
        assert_eq!(response.header("preference-applied"), None);
        assert!(started.elapsed() < Duration::from_secs(20));
    }
}

pub(super) async fn ticket(env: &TestEnv, target: &str) -> Value {
    let mut request = link(env, Method::POST, target);
    request
        .headers
        .insert("content-length", "0".parse().unwrap());
    let response = env.send(&with_key(request)).await;
    assert_eq!(response.status.as_u16(), 200, "{response:?}");
    assert_eq!(response.header("cache-control"), Some("no-store"));
    response.json()
}

pub(super) fn get(env: &TestEnv, target: &str) -> ClientRequest {
    ClientRequest::get(&format!("{}{target}", env.url())).unwrap()
}

#[tokio::test]
async fn a_ticket_opens_its_link_and_nothing_else() {
    let tables = caller("other", "api_key_file = \"other-key\"");
    let setup_key = "fedcba9876543210fedcba9876543210";
    let setup = Setup {
        listener: "playback = true\nticket_life = \"2m\"".to_owned(),
        tables: caller("web", "api_key_file = \"web-key\"") + &tables,
        ..Setup::default()
    };
    let site = setup.prepare().await;
    write_secret(&site.folder.path().join("web-key"), KEY.as_bytes());
    write_secret(&site.folder.path().join("other-key"), setup_key.as_bytes());
    let env = TestEnv::with_site(site);
    let issued = ticket(&env, &format!("array-2/ticket?{WINDOW}&n=2")).await;
    env.assert_no_upstream_request();
    let url = issued["url"].as_str().unwrap();
    let end: Timestamp = issued["expires"].as_str().unwrap().parse().unwrap();
    let left = end.duration_since(Timestamp::now()).as_secs();
    assert!((110..=120).contains(&left), "{left}");
    let by_key = location(&play(&env, &format!("array-2?{WINDOW}&n=2")).await);
    for method in [Method::GET, Method::HEAD] {
        let mut request = get(&env, url);
        request.method = method;
        let response = env.send(&request).await;
        assert_eq!(location(&response), by_key);
        assert_eq!(env.log_line(&response).await["gw.caller"], "web");
    }
    let text = url.rsplit_once("ticket=").unwrap().1;
    let changed = |from: &str, to: &str| {
        assert!(url.contains(from), "{url}");
        url.replacen(from, to, 1)
    };
    for wrong in [
        changed("array-2", "array-3"),
        changed("16%3A25%3A03", "16%3A25%3A04"),
        changed("17%3A25%3A11", "17%3A25%3A12"),
        changed("n=2", "n=1"),
        changed("n=2&", ""),
        changed(text, &text[..text.len() - 2]),
        changed(text, &format!("{text}A")),
        changed(text, ""),
        changed(
            text,
            &text.replacen(&text[..1], if text.starts_with('A') { "B" } else { "A" }, 1),
        ),
    ] {
        let response = env.send(&get(&env, &wrong)).await;
        assert_gateway_error(&response, 401, "unauthenticated", "GW401");
    }
    // Another credential beside it, right or wrong.
    for (name, value) in [
        (X_API_KEY, KEY),
        (X_API_KEY, ""),
        (AUTHORIZATION, "Bearer x"),
    ] {
        let response = env.send(&get(&env, url).with_header(name, value)).await;
        assert_gateway_error(&response, 401, "unauthenticated", "GW401");
    }
    // It is no credential of an interface, and in no other place.
    let mut posted = env.recording("1-1");
    posted.target += &format!("?ticket={text}");
    assert_gateway_error(&env.send(&posted).await, 401, "unauthenticated", "GW401");
    let mut again = get(&env, &url.replacen("?", "/ticket?", 1));
    again.method = Method::POST;
    assert_gateway_error(&env.send(&again).await, 400, "malformed", "GW400");
    let signer = sign(
        link(&env, Method::POST, &format!("1-1/ticket?{WINDOW}")),
        SHANGHAI,
    );
    assert_gateway_error(&env.send(&signer).await, 403, "forbidden", "GW403");
    let invalid = with_key(link(&env, Method::POST, "1-1/ticket?begin=x"));
    assert_eq!(env.send(&invalid).await.status.as_u16(), 400);
    let mut method = get(&env, &format!("/recordings/1-1/ticket?{WINDOW}"));
    method = with_key(method);
    assert_gateway_error(&env.send(&method).await, 405, "method-not-allowed", "GW405");
}

#[tokio::test]
async fn each_use_of_a_ticket_is_judged_anew() {
    let env = start("").await;
    let issued = ticket(&env, &format!("1-1/ticket?{WINDOW}")).await;
    let url = issued["url"].as_str().unwrap().to_owned();
    let file = env.file("gateway.toml");
    let original = read(&file);
    let key = "api_key_file = \"web-key\"";
    for (edit, status) in [
        (format!("{key}\nenabled = false"), 401),
        (format!("{key}\nnot_after = 2020-01-01T00:00:00Z"), 401),
        (format!("{key}\ninterfaces = [\"downloadRecord\"]"), 403),
        (key.to_owned(), 302),
    ] {
        std::fs::write(&file, original.replace(key, &edit)).unwrap();
        env.reload().await;
        let response = env.send(&get(&env, &url)).await;
        assert_eq!(response.status.as_u16(), status, "{edit}");
    }
    // Another access key has other recordings.
    let moved = original.replace(
        &format!("access_key = \"{SHANGHAI}\""),
        &format!("access_key = \"{BERLIN}\""),
    );
    std::fs::write(&file, moved).unwrap();
    env.reload().await;
    assert_eq!(env.send(&get(&env, &url)).await.status.as_u16(), 401);
}

#[tokio::test]
async fn a_ticket_is_over_after_its_life() {
    let env = start_with(
        "ticket_life = \"1s\"",
        &caller("web", "api_key_file = \"web-key\""),
    )
    .await;
    let issued = ticket(&env, &format!("1-1/ticket?{WINDOW}")).await;
    let url = issued["url"].as_str().unwrap().to_owned();
    eventually("the ticket is over", async || {
        env.send(&get(&env, &url)).await.status.as_u16() == 401
    })
    .await;
}

/// A player or a proxy that escapes the query of a link makes it a part of the path, which logs show.
#[tokio::test]
async fn a_ticket_in_a_path_shows_nowhere() {
    let tables = "[admin]\nbind = \"127.0.0.1:0\"\ntoken_file = \"web-key\"\n[telemetry]\nlog_level = \"debug\"\n\
                  access_log = \"access.log\"\naudit_log = \"audit.log\"\nlog_claimed_ak = true\n";
    let mut env = start(tables).await;
    let issued = ticket(&env, &format!("1-1/ticket?{WINDOW}")).await;
    let url = issued["url"].as_str().unwrap().to_owned();
    let text = url.rsplit_once("ticket=").unwrap().1.to_owned();
    for between in ["%3F", "%3f", "%253F", "&", ";"] {
        let escaped = url.replacen('?', between, 1);
        for request in [
            get(&env, &escaped),
            get(&env, &escaped.replace("ticket=", "ticket%3D")),
            with_key(get(&env, &escaped)),
            get(&env, &format!("/CCFS{escaped}")),
            sign(get(&env, &format!("/CCFS{escaped}")), SHANGHAI).with_header(HOST, "other"),
        ] {
            let response = env.send(&request).await;
            assert!([400, 401].contains(&response.status.as_u16()), "{escaped}");
            let line = env.log_line(&response).await;
            let path = line["url.path"].as_str().unwrap();
            assert!(path.contains("/recordings/1-1"), "{path}");
        }
    }
    let admin = env.bound.admin.unwrap();
    let mut shown = Vec::new();
    let doctor = format!("/signatures/{SHANGHAI}");
    eventually("the case of the doctor", async || {
        let head =
            format!("GET {doctor} HTTP/1.1\r\nHost: {admin}\r\nAuthorization: Bearer {KEY}\r\n");
        page::exchange(admin, &head).await.status == 200
    })
    .await;
    for path in ["/status", "/metrics", "/config", doctor.as_str()] {
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\nAuthorization: Bearer {KEY}\r\n");
        let response = page::exchange(admin, &head).await;
        assert_eq!(response.status, 200, "{path}");
        shown.push(response.body);
    }
    env.shut_down().await;
    shown.extend(["access.log", "audit.log"].map(|file| read(&env.file(file))));
    for shown in shown {
        assert!(!shown.contains(&text), "{shown}");
    }
}

/// Nothing is made of a value that is longer than any of CC-FS, not even the HMAC of a ticket.
#[tokio::test]
async fn a_value_of_a_link_has_a_length() {
    let env = start("").await;
    let long = "9".repeat(20_000);
    for target in [
        format!("1-1?begin={long}&end=x&ticket=AAAA"),
        format!("1-1?begin=x&end={long}"),
        format!("{long}?begin=x"),
    ] {
        let response = env.send(&with_key(link(&env, Method::GET, &target))).await;
        assert_gateway_error(&response, 400, "malformed", "GW400");
    }
}
