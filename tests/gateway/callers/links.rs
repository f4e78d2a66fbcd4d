//! Links that play: redirects and refusals.

use ccfs_gateway::client::{ClientRequest, ClientResponse};
use ccfs_gateway::stand_in::{Fault, When};
use http::header::{ACCEPT, AUTHORIZATION, RANGE};
use http::{HeaderName, Method};
use jiff::Timestamp;

use super::tickets::{get, ticket};
use super::{Authority, Site, X_API_KEY, caller};
use crate::assertions::{assert_gateway_error, assert_node_response};
use crate::page;
use crate::support::{BERLIN, SHANGHAI, Setup, TestEnv, credential, read, signed, write_secret};

pub(super) const KEY: &str = "0123456789abcdef0123456789abcdef";
pub(super) const WINDOW: &str = "begin=2021-11-24%2016:25:03&end=2021-11-24%2017:25:11";

/// A gateway with links and the caller `web`, that has an API key.
pub(super) async fn start(tables: &str) -> TestEnv {
    start_with("", &(caller("web", "api_key_file = \"web-key\"") + tables)).await
}

pub(super) async fn start_with(listener: &str, tables: &str) -> TestEnv {
    let setup = Setup {
        listener: format!("playback = true\n{listener}"),
        tables: tables.to_owned(),
        ..Setup::default()
    };
    let site = setup.prepare().await;
    write_secret(&site.folder.path().join("web-key"), KEY.as_bytes());
    TestEnv::with_site(site)
}

pub(super) fn link(env: &TestEnv, method: Method, target: &str) -> ClientRequest {
    ClientRequest::new(method, &format!("{}/recordings/{target}", env.url())).unwrap()
}

pub(super) fn with_key(request: ClientRequest) -> ClientRequest {
    request.with_header(X_API_KEY, KEY)
}

pub(super) fn sign(request: ClientRequest, ak: &str) -> ClientRequest {
    request
        .sign(&credential(ak), "host", Timestamp::now())
        .unwrap()
}

pub(super) async fn play(env: &TestEnv, target: &str) -> ClientResponse {
    env.send(&with_key(link(env, Method::GET, target))).await
}

pub(super) fn location(response: &ClientResponse) -> String {
    assert_eq!(response.status.as_u16(), 302);
    response.header("location").unwrap().to_owned()
}

#[tokio::test]
async fn a_link_leads_to_the_recording_of_the_same_request() {
    let mut env = start("").await;
    let response = play(&env, &format!("1-1?{WINDOW}")).await;
    let url = location(&response);
    assert!(url.starts_with("https://"), "{url}");
    assert!(response.body.is_empty());
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert_eq!(response.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(response.header("content-type"), None);
    let got = env.sole_upstream_request();
    assert_eq!(got.target, "/CCFS/resource/ccfs/getRecordFileUrlFromObs");
    assert_eq!(
        (got.method.as_str(), got.access_key.as_deref()),
        ("POST", Some(SHANGHAI))
    );
    // The same entry, whoever asks and how.
    let posted = env.get_recording("1-1").await;
    assert_eq!(posted.json()["resultData"]["url"], url);
    let head = env
        .send(&with_key(link(
            &env,
            Method::HEAD,
            &format!("1-1?{WINDOW}"),
        )))
        .await;
    assert_eq!(location(&head), url);
    let of_signer = sign(link(&env, Method::GET, &format!("1-1?{WINDOW}")), SHANGHAI);
    assert_eq!(location(&env.send(&of_signer).await), url);
    let ranged = with_key(link(&env, Method::GET, &format!("1-1?{WINDOW}")))
        .with_header(RANGE, "bytes=0-")
        .with_header(HeaderName::from_static("if-none-match"), "*");
    assert_eq!(location(&env.send(&ranged).await), url);
    // Times with a zone, written with a plain plus and with an escaped one.
    for window in [
        "begin=2021-11-24T16:25:03+08:00&end=2021-11-24T17:25:11%2B08:00",
        "begin=2021-11-24T08:25:03Z&end=2021-11-24%2017:25:11",
    ] {
        assert_eq!(
            location(&play(&env, &format!("1%2D1?{window}&n=1")).await),
            url
        );
    }
    env.assert_no_upstream_request();
    let json = with_key(link(&env, Method::GET, &format!("1-1?{WINDOW}")))
        .with_header(ACCEPT, "application/json");
    let json = env.send(&json).await;
    assert_node_response(&json, "0");
    assert_eq!(json.json()["resultData"]["url"], url);
    env.client = env.new_client().http2_only();
    assert_eq!(location(&play(&env, &format!("1-1?{WINDOW}")).await), url);
    let berlin = sign(link(&env, Method::GET, &format!("1-1?{WINDOW}")), BERLIN);
    assert_ne!(location(&env.send(&berlin).await), url);
}

#[tokio::test]
async fn each_refusal_has_a_status_of_its_own() {
    let env = start("").await;
    let two = play(&env, &format!("array-2?{WINDOW}&n=2")).await;
    let first = play(&env, &format!("array-2?{WINDOW}")).await;
    assert_ne!(location(&two), location(&first));
    for (target, status, code) in [
        (format!("array-2?{WINDOW}&n=3"), 404, "0"),
        (format!("code-0300012?{WINDOW}"), 404, "0300012"),
        (format!("code-0300011?{WINDOW}"), 404, "0300011"),
        (format!("code-0300009?{WINDOW}"), 503, "0300009"),
        (format!("code-0300010?{WINDOW}"), 400, "0300010"),
        (format!("code-0300099?{WINDOW}"), 502, "0300099"),
        ("1-1".to_owned(), 400, "0300001"),
        ("1-1?begin=x&end=y".to_owned(), 400, "0300004"),
        (
            format!("12345678901234567890123456?{WINDOW}"),
            400,
            "0300003",
        ),
        (
            "1-1?begin=2021-11-25%2000:00:00&end=2021-11-24%2000:00:00".to_owned(),
            400,
            "0300013",
        ),
    ] {
        let response = play(&env, &target).await;
        let seen = (
            response.status.as_u16(),
            response.result_code().unwrap_or_default(),
        );
        assert_eq!(seen, (status, code.to_owned()), "{target}");
        assert_eq!(response.header("location"), None);
        assert_eq!(
            response.header("retry-after").is_some(),
            status == 503,
            "{target}"
        );
    }
    for (target, status, kind, code) in [
        (format!("1-1?{WINDOW}&x=1"), 400, "malformed", "GW400"),
        (format!("1-1?{WINDOW}&n=1&n=1"), 400, "malformed", "GW400"),
        (format!("1-1/?{WINDOW}"), 404, "not-found", "GW404"),
        (format!("1-1/x?{WINDOW}"), 404, "not-found", "GW404"),
    ] {
        assert_gateway_error(&play(&env, &target).await, status, kind, code);
    }
    let post = env
        .send(&with_key(link(
            &env,
            Method::POST,
            &format!("1-1?{WINDOW}"),
        )))
        .await;
    assert_gateway_error(&post, 405, "method-not-allowed", "GW405");
    assert_eq!(post.header("allow"), Some("GET, HEAD"));
    env.nodes[0]
        .faults()
        .inject(Fault::Status(403), When::Always);
    let refused = play(&env, &format!("9-9?{WINDOW}")).await;
    assert_eq!(refused.status.as_u16(), 502);
}

#[tokio::test]
async fn who_does_not_verify_gets_nothing_and_reaches_no_node() {
    for listener in [
        "",
        "authentication = \"shadow\"",
        "unknown_clients = \"forward\"",
    ] {
        let tables = caller(
            "web",
            "api_key_file = \"web-key\"\ninterfaces = [\"downloadRecord\"]",
        );
        let env = start_with(listener, &tables).await;
        let target = format!("1-1?{WINDOW}");
        for request in [
            link(&env, Method::GET, &target),
            link(&env, Method::GET, &target).with_header(AUTHORIZATION, "Basic eDp5"),
            link(&env, Method::GET, &target).with_header(X_API_KEY, "wrong"),
            sign(link(&env, Method::GET, &target), "ak-stranger"),
            with_key(sign(link(&env, Method::GET, &target), SHANGHAI)),
            link(&env, Method::GET, &format!("{target}&ticket=abc")),
        ] {
            let response = env.send(&request).await;
            assert_gateway_error(&response, 401, "unauthenticated", "GW401");
        }
        let response = env.send(&with_key(link(&env, Method::GET, &target))).await;
        assert_gateway_error(&response, 403, "forbidden", "GW403");
        env.assert_no_upstream_request();
    }
    // Without `playback` it is a path like any other.
    let env = TestEnv::start().await;
    let response = env
        .send(&link(&env, Method::GET, &format!("1-1?{WINDOW}")))
        .await;
    assert_gateway_error(&response, 401, "unauthenticated", "GW401");
}

#[tokio::test]
async fn only_the_location_has_the_url_and_no_log_has_the_ticket() {
    let tables = "[telemetry]\nlog_level = \"debug\"\naccess_log = \"access.log\"\naudit_log = \"audit.log\"\n";
    let mut env = start(tables).await;
    let issued = ticket(&env, &format!("1-1/ticket?{WINDOW}")).await;
    let url = issued["url"].as_str().unwrap().to_owned();
    let text = url.rsplit_once("ticket=").unwrap().1.to_owned();
    let response = env.send(&get(&env, &url)).await;
    let target = location(&response);
    let query = target.split_once('?').unwrap().1.to_owned();
    let line = env.log_line(&response).await;
    assert_eq!(line["url.path"], "/recordings/1-1");
    assert_eq!(
        (&line["gw.caller"], &line["gw.call_id"]),
        (&"web".into(), &"1-1".into())
    );
    let admin = env.bound.admin.unwrap();
    let mut shown = vec![format!("{:?}", response.body)];
    for path in ["/status", "/metrics", "/config"] {
        shown.push(page::get(admin, path).await.body);
    }
    env.shut_down().await;
    let audit = read(&env.file("audit.log"));
    assert!(
        audit.contains("\"caller\":\"web\"") && audit.contains("\"call_id\":\"1-1\""),
        "{audit}"
    );
    shown.extend(["access.log", "audit.log"].map(|file| read(&env.file(file))));
    for text in [query, text] {
        assert!(shown.iter().all(|shown| !shown.contains(&text)));
    }
}

/// A browser with a certificate: a page of another site cannot even play.
#[tokio::test]
async fn a_certificate_plays_on_the_own_site_only() {
    let authority = Authority::new("clients");
    let mut site = Site::new(
        &authority,
        &caller("qa", "client_certificate = [\"CN=qa\"]"),
    );
    site.setup.listener = "playback = true".to_owned();
    let env = site.start().await;
    let client = env.client_of(&authority.issue(&["CN=qa"]));
    let request = || link(&env, Method::GET, &format!("1-1?{WINDOW}"));
    let fetch_site = HeaderName::from_static("sec-fetch-site");
    let own = request().with_header(fetch_site.clone(), "same-origin");
    location(&client.send(&own).await.unwrap());
    let foreign = request().with_header(fetch_site, "cross-site");
    let response = client.send(&foreign).await.unwrap();
    assert_gateway_error(&response, 403, "forbidden", "GW403");
    // A form of another site cannot get a ticket.
    let form = link(&env, Method::POST, &format!("1-1/ticket?{WINDOW}"));
    let response = client.send(&form).await.unwrap();
    assert_gateway_error(&response, 415, "unsupported-media-type", "GW415");
    let signed_too = signed(env.recording("1-1"), SHANGHAI);
    assert_node_response(&env.send(&signed_too).await, "0");
}
