//! What of a node's answer a link hands out to a browser.

use ccfs_gateway::client::{ClientRequest, ClientResponse};
use ccfs_gateway::stand_in::{Fault, When};
use http::HeaderName;
use serde_json::json;

use super::links::{WINDOW, link, play, start};
use super::{Authority, Site, caller};
use crate::assertions::{assert_gateway_error, assert_node_response};
use crate::support::TestEnv;

/// What only the owner of an origin may say there.
const OF_THE_NODE: [(&str, &str); 12] = [
    ("access-control-allow-origin", "*"),
    ("access-control-allow-credentials", "true"),
    ("access-control-allow-headers", "*"),
    ("access-control-allow-methods", "*"),
    ("access-control-max-age", "86400"),
    ("service-worker-allowed", "/"),
    ("timing-allow-origin", "*"),
    ("clear-site-data", "\"*\""),
    ("content-location", "https://evil.example/"),
    ("location", "https://evil.example/"),
    ("refresh", "0;url=https://evil.example/"),
    ("set-cookie", "session=evil"),
];

/// Asserts that a browser runs nothing of a response, which it takes for one of the gateway's own site.
fn assert_inert(response: &ClientResponse) {
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(
        response.header("content-security-policy"),
        Some("default-src 'none'; sandbox")
    );
    let content_type = response.header("content-type");
    if response.status.as_u16() != 302 {
        assert_eq!(content_type, Some("application/json;charset=UTF-8"));
    }
}

#[tokio::test]
async fn a_link_shows_no_page_of_a_node() {
    let env = start("").await;
    let script = "<html><script>alert(document.domain)</script></html>";
    let not_found =
        format!(r#"{{"resultCode":"0300012","resultDesc":"{script}","resultData":null}}"#);
    let success = r#"{"resultCode":"0","resultData":{"url":"<script>"}}"#;
    for (call_id, faults, status) in [
        ("1-1", vec![Fault::Status(403)], 502),
        ("1-2", vec![html(script)], 502),
        ("1-3", vec![html(&not_found)], 404),
        ("1-4", vec![html(success)], 502),
        (
            "1-5",
            vec![html(script), Fault::Header("content-encoding", "br")],
            502,
        ),
    ] {
        for fault in faults {
            env.nodes[0].faults().inject(fault, When::Always);
        }
        let response = play(&env, &format!("{call_id}?{WINDOW}")).await;
        assert_eq!(response.status.as_u16(), status, "{call_id}");
        assert_inert(&response);
        assert_eq!(response.header("content-encoding"), None);
        if ["1-1", "1-2", "1-5"].contains(&call_id) {
            assert_gateway_error(&response, 502, "node-failed", "GW502");
        }
        env.nodes[0].faults().clear();
    }
    // The gateway's own answers too.
    for target in [
        format!("1-1?{WINDOW}"),
        format!("1-1?{WINDOW}&n=1"),
        format!("1-1?{WINDOW}&n=9"),
        format!("1-1?{WINDOW}&ticket=x"),
        format!("1-1?{WINDOW}&x=1"),
        "1-1/2".to_owned(),
    ] {
        assert_inert(&play(&env, &target).await);
    }
}

fn html(body: &str) -> Fault {
    Fault::Body("text/html", body.to_owned())
}

/// The n-th recording is the n-th of CC-FS, not of the alphabet.
#[tokio::test]
async fn links_number_recordings_as_the_node_does() {
    let env = start("").await;
    let url = |name: &str| {
        format!("https://obs.example.com/{name}?AccessKeyId=a&Expires=4102444800&Signature=s")
    };
    let numbered: serde_json::Map<_, _> = (1..=11)
        .map(|number| (format!("url{number}"), url(&format!("rec{number}")).into()))
        .collect();
    let beside = json!({ "url": url("rec1"), "thumbUrl": url("thumb"), "callback": url("back") });
    let named = json!({ "url": url("rec1"), url("name"): "x" });
    let doubtful = json!({ "thumbUrl": url("thumb"), "callback": url("back") });
    for (call_id, data, expected) in [
        (
            "1-1",
            numbered.into(),
            vec![Some("rec1"), Some("rec2"), Some("rec3")],
        ),
        ("1-2", beside, vec![Some("rec1"), None]),
        ("1-3", named, vec![Some("rec1"), None]),
        ("1-4", doubtful, vec![None]),
    ] {
        let body = json!({ "resultCode": "0", "resultDesc": "", "resultData": data });
        let fault = Fault::Body("application/json", body.to_string());
        env.nodes[0].faults().inject(fault, When::Always);
        for (number, expected) in (1..).zip(expected) {
            let response = play(&env, &format!("{call_id}?{WINDOW}&n={number}")).await;
            let expected = expected.map(url);
            assert_eq!(
                response.header("location"),
                expected.as_deref(),
                "{call_id}, {number}"
            );
        }
        env.nodes[0].faults().clear();
    }
}

#[tokio::test]
async fn a_node_gives_a_browser_no_cookie_and_no_other_place_to_go() {
    let env = start("").await;
    for (name, value) in OF_THE_NODE {
        let fault = Fault::Header(name, value);
        env.nodes[0].faults().inject(fault, When::Always);
    }
    env.nodes[0]
        .faults()
        .inject(Fault::Header("retry-after", "7"), When::Always);
    for (target, status) in [
        ("1-1", 302),
        ("array-2", 302),
        ("form-lss", 502),
        ("code-0300012", 404),
        ("code-0300009", 503),
        ("code-0300099", 502),
    ] {
        let response = play(&env, &format!("{target}?{WINDOW}")).await;
        assert_eq!(response.status.as_u16(), status, "{target}");
        for (name, value) in OF_THE_NODE {
            let seen = response.header(name);
            let is_own = name == "location" && status == 302;
            assert!(
                seen.is_none() || is_own && seen != Some(value),
                "{target}: {name}"
            );
        }
        // What belongs to the answer of CC-FS is kept.
        if status == 503 {
            assert_eq!(response.header("retry-after"), Some("7"));
        }
        let has_type = response.header("content-type").is_some();
        assert_eq!(has_type, status != 302, "{target}");
    }
}

/// A page of another site reads nothing, whatever a node allows.
#[tokio::test]
async fn a_node_cannot_open_the_answers_to_a_certificate_to_other_sites() {
    let authority = Authority::new("clients");
    let tables = caller("qa", "client_certificate = [\"CN=qa\"]");
    let env = Site::new(&authority, &tables).start().await;
    for (name, value) in OF_THE_NODE {
        let fault = Fault::Header(name, value);
        env.nodes[0].faults().inject(fault, When::Always);
    }
    env.nodes[0].faults().inject(
        Fault::Header("cross-origin-resource-policy", "cross-origin"),
        When::Always,
    );
    let response = env.recording_of(&authority.issue(&["CN=qa"]), "1-1").await;
    assert_node_response(&response, "0");
    assert_inert(&response);
    for (name, _) in OF_THE_NODE {
        assert_eq!(response.header(name), None, "{name}");
    }
    let policies = response.headers.get_all("cross-origin-resource-policy");
    let policies: Vec<_> = policies.iter().collect();
    assert_eq!(policies, ["same-origin"]);
}

/// A browser opens `playVoice` without any credential, and has its certificate for a script of that page.
#[tokio::test]
async fn what_a_browser_opens_without_a_credential_is_sandboxed_where_certificates_count() {
    let authority = Authority::new("clients");
    let tables = caller("qa", "client_certificate = [\"CN=qa\"]");
    let env = Site::new(&authority, &tables).start().await;
    let plain = TestEnv::start().await;
    for (env, policy) in [(&env, Some("sandbox")), (&plain, None)] {
        let fault = html("<html><script>alert(document.domain)</script></html>");
        env.nodes[0].faults().inject(fault, When::Always);
        let target = format!("{}/CCFS/resource/ccfs/playVoice?token=x", env.url());
        let response = env.send(&ClientRequest::get(&target).unwrap()).await;
        assert_eq!(response.status.as_u16(), 200);
        assert_eq!(response.header("content-type"), Some("text/html"));
        assert_eq!(response.header("content-security-policy"), policy);
    }
}

/// What stands beside the credential does not decide whether it counts.
#[tokio::test]
async fn fields_about_the_connection_hide_no_credential() {
    let authority = Authority::new("clients");
    let mut site = Site::new(
        &authority,
        &caller("qa", "client_certificate = [\"CN=qa\"]"),
    );
    site.setup.listener = "playback = true".to_owned();
    let env = site.start().await;
    let client = env.client_of(&authority.issue(&["CN=qa"]));
    for named in ["x-api-key", "authorization, x-api-key", "close, X-API-KEY"] {
        let request = link(&env, http::Method::GET, &format!("1-1?{WINDOW}"))
            .with_header(http::header::CONNECTION, named)
            .with_header(HeaderName::from_static("x-api-key"), "wrong");
        let response = client.send(&request).await.unwrap();
        assert_eq!(response.status.as_u16(), 401, "{named}");
    }
    env.assert_no_upstream_request();
}
