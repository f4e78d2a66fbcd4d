use proptest::prelude::*;

use super::*;
use crate::stand_in::response::{Content, JSON_CONTENT_TYPE};

fn respond(tail: &str, query: Option<&str>, body: &Value) -> StandInResponse {
    respond_to_bytes(tail, query, body.to_string().as_bytes())
}

fn respond_to_bytes(tail: &str, query: Option<&str>, body: &[u8]) -> StandInResponse {
    let interface = Interface::find(&format!("/CCFS/resource/ccfs/{tail}")).unwrap();
    let desk = Responder {
        presigner: &Presigner::new(7),
        style: &UrlStyle::default(),
        faults: &Faults::new(),
        now: Timestamp::UNIX_EPOCH,
    };
    desk.respond(interface, query, body)
}

fn json_of(response: &StandInResponse) -> Value {
    let Content::Full(bytes) = &response.content else {
        panic!("a file: {response:?}");
    };
    serde_json::from_slice(bytes).unwrap()
}

fn code(tail: &str, body: &Value) -> String {
    json_of(&respond(tail, None, body))["resultCode"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn recording(call_id: &str) -> Value {
    json!({"callId": call_id, "beginTime": "2021-11-24 08:00:00", "endTime": "2021-11-24 09:00:00"})
}

fn envelope(message: &Value) -> Value {
    json!({"request": {"version": "2.0"}, "msgBody": message})
}

#[test]
fn a_recording_response_has_a_url() {
    let response = respond("getRecordFileUrlFromObs", None, &recording("1637742300-1"));
    assert_eq!(response.content_type, JSON_CONTENT_TYPE);
    let json = json_of(&response);
    assert_eq!(
        (&json["resultCode"], &json["resultDesc"]),
        (&json!("0"), &json!("success"))
    );
    assert!(
        json["resultData"]["url"]
            .as_str()
            .unwrap()
            .starts_with("https://")
    );
}

#[test]
fn a_recording_request_is_validated_by_the_error_code_table() {
    let changed = |name: &str, value: Value| {
        let mut body = recording("1-1");
        body[name] = value;
        body
    };
    for (body, expected) in [
        (recording("1-1"), "0"),
        (recording("code-0300011"), "0300011"),
        (recording("0000-1"), "0300012"),
        (recording("12345678901234567890123456"), "0300003"),
        (changed("version", json!("2.0")), "0"),
        (changed("version", json!("1.0")), "0300006"),
        (changed("version", json!(2.0)), "0300006"),
        (changed("unknown", json!(1)), "0"),
        (changed("endTime", json!("2021-11-24 07:00:00")), "0300013"),
        (changed("endTime", json!("2021-11-30 07:00:00")), "0300004"),
        (json!([]), "0300007"),
    ] {
        assert_eq!(code("getRecordFileUrlFromObs", &body), expected, "{body}");
    }
}

#[test]
fn the_other_interfaces_need_an_envelope() {
    let flat = json!({"fileName": "a.wav"});
    assert_eq!(code("downloadRecordFile", &flat), "0300007");
    let versionless = json!({"request": {}, "msgBody": flat});
    assert_eq!(code("downloadRecordFile", &versionless), "0300001");
    assert_eq!(code("ivr/deleteFile", &envelope(&flat)), "0");
    assert_eq!(code("ivr/deleteFile", &envelope(&json!({}))), "0300001");
}

#[test]
fn a_file_has_the_size_its_name_says() {
    let size = |tail, message| respond(tail, None, &envelope(&message)).content.len();
    assert_eq!(
        size("downloadRecordFile", json!({"fileName": "x/1GiB.wav"})),
        1 << 30
    );
    assert_eq!(size("downloadRecord", json!({"callId": "size-17"})), 17);
    let failed = respond(
        "downloadRecord",
        None,
        &envelope(&json!({"fileName": "code-0300008.wav"})),
    );
    assert_eq!(
        (failed.content_type, failed.status.as_u16()),
        (JSON_CONTENT_TYPE, 200)
    );
}

#[test]
fn a_token_plays_its_file() {
    let response = respond(
        "requestPlayVoice",
        None,
        &envelope(&json!({"fileName": "a/size-9.wav"})),
    );
    let token = json_of(&response)["resultData"]["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let played = respond(
        "playVoice",
        Some(&format!("t=1&version=2.0&st={token}")),
        &Value::Null,
    );
    assert_eq!(
        (played.content.len(), played.content_type),
        (9, FILE_CONTENT_TYPE)
    );
    let refused = respond("playVoice", Some("t=1&version=2.0&st="), &Value::Null);
    assert_eq!(json_of(&refused)["resultCode"], "010106");
    assert_eq!(refused.content_type, FILE_CONTENT_TYPE);
}

proptest! {
    #[test]
    fn every_request_has_a_response(
        row in 0..TABLE.len(), text in ".*", name in "fileName|callId|beginTime|data|version",
    ) {
        let tail = TABLE[row].name;
        let flat = json!({name: text}).to_string();
        for body in [text.clone(), flat, envelope(&json!({"fileName": text})).to_string()] {
            let response = respond_to_bytes(tail, Some(&text), body.as_bytes());
            if let Content::Full(bytes) = &response.content {
                let json: Value = serde_json::from_slice(bytes).unwrap();
                prop_assert!(json["resultCode"].is_string());
            }
        }
    }
}
