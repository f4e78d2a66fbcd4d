//! What the gateway refuses by itself: the validation table, the order of precedence, the table of
//! errors.

use std::time::Duration;

use ccfs_gateway::cli::client::SignedRequest;
use ccfs_gateway::stand_in::{Fault, When};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::expect::{answered, desc, refused};
use crate::support::{BERLIN, SHANGHAI, STRANGER, Setup, World, credential, signed};

const RECORDING: &str = "getRecordFileUrlFromObs";

/// A right request of version 2.0 with one member changed; null stays, `()` goes.
fn with(changes: &[(&str, Option<Value>)]) -> String {
    let mut body = json!({
        "callId": "1-1", "version": "2.0",
        "beginTime": "2022-01-02 10:00:00", "endTime": "2022-01-02 11:00:00",
    });
    for (name, value) in changes {
        match value {
            Some(value) => body[*name] = value.clone(),
            None => drop(body.as_object_mut().unwrap().remove(*name)),
        }
    }
    body.to_string()
}

async fn post(
    world: &World,
    body: impl Into<Vec<u8>>,
    ak: &str,
) -> ccfs_gateway::cli::client::Answer {
    let url = format!("{}/CCFS/resource/ccfs/{RECORDING}", world.url());
    let request = SignedRequest::post(&url, body.into()).unwrap();
    world.send(&signed(request, ak)).await
}

/// Refused with this code, by a text that holds this word, and no node was asked.
async fn is_invalid(world: &World, body: impl Into<Vec<u8>>, code: &str, word: &str) {
    let body = body.into();
    println!("{} is {code} {word}", String::from_utf8_lossy(&body));
    let answer = post(world, body, SHANGHAI).await;
    refused(&answer, 200, "invalid-request", code);
    assert!(desc(&answer).contains(word), "{}", desc(&answer));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    world.nobody_was_asked();
}

fn nested(depth: usize) -> String {
    let arrays = depth - 1;
    let deep = format!("{}{}", "[".repeat(arrays), "]".repeat(arrays));
    with(&[]).replacen('{', &format!("{{\"deep\":{deep},"), 1)
}

#[tokio::test]
async fn bodies_that_are_no_plain_json_object() {
    let world = World::start().await;
    let right = with(&[]);
    let inside = |text: &str| right.replacen('{', &format!("{{{text},"), 1);
    for body in [
        String::new(),
        " ".into(),
        "null".into(),
        "\"x\"".into(),
        format!("[{right}]"),
        right[..right.len() - 1].to_owned(),
        format!("{right}x"),
        format!("{right}{right}"),
        format!("{right}\0"),
        format!("\u{feff}{right}"),
        inside("\"callId\":\"1-2\""),
        inside("\"call\\u0049d\":\"1-2\""),
        inside("\"x\":{\"a\":1,\"a\":1}"),
        inside("\"x\":[{\"y\":{\"b\":1,\"\\u0062\":2}}]"),
        inside("x:1"),
        inside("'x':1"),
        inside("\"x\":01"),
        inside("\"x\":NaN"),
        inside("\"x\":\"\n\""),
        inside("\"x\":\"\\ud800\""),
        inside("\"x\":1,"),
        nested(33),
        nested(20_000),
    ] {
        is_invalid(&world, body, "0300007", "").await;
    }
    let at = right.find("1-1").unwrap();
    let broken = [&right.as_bytes()[..at], b"\xff", &right.as_bytes()[at..]].concat();
    is_invalid(&world, broken, "0300007", "").await;
    let surrogate = [
        &right.as_bytes()[..at],
        b"\xed\xa0\x80",
        &right.as_bytes()[at..],
    ]
    .concat();
    is_invalid(&world, surrogate, "0300007", "").await;

    answered(&post(&world, nested(32), SHANGHAI).await, "0");
    answered(
        &post(&world, format!("\r\n\t {right}\n "), SHANGHAI).await,
        "0",
    );
}

const TIMES: [&str; 2] = ["beginTime", "endTime"];
const NAMES: [&str; 3] = ["callId", "beginTime", "endTime"];

#[tokio::test]
async fn members_that_are_missing_null_or_empty() {
    let world = World::start().await;
    for name in NAMES {
        is_invalid(&world, with(&[(name, None)]), "0300001", name).await;
        is_invalid(&world, with(&[(name, Some(Value::Null))]), "0300001", name).await;
        is_invalid(&world, with(&[(name, Some("".into()))]), "0300002", name).await;
    }
    is_invalid(&world, "{}", "0300001", "callId").await;
    // A member of another spelling is another member.
    is_invalid(
        &world,
        with(&[("callId", None), ("callid", Some("1".into()))]),
        "0300001",
        "callId",
    )
    .await;
}

#[tokio::test]
async fn a_call_id_has_up_to_25_characters() {
    let world = World::start().await;
    for (letter, code) in [("9", "0"), ("\u{e4}", "0"), ("\u{1f600}", "0")] {
        let body = with(&[("callId", Some(letter.repeat(25).into()))]);
        answered(&post(&world, body, SHANGHAI).await, code);
        world.sole();
        let body = with(&[("callId", Some(letter.repeat(26).into()))]);
        is_invalid(&world, body, "0300003", "callId").await;
    }
}

#[tokio::test]
async fn members_of_a_wrong_form() {
    let world = World::start().await;
    for name in NAMES {
        for value in [
            json!(5),
            json!(true),
            json!({}),
            json!(["1-1"]),
            json!(1.5e3),
        ] {
            is_invalid(&world, with(&[(name, Some(value))]), "0300004", name).await;
        }
    }
    for name in TIMES {
        for value in [
            "2022-02-30 10:00:00",
            "2022-13-01 10:00:00",
            "2022-00-01 10:00:00",
            "2022-01-00 10:00:00",
            "2021-02-29 10:00:00",
            "2022-01-02 24:00:00",
            "2022-01-02 10:60:00",
            "2022-01-02 10:00:60",
            "2022-01-02 10:00",
            "2022-1-2 10:00:00",
            "22-01-02 10:00:00",
            "2022/01/02 10:00:00",
            "2022-01-02  10:00:00",
            " 2022-01-02 10:00:00",
            "2022-01-02 10:00:00 ",
            "2022-01-02 10:00:00.000",
            "20220102100000",
            "+022-01-02 10:00:00",
            "\u{0662}022-01-02 10:00:00",
            "x",
        ] {
            is_invalid(&world, with(&[(name, Some(value.into()))]), "0300004", name).await;
        }
    }
}

#[tokio::test]
async fn a_version_is_the_string_2_0_or_absent() {
    let world = World::start().await;
    for version in [
        json!(null),
        json!(2.0),
        json!("2"),
        json!("1.0"),
        json!(""),
        json!("2.0 "),
        json!({}),
    ] {
        is_invalid(
            &world,
            with(&[("version", Some(version))]),
            "0300006",
            "version",
        )
        .await;
    }
    // What is written otherwise, but is the string 2.0, is right.
    let escaped = with(&[]).replace("\"2.0\"", "\"\\u0032.0\"");
    answered(&post(&world, escaped, SHANGHAI).await, "0");
    let answer = post(&world, with(&[("version", None)]), BERLIN).await;
    refused(&answer, 200, "invalid-request", "0300006");
}

#[tokio::test]
async fn windows_that_are_reversed_or_too_long() {
    let world = World::start().await;
    let window = |begin: &str, end: &str| {
        with(&[
            ("beginTime", Some(begin.into())),
            ("endTime", Some(end.into())),
        ])
    };
    for (begin, end, code) in [
        ("2022-01-02 10:00:01", "2022-01-02 10:00:00", "0300013"),
        (
            "2022-01-02T10:00:00+08:00",
            "2022-01-02T01:59:59Z",
            "0300013",
        ),
        ("2022-01-02 10:00:00", "2022-01-05 10:00:01", "0300004"),
        (
            "2022-01-02T10:00:00+08:00",
            "2022-01-05 10:00:01",
            "0300004",
        ),
        ("2012-01-02 10:00:00", "2022-01-02 10:00:00", "0300004"),
        // Reversed and, the other way round, over three days.
        ("2022-01-12 10:00:00", "2022-01-02 10:00:00", "0300013"),
    ] {
        is_invalid(&world, window(begin, end), code, "Time").await;
    }
    for (begin, end) in [
        ("2022-01-02 10:00:00", "2022-01-02 10:00:00"),
        ("2022-01-02 10:00:00", "2022-01-05 10:00:00"),
        ("2022-01-02T10:00:00+08:00", "2022-01-05T02:00:00Z"),
    ] {
        answered(&post(&world, window(begin, end), SHANGHAI).await, "0");
    }
}

/// Each request has the faults of all rows from some row on; the first row wins.
#[tokio::test]
async fn the_first_fault_wins() {
    let world = World::start().await;
    let long = "9".repeat(26);
    let (reversed, early) = ("2022-01-12 10:00:00", "2022-01-02 11:00:00");
    let some = |value: &str| Some(Value::from(value));
    for (changes, code, word) in [
        (
            vec![
                ("callId", None),
                ("beginTime", some("")),
                ("endTime", some("x")),
            ],
            "0300001",
            "callId",
        ),
        (
            vec![("callId", some("")), ("endTime", None)],
            "0300001",
            "endTime",
        ),
        (
            vec![("callId", some(&long)), ("endTime", some(""))],
            "0300002",
            "endTime",
        ),
        (
            vec![
                ("callId", some("")),
                ("beginTime", some("")),
                ("endTime", some("")),
            ],
            "0300002",
            "callId",
        ),
        (
            vec![("callId", some(&long)), ("beginTime", Some(json!(5)))],
            "0300003",
            "callId",
        ),
        (
            vec![("callId", Some(json!(5))), ("beginTime", some("x"))],
            "0300004",
            "callId",
        ),
        (
            vec![("beginTime", some("x")), ("endTime", Some(json!(5)))],
            "0300004",
            "beginTime",
        ),
        (
            vec![("endTime", some("x")), ("version", some("1.0"))],
            "0300004",
            "endTime",
        ),
        (
            vec![
                ("beginTime", some(reversed)),
                ("endTime", some(early)),
                ("version", some("1.0")),
            ],
            "0300006",
            "version",
        ),
    ] {
        is_invalid(&world, with(&changes), code, word).await;
    }
    let twice = with(&[("callId", None)]).replacen('{', "{\"x\":1,\"x\":2,", 1);
    is_invalid(&world, twice, "0300007", "").await;
}

#[tokio::test]
async fn a_value_is_shown_shortened_and_escaped() {
    let world = World::start().await;
    for value in [
        "9".repeat(5_000),
        format!(
            "{}\r\nX: y\u{1b}[2J\u{7f}\u{85}\u{2028}\u{202e}\0",
            "8".repeat(20)
        ),
    ] {
        for name in NAMES {
            let answer = post(
                &world,
                with(&[(name, Some(value.clone().into()))]),
                SHANGHAI,
            )
            .await;
            let text = desc(&answer);
            assert!(text.contains(name) && text.contains(&value[..20]), "{text}");
            assert!(text.chars().count() < 300, "{text}");
            assert!(
                !text.contains(|c: char| c.is_control() || "\u{2028}\u{202e}".contains(c)),
                "{text}"
            );
        }
    }
    world.nobody_was_asked();
}

#[tokio::test]
async fn other_media_types_are_415_after_the_signature_and_before_the_body() {
    let world = World::start().await;
    let content_type = |value: &'static str| {
        move |world: &World, body: &str| world.post(body).with(CONTENT_TYPE, value)
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
        let answer = world
            .send(&signed(request(&world, &with(&[])), SHANGHAI))
            .await;
        refused(&answer, 415, "unsupported-media-type", "GW415");
        let answer = world
            .send(&signed(request(&world, "no json"), SHANGHAI))
            .await;
        refused(&answer, 415, "unsupported-media-type", "GW415");
        let answer = world
            .send(&signed(request(&world, &with(&[])), STRANGER))
            .await;
        refused(&answer, 401, "unauthenticated", "GW401");
    }
    for encoding in ["gzip", "br", "identity"] {
        let request = world.post(with(&[])).with(CONTENT_ENCODING, encoding);
        let answer = world.send(&signed(request, SHANGHAI)).await;
        refused(&answer, 415, "unsupported-media-type", "GW415");
    }
    world.nobody_was_asked();
    for right in [
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON;CHARSET=UTF-8",
        "application/json ; charset=\"utf-8\"",
        "application/json;charset=UTF-8;x=y",
    ] {
        let answer = world
            .send(&signed(content_type(right)(&world, &with(&[])), SHANGHAI))
            .await;
        answered(&answer, "0");
    }
}

#[tokio::test]
async fn paths_methods_and_sizes_come_before_the_signature() {
    let setup = Setup {
        listener: "routes = { \"/CCFS/\" = \"ccfs\" }\nunknown_paths = \"reject\"".into(),
        ..Setup::default()
    };
    let world = setup.start().await;
    let at = |method: Method, path: &str| {
        SignedRequest::new(method, &format!("{}{path}", world.url())).unwrap()
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
            signed(world.post_to("x", "{}"), SHANGHAI),
        ] {
            refused(&world.send(&request).await, 404, "not-found", "GW404");
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
        let answer = world.send(&request).await;
        refused(&answer, 405, "method-not-allowed", "GW405");
        assert_eq!(answer.header("allow"), Some(allow));
    }
    let large = world.post("x".repeat(64 * 1024 + 1));
    refused(&world.send(&large).await, 413, "body-too-large", "GW413");
    refused(
        &world.send(&signed(large, SHANGHAI)).await,
        413,
        "body-too-large",
        "GW413",
    );
    let largest = world.post("x".repeat(64 * 1024));
    refused(&world.send(&largest).await, 401, "unauthenticated", "GW401");
    world.nobody_was_asked();
}

#[tokio::test]
async fn head_of_a_method_that_is_not_allowed_has_no_body() {
    let world = World::start().await;
    let url = format!("{}/CCFS/resource/ccfs/{RECORDING}", world.url());
    let answer = world
        .send(&SignedRequest::new(Method::HEAD, &url).unwrap())
        .await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (405, 0));
    assert_eq!(answer.header("allow"), Some("POST"));
}

#[tokio::test]
async fn a_chunked_body_over_the_limit_is_413() {
    let world = World::start().await;
    let request = world.post("");
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
    let answer = world
        .raw(format!("{head}{body}\r\n0\r\n\r\n").as_bytes())
        .await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(
        answer.contains("x-gateway-error: body-too-large"),
        "{answer}"
    );
    world.nobody_was_asked();
}

#[tokio::test]
async fn what_is_no_legal_http_is_400_and_closes() {
    let world = World::start().await;
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
        let answer = world
            .raw(format!("{head}\r\n").as_bytes())
            .await
            .to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 400 "), "{head}{answer}");
        for field in [
            "x-gateway-error: malformed",
            "connection: close",
            "via: 1.1 ccfs-gateway",
            "x-request-id: ",
            "\"gw400\"",
        ] {
            assert!(answer.contains(field), "{head}{answer}");
        }
    }
    for method in ["TRACE / HTTP/1.1", "CONNECT a:1 HTTP/1.1"] {
        let answer = world
            .raw(format!("{method}\r\nHost: a:1\r\n\r\n").as_bytes())
            .await;
        assert!(
            answer.starts_with("HTTP/1.1 405 ") || answer.starts_with("HTTP/1.1 400 "),
            "{answer}"
        );
    }
    world.nobody_was_asked();
}

#[tokio::test]
async fn large_heads_are_431() {
    let world = World::start().await;
    for (fields, size) in [(1, 33_000), (101, 1)] {
        let mut request = world.recording("1-1");
        for number in 0..fields {
            let name: HeaderName = format!("x-{number}").parse().unwrap();
            request
                .headers
                .insert(name, "y".repeat(size).parse().unwrap());
        }
        let answer = world.send(&signed(request, SHANGHAI)).await;
        refused(&answer, 431, "headers-too-large", "GW431");
    }
    let mut request = world.recording("1-1");
    request.target += &format!("?x={}", "y".repeat(33_000));
    refused(
        &world.send(&request).await,
        431,
        "headers-too-large",
        "GW431",
    );
    world.nobody_was_asked();
}

#[tokio::test]
async fn a_request_that_does_not_come_in_time_is_408() {
    let setup = Setup {
        tables: "[limits]\nbody_timeout = \"50ms\"\nheader_timeout = \"50ms\"".into(),
        ..Setup::default()
    };
    let world = setup.start().await;
    let request = signed(world.recording("1-1"), SHANGHAI);
    let mut head = format!("POST {} HTTP/1.1\r\n", request.target);
    for (name, value) in &request.headers {
        head += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    for begun in [head.clone(), format!("{head}\r\n{{")] {
        let mut tls = world.connect().await;
        tls.write_all(begun.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        tls.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 408 "), "{answer}");
        for field in [
            "x-gateway-error: request-timeout",
            "connection: close",
            "\"gw408\"",
        ] {
            assert!(answer.contains(field), "{answer}");
        }
    }
    world.nobody_was_asked();
}

#[tokio::test]
async fn a_gateway_at_its_cap_is_503() {
    let setup = Setup {
        tables: "[limits]\nmax_in_flight = 1".into(),
        ..Setup::default()
    };
    let world = setup.start().await;
    world.nodes[0].faults().inject(Fault::Hold, When::Next(1));
    let held = world.ask("1-1");
    let other = async {
        assert!(
            world.nodes[0]
                .wait_for(RECORDING, 1, Duration::from_secs(10))
                .await
        );
        let answer = world.ask("1-2").await;
        world.nodes[0].faults().release();
        answer
    };
    let (held, other) = tokio::join!(held, other);
    answered(&held, "0");
    refused(&other, 503, "overloaded", "GW503");
    assert_eq!(other.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn shadow_refuses_nothing_and_treats_valid_requests_as_enforce() {
    let setup = Setup {
        listener: "validation = \"shadow\"".into(),
        ..Setup::default()
    };
    let world = setup.start().await;
    for (body, content_type) in [
        (with(&[("callId", None)]), "application/json"),
        (with(&[("beginTime", Some("x".into()))]), "application/json"),
        ("no json".into(), "application/json"),
        (with(&[("version", None)]), "text/plain"),
    ] {
        let request = world.post(body).with(CONTENT_TYPE, content_type);
        let request = signed(request, SHANGHAI);
        for _ in 0..2 {
            let answer = world.send(&request).await;
            assert_eq!(
                (answer.status.as_u16(), answer.header("x-gateway-error")),
                (200, None)
            );
            assert_eq!(answer.header("age"), None);
            let got = world.sole();
            assert_eq!(got.body, request.body);
            assert_eq!(
                got.header("authorization"),
                request.headers["authorization"].to_str().ok()
            );
            assert_eq!(got.access_key.as_deref(), Some(SHANGHAI));
        }
    }
    let versionless = signed(world.post(with(&[("version", None)])), SHANGHAI);
    let first = world.send(&versionless).await;
    let got: Value = serde_json::from_slice(&world.sole().body).unwrap();
    assert_eq!(
        (&got["version"], &got["beginTime"]),
        (&json!("2.0"), &json!("2022-01-02 18:00:00"))
    );
    let second = world.send(&versionless).await;
    assert_eq!(first.body, second.body);
    world.nobody_was_asked();
    // Who asks is not a matter of validation.
    let answer = world.send(&signed(world.post("no json"), STRANGER)).await;
    refused(&answer, 401, "unauthenticated", "GW401");
}

#[tokio::test]
async fn off_looks_into_no_body() {
    for host in ["preserve", "node"] {
        let setup = Setup {
            listener: "validation = \"off\"".into(),
            cluster: format!("host = \"{host}\""),
            ..Setup::default()
        };
        let world = setup.start().await;
        for body in [
            with(&[]),
            with(&[("version", None)]),
            "no json".into(),
            String::new(),
        ] {
            let request = signed(world.post(body).with(CONTENT_TYPE, "text/plain"), SHANGHAI);
            for _ in 0..2 {
                let answer = world.send(&request).await;
                assert_eq!(
                    (answer.status.as_u16(), answer.header("x-gateway-error")),
                    (200, None)
                );
                let got = world.sole();
                assert_eq!(got.body, request.body);
                assert_eq!(got.access_key.as_deref(), Some(SHANGHAI));
                let kept =
                    got.header("authorization") == request.headers["authorization"].to_str().ok();
                assert_eq!(kept, host == "preserve");
            }
        }
        let envelope = signed(world.post_to("queryBillData", "{\"msgBody\":{}}"), SHANGHAI);
        world.send(&envelope).await;
        assert_eq!(world.sole().body, envelope.body);
    }
}

#[tokio::test]
async fn a_sane_request_id_is_echoed_and_any_other_replaced() {
    let world = World::start().await;
    let id = HeaderName::from_static("x-request-id");
    let longest = "x".repeat(64);
    for sane in ["a", "A.b_c-9", &longest] {
        let mut request = world.recording("1-1");
        request.headers.insert(&id, sane.parse().unwrap());
        let wrong = world.send(&request).await;
        let right = world.send(&signed(request, SHANGHAI)).await;
        for answer in [wrong, right] {
            assert_eq!(answer.header("x-request-id"), Some(sane));
        }
    }
    let too_long = "x".repeat(65);
    for insane in ["", "a b", "a/b", "\u{e4}", "a\"", &too_long] {
        let mut request = world.recording("1-1");
        let value = HeaderValue::from_bytes(insane.as_bytes()).unwrap();
        request.headers.insert(&id, value);
        let answer = world.send(&signed(request, SHANGHAI)).await;
        assert_ne!(answer.header("x-request-id"), Some(insane));
        answered(&answer, "0");
    }
    let ids = [world.ask("1-1").await, world.ask("1-1").await];
    assert_ne!(ids[0].header("x-request-id"), ids[1].header("x-request-id"));
}
