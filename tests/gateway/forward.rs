//! Header fields of forwarded requests and responses.

use ccfs_gateway::client::{ClientRequest, DEFAULT_SIGNED_FIELDS};
use ccfs_gateway::stand_in::{Fault, RecordedRequest, When};
use http::HeaderName;
use jiff::Timestamp;

use crate::assertions::{assert_common_headers, assert_node_response};
use crate::support::{SHANGHAI, Setup, TestEnv, credential, signed};

fn values(got: &RecordedRequest, name: &str) -> Vec<String> {
    let fields = got.headers.iter().filter(|(given, _)| given == name);
    fields
        .map(|(_, value)| value.to_str().unwrap().to_owned())
        .collect()
}

fn add(request: &mut ClientRequest, fields: &[(&'static str, &'static str)]) {
    for (name, value) in fields {
        let name = HeaderName::from_static(name);
        request.headers.append(name, value.parse().unwrap());
    }
}

pub(super) fn download(env: &TestEnv, file: &str) -> ClientRequest {
    let body =
        format!("{{\"request\":{{\"version\":\"2.0\"}},\"msgBody\":{{\"fileName\":\"{file}\"}}}}");
    env.post_to("downloadRecord", body)
}

#[tokio::test]
async fn only_the_gateway_tells_a_node_the_client_address() {
    let env = TestEnv::start().await;
    for mut request in [
        env.recording("1-1"),
        download(&env, "a.wav"),
        env.post_to("unlisted", "{}"),
    ] {
        add(
            &mut request,
            &[
                ("x-forwarded-for", "1.2.3.4"),
                ("x-forwarded-for", "5.6.7.8"),
                ("x-forwarded-proto", "http"),
                ("x-forwarded-host", "evil.example.com"),
                ("x-forwarded-port", "1"),
                ("forwarded", "for=1.2.3.4"),
                ("x-real-ip", "1.2.3.4"),
                ("x-request-id", "my-id"),
                ("via", "1.0 fred"),
            ],
        );
        env.send(&signed(request.clone(), SHANGHAI)).await;
        let got = env.sole_upstream_request();
        let host = request.headers["host"].to_str().unwrap();
        for (name, value) in [
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", host),
            ("x-request-id", "my-id"),
        ] {
            assert_eq!(values(&got, name), [value], "{name}");
        }
        for gone in ["x-forwarded-port", "forwarded", "x-real-ip"] {
            assert!(values(&got, gone).is_empty(), "{gone}");
        }
        let via = values(&got, "via").join(", ");
        assert!(via.starts_with("1.0 fred, 1.1 ccfs-gateway-"), "{via}");
        assert_eq!(got.access_key.as_deref(), Some(SHANGHAI));
    }
}

#[tokio::test]
async fn hop_by_hop_fields_are_removed() {
    let env = TestEnv::start().await;
    for mut request in [env.recording("1-1"), download(&env, "a.wav")] {
        add(
            &mut request,
            &[
                (
                    "connection",
                    "keep-alive, X-Client-Secret, authorization, host, content-length",
                ),
                ("x-client-secret", "1"),
                ("keep-alive", "timeout=5"),
                ("te", "trailers"),
                ("trailer", "x"),
                ("upgrade", "websocket"),
                ("proxy-authorization", "Basic x"),
                ("proxy-connection", "keep-alive"),
                ("x-end-to-end", "2"),
                ("x-end-to-end", "1"),
            ],
        );
        let request = signed(request, SHANGHAI);
        let response = env.send(&request).await;
        assert_eq!(response.status, 200);
        let got = env.sole_upstream_request();
        for gone in [
            "x-client-secret",
            "keep-alive",
            "te",
            "trailer",
            "upgrade",
            "proxy-authorization",
            "proxy-connection",
        ] {
            assert!(values(&got, gone).is_empty(), "{gone}");
        }
        assert_eq!(values(&got, "x-end-to-end"), ["2", "1"]);
        assert_eq!(
            got.header("authorization"),
            request.headers["authorization"].to_str().ok()
        );
    }
}

#[tokio::test]
async fn signed_fields_arrive_unchanged() {
    let env = TestEnv::start().await;
    let mut request = env.recording("1-1");
    add(
        &mut request,
        &[
            ("accept-encoding", "gzip, br"),
            ("x-request-id", "not valid"),
            ("x-named", "  a  b "),
        ],
    );
    add(&mut request, &[("connection", "x-named")]);
    let names = "host;accept-encoding;x-request-id;x-named";
    let request = request
        .sign(&credential(SHANGHAI), names, Timestamp::now())
        .unwrap();
    let response = env.send(&request).await;
    assert_eq!(response.status, 200);
    let got = env.sole_upstream_request();
    assert_eq!(
        (got.access_key.as_deref(), &got.rejection),
        (Some(SHANGHAI), &None)
    );
    for name in names.split(';') {
        let sent = request.headers[name].to_str().unwrap().trim();
        assert_eq!(values(&got, name), [sent], "{name}");
    }
}

#[tokio::test]
async fn signed_hop_by_hop_fields_are_removed_and_the_request_resigned() {
    let env = TestEnv::start().await;
    let mut request = env.recording("1-1");
    add(
        &mut request,
        &[("te", "trailers"), ("keep-alive", "timeout=5")],
    );
    let names = "host;te;content-type;keep-alive";
    let request = request
        .sign(&credential(SHANGHAI), names, Timestamp::now())
        .unwrap();
    assert_node_response(&env.send(&request).await, "0");
    let got = env.sole_upstream_request();
    assert_eq!(got.access_key.as_deref(), Some(SHANGHAI));
    assert_eq!(got.header("te"), None);
}

#[tokio::test]
async fn unsigned_accept_encoding_goes_to_downloads_only() {
    let env = TestEnv::start().await;
    let gzip = |mut request: ClientRequest| {
        add(&mut request, &[("accept-encoding", "gzip")]);
        signed(request, SHANGHAI)
    };
    env.send(&gzip(env.recording("1-1"))).await;
    assert_eq!(env.sole_upstream_request().header("accept-encoding"), None);
    env.send(&gzip(download(&env, "a.wav"))).await;
    env.sole_upstream_request();
}

#[tokio::test]
async fn a_trace_is_continued_for_verified_callers_or_started() {
    let env = TestEnv::start().await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let seen = async |traceparent: Option<&'static str>| {
        let mut request = env.recording("1-1");
        request.target += "?uncached";
        if let Some(traceparent) = traceparent {
            add(&mut request, &[("traceparent", traceparent)]);
        }
        env.send(&signed(request, SHANGHAI)).await;
        let value = values(&env.sole_upstream_request(), "traceparent");
        assert_eq!(value.len(), 1);
        let parts: Vec<String> = value[0].split('-').map(Into::into).collect();
        assert_eq!(
            [2, 32, 16, 2],
            *parts.iter().map(String::len).collect::<Vec<_>>(),
            "{value:?}"
        );
        parts
    };
    let continued = seen(Some(parent)).await;
    assert_eq!(continued[1], "0af7651916cd43dd8448eb211c80319c");
    assert_ne!(continued[2], "b7ad6b7169203331");
    let begun = seen(None).await;
    for broken in [
        "x",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ] {
        let other = seen(Some(broken)).await;
        assert_ne!(other[1], begun[1]);
        assert!(!broken.contains(&other[1]));
    }
}

#[tokio::test]
async fn a_nodes_end_to_end_fields_reach_the_client() {
    let env = TestEnv::start().await;
    env.nodes[0]
        .faults()
        .inject(Fault::HopByHopHeaders, When::Always);
    for request in [
        env.recording("1-1"),
        download(&env, "a.wav"),
        env.post_to("unlisted", "{}"),
    ] {
        let response = env.send(&signed(request, SHANGHAI)).await;
        assert_eq!(response.header("server"), Some("ccfs-stand-in"));
        for gone in [
            "x-node-secret",
            "keep-alive",
            "proxy-authenticate",
            "proxy-connection",
        ] {
            assert_eq!(response.header(gone), None, "{gone}");
        }
        assert_eq!(response.headers.get_all("date").iter().count(), 1);
        assert_common_headers(&response);
    }
}

#[tokio::test]
async fn host_node_is_resigned_over_the_client_signed_names() {
    let env = Setup {
        cluster: "host = \"node\"".into(),
        ..Setup::default()
    }
    .start()
    .await;
    for names in [
        DEFAULT_SIGNED_FIELDS,
        "host",
        "host;content-type;content-length",
    ] {
        let mut request = env.recording("1-1");
        request.target += "?uncached";
        let request = request
            .sign(&credential(SHANGHAI), names, Timestamp::now())
            .unwrap();
        assert_node_response(&env.send(&request).await, "0");
        let got = env.sole_upstream_request();
        let authorization = got.header("authorization").unwrap();
        assert_eq!(authorization.split('/').nth(3), Some(names));
    }
}

#[tokio::test]
async fn a_node_cannot_send_what_only_the_gateway_says() {
    let env = TestEnv::start().await;
    let faults = env.nodes[0].faults();
    let reserved = [
        ("x-gateway-error", "internal"),
        ("x-gateway-hint", "x"),
        ("ratelimit", "\"x\";r=0;t=1"),
        ("ratelimit-policy", "\"x\";q=1;w=1"),
        ("preference-applied", "wait=30"),
        ("x-request-id", "theirs"),
    ];
    for (name, value) in reserved {
        faults.inject(Fault::Header(name, value), When::Always);
    }
    faults.inject(Fault::Header("x-ratelimit-left", "1"), When::Always);
    let download = "{\"msgBody\":{\"callId\":\"1-1\"}}";
    for request in [
        env.recording("reserved-1"),
        env.post_to("queryBillData", "{}"),
        env.post_to("downloadRecord", download),
    ] {
        let response = env.send(&signed(request, SHANGHAI)).await;
        for (name, value) in reserved {
            assert_ne!(response.header(name), Some(value), "{name}");
        }
        assert_eq!(response.headers.get_all("x-request-id").iter().count(), 1);
        let is_passed = response.header("x-ratelimit-left") == Some("1");
        assert!(is_passed, "{:?}", response.headers);
    }
}
