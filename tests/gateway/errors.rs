//! Errors that the gateway makes: the validation table, the order of precedence, the table of
//! errors.

use std::time::Duration;

use ccfs_gateway::client::ClientRequest;
use ccfs_gateway::stand_in::{Fault, When};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::assertions::{assert_gateway_error, assert_node_response};
use crate::invalid::with;
use crate::support::{SHANGHAI, Setup, TestEnv, UNKNOWN, credential, signed};

pub(super) const RECORDING: &str = "getRecordFileUrlFromObs";

#[tokio::test]
async fn other_media_types_are_415_after_the_signature_and_before_the_body() {
    let env = TestEnv::start().await;
    let content_type = |value: &'static str| {
        move |env: &TestEnv, body: &str| env.post(body).with_header(CONTENT_TYPE, value)
    };
    for wrong in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json;charset=GBK",
        "application/json;charset=UTF-8;charset=GBK",
        "application/jsonx",
        "multipart/form-data;boundary=x",
        "",
    ] {
        let request = content_type(wrong);
        println!("{wrong}");
        let response = env.send(&signed(request(&env, &with(&[])), SHANGHAI)).await;
        assert_gateway_error(&response, 415, "unsupported-media-type", "GW415");
        let response = env.send(&signed(request(&env, "no json"), SHANGHAI)).await;
        assert_gateway_error(&response, 415, "unsupported-media-type", "GW415");
        let response = env.send(&signed(request(&env, &with(&[])), UNKNOWN)).await;
        assert_gateway_error(&response, 401, "unauthenticated", "GW401");
    }
    for encoding in ["gzip", "br", "identity"] {
        let request = env.post(with(&[])).with_header(CONTENT_ENCODING, encoding);
        let response = env.send(&signed(request, SHANGHAI)).await;
        assert_gateway_error(&response, 415, "unsupported-media-type", "GW415");
    }
    env.assert_no_upstream_request();
    for right in [
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON;CHARSET=UTF-8",
        "application/json ; charset=\"utf-8\"",
        "application/json;charset=UTF-8;x=y",
    ] {
        let response = env
            .send(&signed(content_type(right)(&env, &with(&[])), SHANGHAI))
            .await;
        assert_node_response(&response, "0");
    }
}

#[tokio::test]
async fn paths_methods_and_sizes_come_before_the_signature() {
    let setup = Setup {
        listener: "routes = { \"/CCFS/\" = \"ccfs\" }\nunknown_paths = \"reject\"".into(),
        ..Setup::default()
    };
    let env = setup.start().await;
    let at = |method: Method, path: &str| {
        ClientRequest::new(method, &format!("{}{path}", env.url())).unwrap()
    };
    for path in [
        "/",
        "/rest/cmsapp/x",
        "/CCFS",
        "/ccfs/resource/ccfs/downloadRecord",
        "/CCFS/x",
    ] {
        for request in [
            at(Method::GET, path),
            signed(env.post_to("x", "{}"), SHANGHAI),
        ] {
            assert_gateway_error(&env.send(&request).await, 404, "not-found", "GW404");
        }
    }
    for (method, tail, allow) in [
        (Method::GET, RECORDING, "POST"),
        (Method::PUT, RECORDING, "POST"),
        (Method::OPTIONS, "downloadRecord", "POST"),
        (Method::DELETE, "ivr/deleteFile", "POST"),
        (Method::POST, "playVoice", "GET"),
    ] {
        let mut request = at(method, &format!("/CCFS/resource/ccfs/{tail}"));
        request.headers.insert("content-length", 0.into());
        let response = env.send(&request).await;
        assert_gateway_error(&response, 405, "method-not-allowed", "GW405");
        assert_eq!(response.header("allow"), Some(allow));
    }
    let large = env.post("x".repeat(64 * 1024 + 1));
    assert_gateway_error(&env.send(&large).await, 413, "body-too-large", "GW413");
    assert_gateway_error(
        &env.send(&signed(large, SHANGHAI)).await,
        413,
        "body-too-large",
        "GW413",
    );
    let largest = env.post("x".repeat(64 * 1024));
    assert_gateway_error(&env.send(&largest).await, 401, "unauthenticated", "GW401");
    env.assert_no_upstream_request();
}

#[tokio::test]
async fn head_of_a_method_that_is_not_allowed_has_no_body() {
    let env = TestEnv::start().await;
    let url = format!("{}/CCFS/resource/ccfs/{RECORDING}", env.url());
    let response = env
        .send(&ClientRequest::new(Method::HEAD, &url).unwrap())
        .await;
    assert_eq!((response.status.as_u16(), response.body.len()), (405, 0));
    assert_eq!(response.header("allow"), Some("POST"));
}

#[tokio::test]
async fn a_chunked_body_over_the_limit_is_413() {
    let env = TestEnv::start().await;
    let request = env.post("");
    let request = request
        .sign(&credential(SHANGHAI), "host", Timestamp::now())
        .unwrap();
    let field = |name: &str| request.headers[name].to_str().unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\nTransfer-Encoding: chunked\r\n\
         Connection: close\r\n\r\n10001\r\n",
        request.target,
        field("host"),
        field("authorization"),
    );
    let body = "x".repeat(0x10001);
    let response = env
        .exchange_raw(format!("{head}{body}\r\n0\r\n\r\n").as_bytes())
        .await;
    assert!(response.starts_with("HTTP/1.1 413 "), "{response}");
    assert!(
        response.contains("x-gateway-error: body-too-large"),
        "{response}"
    );
    env.assert_no_upstream_request();
}

#[tokio::test]
async fn malformed_http_is_400_and_closes() {
    let env = TestEnv::start().await;
    let post = format!("POST /CCFS/resource/ccfs/{RECORDING} HTTP/1.1\r\n");
    for head in [
        post.clone(),
        post.clone() + "Host: a\r\nHost: a\r\n",
        post.clone() + "Host: a b\r\n",
        post.clone() + "Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        post.clone() + "Host: a\r\nTransfer_Encoding: chunked\r\n",
        post.clone() + "Host: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
        post.clone() + "Host: a\r\nx y: z\r\n",
        "GET /CCFS/../x HTTP/1.1\r\nHost: a\r\n".into(),
        "GET /CCFS/%2e%2E/x HTTP/1.1\r\nHost: a\r\n".into(),
        "GET /CCFS/a%2fb HTTP/1.1\r\nHost: a\r\n".into(),
        "GET /CCFS/a%5cb HTTP/1.1\r\nHost: a\r\n".into(),
        "GET /CCFS/a%00b HTTP/1.1\r\nHost: a\r\n".into(),
        "GET /CCFS/..;x/b HTTP/1.1\r\nHost: a\r\n".into(),
        "GET * HTTP/1.1\r\nHost: a\r\n".into(),
    ] {
        let response = env
            .exchange_raw(format!("{head}\r\n").as_bytes())
            .await
            .to_ascii_lowercase();
        assert!(response.starts_with("http/1.1 400 "), "{head}{response}");
        for field in [
            "x-gateway-error: malformed",
            "connection: close",
            "via: 1.1 ccfs-gateway",
            "x-request-id: ",
            "\"gw400\"",
        ] {
            assert!(response.contains(field), "{head}{response}");
        }
    }
    for method in ["TRACE / HTTP/1.1", "CONNECT a:1 HTTP/1.1"] {
        let response = env
            .exchange_raw(format!("{method}\r\nHost: a:1\r\n\r\n").as_bytes())
            .await;
        assert!(
            response.starts_with("HTTP/1.1 405 ") || response.starts_with("HTTP/1.1 400 "),
            "{response}"
        );
    }
    env.assert_no_upstream_request();
}

#[tokio::test]
async fn large_heads_are_431() {
    let env = TestEnv::start().await;
    for (fields, size) in [(1, 33_000), (101, 1)] {
        let mut request = env.recording("1-1");
        for number in 0..fields {
            let name: HeaderName = format!("x-{number}").parse().unwrap();
            request
                .headers
                .insert(name, "y".repeat(size).parse().unwrap());
        }
        let response = env.send(&signed(request, SHANGHAI)).await;
        assert_gateway_error(&response, 431, "headers-too-large", "GW431");
    }
    let mut request = env.recording("1-1");
    request.target += &format!("?x={}", "y".repeat(33_000));
    assert_gateway_error(&env.send(&request).await, 431, "headers-too-large", "GW431");
    env.assert_no_upstream_request();
}

#[tokio::test]
async fn a_request_that_does_not_arrive_in_time_is_408() {
    let setup = Setup {
        tables: "[limits]\nbody_timeout = \"50ms\"\nheader_timeout = \"50ms\"".into(),
        ..Setup::default()
    };
    let env = setup.start().await;
    let request = signed(env.recording("1-1"), SHANGHAI);
    let mut head = format!("POST {} HTTP/1.1\r\n", request.target);
    for (name, value) in &request.headers {
        head += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    for begun in [head.clone(), format!("{head}\r\n{{")] {
        let mut tls = env.connect().await;
        tls.write_all(begun.as_bytes()).await.unwrap();
        let mut response = Vec::new();
        tls.read_to_end(&mut response).await.unwrap();
        let response = String::from_utf8_lossy(&response).to_ascii_lowercase();
        assert!(response.starts_with("http/1.1 408 "), "{response}");
        for field in [
            "x-gateway-error: request-timeout",
            "connection: close",
            "\"gw408\"",
        ] {
            assert!(response.contains(field), "{response}");
        }
    }
    env.assert_no_upstream_request();
}

#[tokio::test]
async fn a_gateway_at_its_limit_is_503() {
    let setup = Setup {
        tables: "[limits]\nmax_in_flight = 1".into(),
        ..Setup::default()
    };
    let env = setup.start().await;
    env.nodes[0].faults().inject(Fault::Hold, When::Next(1));
    let held = env.get_recording("1-1");
    let other = async {
        assert!(
            env.nodes[0]
                .wait_for_requests(RECORDING, 1, Duration::from_secs(10))
                .await
        );
        let response = env.get_recording("1-2").await;
        env.nodes[0].faults().release();
        response
    };
    let (held, other) = tokio::join!(held, other);
    assert_node_response(&held, "0");
    assert_gateway_error(&other, 503, "overloaded", "GW503");
    assert_eq!(other.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn a_valid_request_id_is_echoed_and_any_other_replaced() {
    let env = TestEnv::start().await;
    let id = HeaderName::from_static("x-request-id");
    let longest = "x".repeat(64);
    for sane in ["a", "A.b_c-9", &longest] {
        let mut request = env.recording("1-1");
        request.headers.insert(&id, sane.parse().unwrap());
        let wrong = env.send(&request).await;
        let right = env.send(&signed(request, SHANGHAI)).await;
        for response in [wrong, right] {
            assert_eq!(response.header("x-request-id"), Some(sane));
        }
    }
    let too_long = "x".repeat(65);
    for insane in ["", "a b", "a/b", "\u{e4}", "a\"", &too_long] {
        let mut request = env.recording("1-1");
        let value = HeaderValue::from_bytes(insane.as_bytes()).unwrap();
        request.headers.insert(&id, value);
        let response = env.send(&signed(request, SHANGHAI)).await;
        assert_ne!(response.header("x-request-id"), Some(insane));
        assert_node_response(&response, "0");
    }
    let ids = [
        env.get_recording("1-1").await,
        env.get_recording("1-1").await,
    ];
    assert_ne!(ids[0].header("x-request-id"), ids[1].header("x-request-id"));
}

#[tokio::test]
async fn expect_100_continue_gets_100_or_a_final_status() {
    let env = TestEnv::start().await;
    let head = |request: &ClientRequest| {
        let mut head = format!("POST {} HTTP/1.1\r\n", request.target);
        for (name, value) in &request.headers {
            head += &format!("{name}: {}\r\n", value.to_str().unwrap());
        }
        head + "expect: 100-continue\r\nconnection: close\r\n\r\n"
    };
    let request = signed(env.recording("1-1"), SHANGHAI);
    let mut tls = env.connect().await;
    tls.write_all(head(&request).as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    tls.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    tls.write_all(&request.body).await.unwrap();
    let mut response = String::new();
    let _ = tls.read_to_string(&mut response).await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert_eq!(env.sole_upstream_request().header("expect"), None);

    let large = env.post("x".repeat(70_000));
    let response = env.exchange_raw(head(&large).as_bytes()).await;
    assert!(response.starts_with("HTTP/1.1 413 "), "{response}");
}
