//! What of a node's answer a link hands out to a browser.

use ccfs_gateway::stand_in::{Fault, When};
use http::HeaderName;

use super::links::{WINDOW, link, play, start};
use super::{Authority, Site, caller};
use crate::assertions::assert_node_response;

/// What only the owner of an origin may say there.
const OF_THE_NODE: [(&str, &str); 7] = [
    ("access-control-allow-origin", "*"),
    ("access-control-allow-credentials", "true"),
    ("clear-site-data", "\"*\""),
    ("content-location", "https://evil.example/"),
    ("location", "https://evil.example/"),
    ("refresh", "0;url=https://evil.example/"),
    ("set-cookie", "session=evil"),
];

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
    for name in [
        "access-control-allow-origin",
        "access-control-allow-credentials",
    ] {
        assert_eq!(response.header(name), None);
    }
    let policies = response.headers.get_all("cross-origin-resource-policy");
    let policies: Vec<_> = policies.iter().collect();
    assert_eq!(policies, ["same-origin"]);
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
