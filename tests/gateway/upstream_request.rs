//! The forwarded recording-URL request: original or new signature, and which parts stay unchanged.

use ccfs_gateway::client::{ClientRequest, DEFAULT_SIGNED_FIELDS};
use http::HeaderName;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::assertions::assert_node_response;
use crate::recording::{
    ELEVEN, TEN, assert_forwarded_unchanged, assert_resigned, odd_body, parts, text,
};
use crate::support::{SHANGHAI, Setup, TestEnv, credential, signed};

#[tokio::test]
async fn a_request_is_resigned_over_the_client_signed_names() {
    let env = TestEnv::start().await;
    for (number, names) in [
        "host",
        "host;content-type",
        DEFAULT_SIGNED_FIELDS,
        "x-b;x-a;host;x-a-b",
    ]
    .into_iter()
    .enumerate()
    {
        let mut request = env.post(odd_body(&format!("1-{number}"), false, TEN, ELEVEN));
        for name in ["x-a", "x-b", "x-a-b"] {
            let value = "a  b/\u{e9}:\"%41+".parse().unwrap();
            request.headers.insert(HeaderName::from_static(name), value);
        }
        let request = request
            .sign(&credential(SHANGHAI), names, Timestamp::now())
            .unwrap();
        assert_node_response(&env.send(&request).await, "0");
        let got = env.sole_upstream_request();
        assert_resigned(&got, &request);
        let sent = request.headers.get("x-a").map(|value| value.as_bytes());
        let field = got.headers.iter().find(|(name, _)| name == "x-a");
        assert_eq!(field.map(|(_, value)| value.as_bytes()), sent);
    }
}

#[tokio::test]
async fn requests_with_their_own_signature_stay_byte_identical() {
    let env = TestEnv::start().await;
    let earlier = Timestamp::now() - SignedDuration::from_mins(9);
    let body = odd_body("1-1", true, TEN, ELEVEN);
    let request = env
        .post(body)
        .with_header(CONTENT_TYPE, "Application/JSON ; Charset=\"utf-8\"")
        .sign(&credential(SHANGHAI), DEFAULT_SIGNED_FIELDS, earlier)
        .unwrap();
    assert_node_response(&env.send(&request).await, "0");
    assert_forwarded_unchanged(&env.sole_upstream_request(), &request);

    let request = env
        .post(odd_body("1-2", false, TEN, ELEVEN))
        .with_header(CONTENT_TYPE, "Application/JSON ; Charset=\"utf-8\"")
        .sign(&credential(SHANGHAI), DEFAULT_SIGNED_FIELDS, earlier)
        .unwrap();
    assert_node_response(&env.send(&request).await, "0");
    let got = env.sole_upstream_request();
    assert_resigned(&got, &request);
    assert_eq!(got.header("content-type"), text(&request, &CONTENT_TYPE));
}

#[tokio::test]
async fn a_missing_content_type_is_added_only_when_resigning() {
    let env = TestEnv::start().await;
    for (version, content_type) in [
        (true, None),
        (false, Some("application/json;charset=UTF-8")),
    ] {
        let mut request = env.post(odd_body("1-1", version, TEN, ELEVEN));
        request.headers.remove(CONTENT_TYPE);
        let names = "content-length;host";
        let request = request
            .sign(&credential(SHANGHAI), names, Timestamp::now())
            .unwrap();
        assert_node_response(&env.send(&request).await, "0");
        let got = env.sole_upstream_request();
        assert_eq!(
            got.header("content-type"),
            content_type,
            "version {version}"
        );
        assert_eq!(parts(got.header("authorization"))[3], names);
    }
}

#[tokio::test]
async fn a_chunked_body_is_forwarded_with_its_length() {
    let env = TestEnv::start().await;
    for version in [true, false] {
        let body = odd_body("1-1", version, TEN, ELEVEN);
        let request = env.post(body.clone());
        let request = request
            .sign(&credential(SHANGHAI), "host", Timestamp::now())
            .unwrap();
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\nTransfer-Encoding: chunked\r\n\
             Connection: close\r\n\r\n",
            request.target,
            text(&request, &HOST).unwrap(),
            text(&request, &AUTHORIZATION).unwrap(),
        );
        let (first, second) = body.split_at(7);
        let chunks = format!(
            "7\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
            second.len()
        );
        let response = env.exchange_raw((head + &chunks).as_bytes()).await;
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        let got = env.sole_upstream_request();
        assert_eq!(
            got.header("content-length"),
            Some(&*got.body.len().to_string())
        );
        assert_eq!(
            (got.access_key.is_some(), got.body == *body),
            (true, version)
        );
    }
}

#[tokio::test]
async fn a_query_is_forwarded_unchanged_and_nothing_is_cached() {
    let env = TestEnv::start().await;
    for version in [true, false] {
        let url = format!(
            "{}/CCFS/resource/ccfs/getRecordFileUrlFromObs?b=1+2&a=%2f&c&d=%e4%bd%a0",
            env.url()
        );
        let body = odd_body("1-1", version, TEN, ELEVEN);
        let request = signed(ClientRequest::post(&url, body).unwrap(), SHANGHAI);
        for _ in 0..2 {
            let response = env.send(&request).await;
            assert_node_response(&response, "0");
            assert_eq!(response.header("cache-control"), Some("no-store"));
            assert_eq!(response.header("age"), None);
            let status = response.header("cache-status").unwrap_or_default();
            assert!(
                !status.contains("hit") && !status.contains("stored"),
                "{status}"
            );
            let got = env.sole_upstream_request();
            assert_eq!(got.target, request.target);
            match version {
                true => assert_forwarded_unchanged(&got, &request),
                false => assert_resigned(&got, &request),
            }
        }
    }
    // They did not fill the cache entry of the request without a query either.
    let plain = signed(env.post(odd_body("1-1", true, TEN, ELEVEN)), SHANGHAI);
    env.send(&plain).await;
    env.sole_upstream_request();
}

#[tokio::test]
async fn the_response_is_the_nodes_own_bytes() {
    let env = TestEnv::start().await;
    for call_id in [
        "1-1",
        "array-3",
        "members-2",
        "code-0300012",
        "code-0300028",
        "form-lss",
    ] {
        let first = env.get_recording(call_id).await;
        assert_eq!(first.header("cache-control"), Some("no-store"), "{call_id}");
        assert_eq!(first.header("server"), Some("ccfs-stand-in"));
        assert_eq!(
            first.header("content-type"),
            Some("application/json;charset=UTF-8")
        );
        let text = String::from_utf8_lossy(&first.body);
        // The nodes write the fields in this order, which no sorted map would preserve.
        assert!(text.starts_with("{\"resultData\""), "{text}");
        carries(&first.json());
    }
}

fn carries(json: &Value) {
    let members = json.as_object().unwrap();
    assert_eq!(members.len(), 3, "{json}");
    assert!(members.contains_key("resultData") && json["resultCode"] != json!(null));
}

#[tokio::test]
async fn host_node_is_resigned_for_each_node() {
    let env = Setup {
        nodes: 2,
        cluster: "host = \"node\"\nbalance = \"round-robin\"".into(),
        ..Setup::default()
    }
    .start()
    .await;
    for number in 0..4 {
        let body = odd_body(&format!("1-{number}"), true, TEN, ELEVEN);
        let request = signed(env.post(body), SHANGHAI);
        assert_node_response(&env.send(&request).await, "0");
    }
    for node in &env.nodes {
        assert!(node.count("getRecordFileUrlFromObs") > 0);
        let host = node.address().to_string();
        for got in node.requests().iter().filter(|got| got.target != "/") {
            assert_eq!(got.header("host"), Some(&*host));
            assert_eq!(got.access_key.as_deref(), Some(SHANGHAI));
            let outside = env.bound.listeners["ccfs"].to_string();
            assert_eq!(got.header("x-forwarded-host"), Some(&*outside));
            assert_eq!(
                got.header("content-length"),
                Some(&*got.body.len().to_string())
            );
        }
    }
}

#[tokio::test]
async fn host_is_preserved_as_sent() {
    let env = TestEnv::start().await;
    for host in [
        "records.example.com",
        "10.154.198.164",
        "CCFS.example.com:28443",
    ] {
        for version in [true, false] {
            let mut request =
                env.post(odd_body(&format!("1-{}", host.len()), version, TEN, ELEVEN));
            request.headers.insert(HOST, host.parse().unwrap());
            assert_node_response(&env.send(&signed(request, SHANGHAI)).await, "0");
            let got = env.sole_upstream_request();
            assert_eq!(got.header("host"), Some(host));
            assert_eq!(got.access_key.as_deref(), Some(SHANGHAI));
        }
    }
}

#[tokio::test]
async fn a_signed_length_with_leading_zeros_stays_unchanged() {
    let env = TestEnv::start().await;
    let mut request = env.post(odd_body("1-1", true, TEN, ELEVEN));
    let length = format!("00{}", request.body.len());
    request
        .headers
        .insert(CONTENT_LENGTH, length.parse().unwrap());
    let request = signed(request, SHANGHAI);
    let mut raw = format!("POST {} HTTP/1.1\r\nconnection: close\r\n", request.target);
    for (name, value) in &request.headers {
        raw += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    raw += "\r\n";
    let raw = [raw.as_bytes(), &request.body].concat();
    let response = env.exchange_raw(&raw).await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert_eq!(
        env.sole_upstream_request().access_key.as_deref(),
        Some(SHANGHAI)
    );
}
