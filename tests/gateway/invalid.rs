//! The validation table of the recording-URL request, row by row: code, named field, and no
//! upstream request.

use ccfs_gateway::client::ClientRequest;
use serde_json::{Value, json};

use crate::assertions::{assert_gateway_error, assert_node_response, result_desc};
use crate::errors::RECORDING;
use crate::support::{BERLIN, SHANGHAI, TestEnv, signed};

/// A valid request of version 2.0 with changed fields: `Some` replaces the value, `None` removes
/// the field.
pub(super) fn with(changes: &[(&str, Option<Value>)]) -> String {
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
    env: &TestEnv,
    body: impl Into<Vec<u8>>,
    ak: &str,
) -> ccfs_gateway::client::ClientResponse {
    let url = format!("{}/CCFS/resource/ccfs/{RECORDING}", env.url());
    let request = ClientRequest::post(&url, body.into()).unwrap();
    env.send(&signed(request, ak)).await
}

/// Asserts that the request is rejected with this code, that the text contains `word`, and that no
/// node received it.
async fn is_invalid(env: &TestEnv, body: impl Into<Vec<u8>>, code: &str, word: &str) {
    let body = body.into();
    println!("{} is {code} {word}", String::from_utf8_lossy(&body));
    let response = post(env, body, SHANGHAI).await;
    assert_gateway_error(&response, 200, "invalid-request", code);
    assert!(
        result_desc(&response).contains(word),
        "{}",
        result_desc(&response)
    );
    assert_eq!(response.header("cache-control"), Some("no-store"));
    env.assert_no_upstream_request();
}

fn nested(depth: usize) -> String {
    let arrays = depth - 1;
    let deep = format!("{}{}", "[".repeat(arrays), "]".repeat(arrays));
    with(&[]).replacen('{', &format!("{{\"deep\":{deep},"), 1)
}

#[tokio::test]
async fn bodies_that_are_no_plain_json_object() {
    let env = TestEnv::start().await;
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
        is_invalid(&env, body, "0300007", "").await;
    }
    let at = right.find("1-1").unwrap();
    let broken = [&right.as_bytes()[..at], b"\xff", &right.as_bytes()[at..]].concat();
    is_invalid(&env, broken, "0300007", "").await;
    let surrogate = [
        &right.as_bytes()[..at],
        b"\xed\xa0\x80",
        &right.as_bytes()[at..],
    ]
    .concat();
    is_invalid(&env, surrogate, "0300007", "").await;

    assert_node_response(&post(&env, nested(32), SHANGHAI).await, "0");
    assert_node_response(
        &post(&env, format!("\r\n\t {right}\n "), SHANGHAI).await,
        "0",
    );
}

const TIMES: [&str; 2] = ["beginTime", "endTime"];

const NAMES: [&str; 3] = ["callId", "beginTime", "endTime"];

#[tokio::test]
async fn fields_that_are_missing_null_or_empty() {
    let env = TestEnv::start().await;
    for name in NAMES {
        is_invalid(&env, with(&[(name, None)]), "0300001", name).await;
        is_invalid(&env, with(&[(name, Some(Value::Null))]), "0300001", name).await;
        is_invalid(&env, with(&[(name, Some("".into()))]), "0300002", name).await;
    }
    is_invalid(&env, "{}", "0300001", "callId").await;
    // Field names are case-sensitive.
    is_invalid(
        &env,
        with(&[("callId", None), ("callid", Some("1".into()))]),
        "0300001",
        "callId",
    )
    .await;
}

#[tokio::test]
async fn a_call_id_has_up_to_25_characters() {
    let env = TestEnv::start().await;
    for (letter, code) in [("9", "0"), ("\u{e4}", "0"), ("\u{1f600}", "0")] {
        let body = with(&[("callId", Some(letter.repeat(25).into()))]);
        assert_node_response(&post(&env, body, SHANGHAI).await, code);
        env.sole_upstream_request();
        let body = with(&[("callId", Some(letter.repeat(26).into()))]);
        is_invalid(&env, body, "0300003", "callId").await;
    }
}

#[tokio::test]
async fn fields_of_a_wrong_form() {
    let env = TestEnv::start().await;
    for name in NAMES {
        for value in [
            json!(5),
            json!(true),
            json!({}),
            json!(["1-1"]),
            json!(1.5e3),
        ] {
            is_invalid(&env, with(&[(name, Some(value))]), "0300004", name).await;
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
            is_invalid(&env, with(&[(name, Some(value.into()))]), "0300004", name).await;
        }
    }
}

#[tokio::test]
async fn a_version_is_the_string_2_0_or_absent() {
    let env = TestEnv::start().await;
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
            &env,
            with(&[("version", Some(version))]),
            "0300006",
            "version",
        )
        .await;
    }
    // An escaped spelling of the string 2.0 is valid.
    let escaped = with(&[]).replace("\"2.0\"", "\"\\u0032.0\"");
    assert_node_response(&post(&env, escaped, SHANGHAI).await, "0");
    let response = post(&env, with(&[("version", None)]), BERLIN).await;
    assert_gateway_error(&response, 200, "invalid-request", "0300006");
}

#[tokio::test]
async fn windows_that_are_reversed_or_too_long() {
    let env = TestEnv::start().await;
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
        // Reversed, and longer than three days in the other direction.
        ("2022-01-12 10:00:00", "2022-01-02 10:00:00", "0300013"),
    ] {
        is_invalid(&env, window(begin, end), code, "Time").await;
    }
    for (begin, end) in [
        ("2022-01-02 10:00:00", "2022-01-02 10:00:00"),
        ("2022-01-02 10:00:00", "2022-01-05 10:00:00"),
        ("2022-01-02T10:00:00+08:00", "2022-01-05T02:00:00Z"),
    ] {
        assert_node_response(&post(&env, window(begin, end), SHANGHAI).await, "0");
    }
}

/// Each request violates several rows: the first row decides, and within it the first field.
#[tokio::test]
async fn the_first_violation_decides() {
    let env = TestEnv::start().await;
    let (long, late) = ("9".repeat(26), "2022-01-12 10:00:00");
    for (changes, code, word) in [
        (
            json!({"callId": null, "beginTime": "", "endTime": "x"}),
            "0300001",
            "callId",
        ),
        (json!({"callId": "", "endTime": null}), "0300001", "endTime"),
        (json!({"callId": long, "endTime": ""}), "0300002", "endTime"),
        (
            json!({"callId": "", "beginTime": "", "endTime": ""}),
            "0300002",
            "callId",
        ),
        (json!({"callId": long, "beginTime": 5}), "0300003", "callId"),
        (json!({"callId": 5, "beginTime": "x"}), "0300004", "callId"),
        (
            json!({"beginTime": "x", "endTime": 5}),
            "0300004",
            "beginTime",
        ),
        (
            json!({"endTime": "x", "version": "1.0"}),
            "0300004",
            "endTime",
        ),
        (
            json!({"beginTime": late, "version": "1.0"}),
            "0300006",
            "version",
        ),
    ] {
        let changes = changes.as_object().unwrap().iter();
        let changes: Vec<_> = changes
            .map(|(name, value)| (name.as_str(), Some(value.clone())))
            .collect();
        is_invalid(&env, with(&changes), code, word).await;
    }
    let twice = with(&[("callId", None)]).replacen('{', "{\"x\":1,\"x\":2,", 1);
    is_invalid(&env, twice, "0300007", "").await;
}

#[tokio::test]
async fn a_value_is_shown_shortened_and_escaped() {
    let env = TestEnv::start().await;
    for value in [
        "9".repeat(5_000),
        format!(
            "{}\r\nX: y\u{1b}[2J\u{7f}\u{85}\u{2028}\u{202e}\0",
            "8".repeat(20)
        ),
    ] {
        for name in NAMES {
            let response = post(&env, with(&[(name, Some(value.clone().into()))]), SHANGHAI).await;
            let text = result_desc(&response);
            assert!(text.contains(name) && text.contains(&value[..20]), "{text}");
            assert!(text.chars().count() < 300, "{text}");
            assert!(
                !text.contains(|c: char| c.is_control() || "\u{2028}\u{202e}".contains(c)),
                "{text}"
            );
        }
    }
    env.assert_no_upstream_request();
}
