//! Paths outside the table, and routes.

use ccfs_gateway::client::ClientRequest;
use http::header::ACCEPT_ENCODING;
use http::{HeaderName, Method};
use jiff::Timestamp;

use crate::assertions::{assert_common_headers, assert_gateway_error, assert_node_response};
use crate::support::{SHANGHAI, Setup, TestEnv, UNKNOWN, credential, signed};
use crate::unverified_clients::assert_forwarded_unchanged;

#[tokio::test]
async fn paths_outside_the_table_are_for_verified_callers() {
    let world = TestEnv::start().await;
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
        let mut request = ClientRequest::post(&url, body).unwrap();
        request.method = method;
        let request = request
            .with_header(ACCEPT_ENCODING, "gzip")
            .with_header(HeaderName::from_static("x-other"), "a  b");
        assert_gateway_error(&world.send(&request).await, 401, "unauthenticated", "GW401");
        let stranger = signed(request.clone(), UNKNOWN);
        assert_gateway_error(
            &world.send(&stranger).await,
            401,
            "unauthenticated",
            "GW401",
        );
        world.assert_no_upstream_request();
        let request = signed(request, SHANGHAI);
        let answer = world.send(&request).await;
        assert_node_response(&answer, "0");
        assert_forwarded_unchanged(&world.sole_upstream_request(), &request);
    }
}

#[tokio::test]
async fn unlisted_paths_take_uploads() {
    let world = TestEnv::start().await;
    let request = signed(world.post_to("unlisted", "x".repeat(1 << 20)), SHANGHAI);
    assert_node_response(&world.send(&request).await, "0");
    assert_eq!(world.sole_upstream_request().body_length, 1 << 20);
    let request = signed(
        world.post_to("unlisted", "x".repeat((8 << 20) + 1)),
        SHANGHAI,
    );
    assert_gateway_error(&world.send(&request).await, 413, "body-too-large", "GW413");
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
        let request = signed(ClientRequest::post(&url, "{}").unwrap(), SHANGHAI);
        let answer = world.send(&request).await;
        match node {
            Some(node) => {
                assert_node_response(&answer, "0");
                let here = world.nodes[node].requests();
                assert!(here.iter().any(|got| got.target == path), "{path}");
                world.sole_upstream_request();
            }
            None => {
                assert_gateway_error(&answer, 404, "not-found", "GW404");
                world.assert_no_upstream_request();
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
        assert_gateway_error(&answer, 404, "not-found", "GW404");
        let answer = world.send(&world.post_to(tail, "{}")).await;
        assert_gateway_error(&answer, 404, "not-found", "GW404");
    }
    world.assert_no_upstream_request();
    assert_node_response(&world.get_recording("1-1").await, "0");
}

#[tokio::test]
async fn an_unlisted_path_takes_head_and_bodiless_requests() {
    let mut world = TestEnv::start().await;
    for http2 in [false, true] {
        if http2 {
            world.client = world.new_client().http2_only();
        }
        for method in [Method::HEAD, Method::GET, Method::OPTIONS, Method::DELETE] {
            let url = format!("{}/rest/cmsapp/v1/x?a=1", world.url());
            let request = ClientRequest::new(method.clone(), &url).unwrap();
            let request = request
                .sign(&credential(SHANGHAI), "host", Timestamp::now())
                .unwrap();
            let answer = world.send(&request).await;
            assert_eq!(answer.status, 200, "{method}");
            assert_common_headers(&answer);
            assert_eq!(answer.body.is_empty(), method == Method::HEAD);
            let length = answer.header("content-length").map(str::to_owned);
            assert!(length.is_some_and(|length| length != "0"), "{method}");
            let got = world.sole_upstream_request();
            assert_eq!((&got.method, got.body_length), (&method, 0));
            assert_eq!(got.access_key.as_deref(), Some(SHANGHAI));
        }
    }
}
