//! Routes, and paths that are not in the interface table.

use ccfs_gateway::client::ClientRequest;
use http::header::ACCEPT_ENCODING;
use http::{HeaderName, Method};
use jiff::Timestamp;

use crate::assertions::{assert_common_headers, assert_gateway_error, assert_node_response};
use crate::support::{SHANGHAI, Setup, TestEnv, UNKNOWN, credential, signed};
use crate::unverified_clients::assert_forwarded_unchanged;

#[tokio::test]
async fn paths_outside_the_table_are_for_verified_callers() {
    let env = TestEnv::start().await;
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
        let url = format!("{}{path}", env.url());
        let mut request = ClientRequest::post(&url, body).unwrap();
        request.method = method;
        let request = request
            .with_header(ACCEPT_ENCODING, "gzip")
            .with_header(HeaderName::from_static("x-other"), "a  b");
        assert_gateway_error(&env.send(&request).await, 401, "unauthenticated", "GW401");
        let stranger = signed(request.clone(), UNKNOWN);
        assert_gateway_error(&env.send(&stranger).await, 401, "unauthenticated", "GW401");
        env.assert_no_upstream_request();
        let request = signed(request, SHANGHAI);
        let response = env.send(&request).await;
        assert_node_response(&response, "0");
        assert_forwarded_unchanged(&env.sole_upstream_request(), &request);
    }
}

#[tokio::test]
async fn unlisted_paths_take_uploads() {
    let env = TestEnv::start().await;
    let request = signed(env.post_to("unlisted", "x".repeat(1 << 20)), SHANGHAI);
    assert_node_response(&env.send(&request).await, "0");
    assert_eq!(env.sole_upstream_request().body_length, 1 << 20);
    let request = signed(env.post_to("unlisted", "x".repeat((8 << 20) + 1)), SHANGHAI);
    assert_gateway_error(&env.send(&request).await, 413, "body-too-large", "GW413");
}

#[tokio::test]
async fn the_longest_route_matches_and_no_route_is_404() {
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
    let env = setup.start().await;
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
        let url = format!("{}{path}", env.url());
        let request = signed(ClientRequest::post(&url, "{}").unwrap(), SHANGHAI);
        let response = env.send(&request).await;
        match node {
            Some(node) => {
                assert_node_response(&response, "0");
                let here = env.nodes[node].requests();
                assert!(here.iter().any(|got| got.target == path), "{path}");
                env.sole_upstream_request();
            }
            None => {
                assert_gateway_error(&response, 404, "not-found", "GW404");
                env.assert_no_upstream_request();
            }
        }
    }
}

#[tokio::test]
async fn unknown_paths_can_be_404() {
    let listener = "unknown_paths = \"reject\"".into();
    let env = Setup {
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
        let response = env.send(&signed(env.post_to(tail, "{}"), SHANGHAI)).await;
        assert_gateway_error(&response, 404, "not-found", "GW404");
        let response = env.send(&env.post_to(tail, "{}")).await;
        assert_gateway_error(&response, 404, "not-found", "GW404");
    }
    env.assert_no_upstream_request();
    assert_node_response(&env.get_recording("1-1").await, "0");
}

#[tokio::test]
async fn an_unlisted_path_takes_head_and_bodiless_requests() {
    let mut env = TestEnv::start().await;
    for http2 in [false, true] {
        if http2 {
            env.client = env.new_client().http2_only();
        }
        for method in [Method::HEAD, Method::GET, Method::OPTIONS, Method::DELETE] {
            let url = format!("{}/rest/cmsapp/v1/x?a=1", env.url());
            let request = ClientRequest::new(method.clone(), &url).unwrap();
            let request = request
                .sign(&credential(SHANGHAI), "host", Timestamp::now())
                .unwrap();
            let response = env.send(&request).await;
            assert_eq!(response.status, 200, "{method}");
            assert_common_headers(&response);
            assert_eq!(response.body.is_empty(), method == Method::HEAD);
            let length = response.header("content-length").map(str::to_owned);
            assert!(length.is_some_and(|length| length != "0"), "{method}");
            let got = env.sole_upstream_request();
            assert_eq!((&got.method, got.body_length), (&method, 0));
            assert_eq!(got.access_key.as_deref(), Some(SHANGHAI));
        }
    }
}
