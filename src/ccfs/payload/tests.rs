use http::Method;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Lookup, find_endpoint, parse_zone};
use super::*;

mod recording_url;

fn tenant(zone: &str, versionless: Option<Versionless>) -> Tenant {
    Tenant {
        zone: parse_zone(zone).expect(zone),
        versionless,
    }
}

fn endpoint(name: &str) -> &'static Endpoint {
    match find_endpoint(&Method::POST, &format!("/CCFS/resource/ccfs/{name}")) {
        Lookup::Found(row) => row,
        other => panic!("{name}: {other:?}"),
    }
}

fn outgoing(payload: &Payload) -> &str {
    str::from_utf8(payload.outgoing()).unwrap()
}

/// Returns the body as it is sent, after checks that apply to every envelope.
fn envelope(body: &str) -> String {
    let row = endpoint("queryBillData");
    let tenant = tenant("Asia/Shanghai", None);
    let raw = Bytes::copy_from_slice(body.as_bytes());
    let payload = row.normalize(&raw, &tenant).expect(body);
    assert_eq!(payload.is_changed(), outgoing(&payload) != body);
    if !payload.is_changed() {
        assert_eq!(
            payload.outgoing().as_ptr(),
            raw.as_ptr(),
            "not the same bytes"
        );
    }
    assert_eq!(payload.cache_key(), None);
    let again = row.normalize(payload.outgoing(), &tenant).expect(body);
    assert!(!again.is_changed(), "{body}");
    outgoing(&payload).to_owned()
}

#[test]
fn an_envelope_in_order_is_left_alone() {
    for body in [
        r#"{"request":{"version":"2.0"},"msgBody":{"fileName":"a"}}"#,
        r#"{"request":{"version":"1.0"},"msgBody":{}}"#,
        r#"{"request":{"version":null}}"#,
        r#"{"request":{"\u0076ersion":2}}"#,
        r#"{"request":null,"msgBody":[]}"#,
        r#"{"request":"","msgBody":"2022-01-02T10:00:00+08:00"}"#,
        r#"{"request":[{}],"msgBody":null}"#,
        r#"{"request":{"version":"2.0"},"msgBody":{"beginTime":"2022-01-02 10:00:00","endTime":7}}"#,
        r#"{"request":{"version":"2.0"},"msgBody":{"beginTime":"2022-01-02T10:00:00","endTime":null}}"#,
        r#"{"request":{"version":"2.0"},"msgBody":{"beginTime":"9999-12-31T16:00:00Z"}}"#,
        r#"{"request":{"version":"2.0"},"beginTime":"2022-01-02T10:00:00Z"}"#,
    ] {
        assert_eq!(envelope(body), body);
    }
}

#[test]
fn a_missing_version_is_added_and_the_rest_kept() {
    for (body, expected) in [
        (r"{}", r#"{"request":{"version":"2.0"}}"#),
        (
            r#"{ "msgBody" : {} }"#,
            r#"{ "msgBody" : {},"request":{"version":"2.0"} }"#,
        ),
        (
            r#" {"request": { } , "x":1.00}"#,
            r#" {"request": {"version":"2.0" } , "x":1.00}"#,
        ),
        (
            r#"{"request":{"a":"\u0062" },"msgBody":{}}"#,
            r#"{"request":{"a":"\u0062","version":"2.0" },"msgBody":{}}"#,
        ),
        (
            r#"{"request":{"Version":"2.0"}}"#,
            r#"{"request":{"Version":"2.0","version":"2.0"}}"#,
        ),
    ] {
        assert_eq!(envelope(body), expected);
    }
}

#[test]
fn times_with_an_offset_become_local() {
    assert_eq!(
        envelope(
            r#"{"msgBody":{"x":"\/","endTime":"2022-01-02T10:00:00\u005a","beginTime" : "2022-01-01T00:00:00+09:00"},"request":{}}"#
        ),
        r#"{"msgBody":{"x":"\/","endTime":"2022-01-02 18:00:00","beginTime" : "2021-12-31 23:00:00"},"request":{"version":"2.0"}}"#,
    );
    assert_eq!(
        envelope(
            r#"{"request":{"version":"2.0"},"msgBody":{"beginTime":"2022-01-02T10:00:00Z","endTime":"x"}}"#
        ),
        r#"{"request":{"version":"2.0"},"msgBody":{"beginTime":"2022-01-02 18:00:00","endTime":"x"}}"#,
    );
}

#[test]
fn the_call_id_of_an_envelope() {
    let call_id = |body: &str| {
        let raw = Bytes::copy_from_slice(body.as_bytes());
        let payload = endpoint("downloadRecord").normalize(&raw, &tenant("UTC", None));
        payload.unwrap().call_id().map(str::to_owned)
    };
    assert_eq!(
        call_id(r#"{"msgBody":{"callId":"1-\u0032"}}"#).as_deref(),
        Some("1-2")
    );
    assert_eq!(call_id(r#"{"callId":"1"}"#), None);
    assert_eq!(call_id(r#"{"msgBody":{"callId":1}}"#), None);
}

#[test]
fn what_is_no_object_is_refused_on_every_envelope() {
    for body in [
        "",
        "[]",
        "{",
        "{}x",
        r#"{"msgBody":{"a":[{"b":1,"b":1}]}}"#,
        r#"{"a":1,"a":1}"#,
        "\u{feff}{}",
    ] {
        let raw = Bytes::copy_from_slice(body.as_bytes());
        let invalid = endpoint("ivr/uploadFile")
            .normalize(&raw, &tenant("UTC", None))
            .unwrap_err();
        assert_eq!(
            (invalid.code, invalid.reason),
            ("0300007", "body"),
            "{body}"
        );
    }
}

#[test]
fn an_opaque_body_is_not_looked_at() {
    let Lookup::Unlisted(row) = find_endpoint(&Method::PUT, "/rest/x") else {
        panic!("listed");
    };
    let raw = Bytes::from_static(b"\xff{");
    let payload = row.normalize(&raw, &tenant("UTC", None)).unwrap();
    assert_eq!((payload.outgoing(), payload.is_changed()), (&raw, false));
    assert_eq!((payload.cache_key(), payload.call_id()), (None, None));
}

proptest! {
    #[test]
    fn an_envelope_keeps_its_meaning(
        request in prop::option::of(prop::sample::select(vec![json!({}), json!({"version": "2.0"}), json!({"a": [1]}), json!(3)])),
        begin in prop::option::of(prop::sample::select(vec!["2022-01-02T10:00:00Z", "2022-01-02 10:00:00", "\""])),
        unknown in any::<String>(),
    ) {
        let mut body = json!({"msgBody": {"x": unknown}});
        if let Some(request) = &request {
            body["request"] = request.clone();
        }
        if let Some(begin) = begin {
            body["msgBody"]["beginTime"] = begin.into();
        }
        let sent: Value = serde_json::from_str(&envelope(&body.to_string())).unwrap();
        if request.as_ref().is_none_or(Value::is_object) {
            body["request"]["version"] = "2.0".into();
        }
        if begin == Some("2022-01-02T10:00:00Z") {
            body["msgBody"]["beginTime"] = "2022-01-02 18:00:00".into();
        }
        prop_assert_eq!(sent, body);
    }
}
