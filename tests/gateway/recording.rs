//! The decision table of the recording-URL request: what goes out, and under whose signature.

use ccfs_gateway::cli::client::{NAMES, SignedRequest};
use ccfs_gateway::stand_in::Received;
use http::HeaderName;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::expect::{answered, refused};
use crate::support::{BERLIN, SHANGHAI, Setup, World, credential, signed};

use Out::{Refused, Same, Times};

const LOCAL: &str = "ak-shanghai-local";
const STRICT: &str = "ak-shanghai-reject";
const GMT8: &str = "ak-gmt8";
const BERLIN_UTC: &str = "ak-berlin-utc";
const BERLIN_LOCAL: &str = "ak-berlin-local";
const NEW_YORK: &str = "ak-new-york";
const SINGAPORE: &str = "ak-singapore";

async fn all_zones() -> World {
    let accounts = vec![
        (
            LOCAL,
            "time_zone = \"Asia/Shanghai\"\nversionless = \"local\"",
        ),
        (
            STRICT,
            "time_zone = \"Asia/Shanghai\"\nversionless = \"reject\"",
        ),
        (GMT8, "time_zone = \"GMT+8\""),
        (
            BERLIN_UTC,
            "time_zone = \"Europe/Berlin\"\nversionless = \"utc\"",
        ),
        (
            BERLIN_LOCAL,
            "time_zone = \"Europe/Berlin\"\nversionless = \"local\"",
        ),
        (
            NEW_YORK,
            "time_zone = \"America/New_York\"\nversionless = \"utc\"",
        ),
        (SINGAPORE, "time_zone = \"Asia/Singapore\""),
    ];
    Setup {
        accounts,
        ..Setup::default()
    }
    .start()
    .await
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
enum Out {
    /// Goes out byte for byte, under the client's own signature.
    Same,
    /// Goes out with these times and version 2.0, signed again.
    Times(&'static str, &'static str),
    /// Does not go out; the text holds this word.
    Refused(&'static str, &'static str),
}

/// An ak, whether it sends version 2.0, its times, and what becomes of them.
type Row = (&'static str, bool, &'static str, &'static str, Out);

/// Spaced, ordered and filled as no serializer would do it.
fn odd_body(call_id: &str, version: bool, begin: &str, end: &str) -> String {
    let version = if version {
        "\"version\"\t:\"2.0\","
    } else {
        ""
    };
    format!(
        "{{ \"more\" : {{\"b\":1.50, \"a\":[null,\"\\u00e9\"]}},{version}\r\n \"endTime\":\"{end}\" ,\
         \"callId\" : \"{call_id}\",\"beginTime\":\"{begin}\", \"\u{e4}\":true }} \n"
    )
}

async fn check(world: &World, rows: &[Row]) {
    for (number, &(ak, version, begin, end, out)) in rows.iter().enumerate() {
        let call_id = format!("1637742300-{number}");
        let request = signed(world.post(odd_body(&call_id, version, begin, end)), ak);
        let answer = world.send(&request).await;
        println!("{ak} {version} {begin} {end}: {out:?}");
        if let Refused(code, word) = out {
            refused(&answer, 200, "invalid-request", code);
            let text = crate::expect::desc(&answer);
            assert!(text.contains(word), "{text}");
            world.nobody_was_asked();
            continue;
        }
        answered(&answer, "0");
        let got = world.sole();
        assert_eq!(got.access_key.as_deref(), Some(ak));
        match out {
            Times(begin, end) => {
                let expected = changed(&request, begin, end);
                assert_eq!(
                    serde_json::from_slice::<Value>(&got.body).unwrap(),
                    expected
                );
                is_signed_again(&got, &request);
            }
            _ => is_identical(&got, &request),
        }
    }
}

/// The client's object with other times, and the version.
fn changed(request: &SignedRequest, begin: &str, end: &str) -> Value {
    let mut object: Value = serde_json::from_slice(&request.body).unwrap();
    for (name, value) in [("beginTime", begin), ("endTime", end), ("version", "2.0")] {
        object[name] = value.into();
    }
    object
}

fn is_identical(got: &Received, sent: &SignedRequest) {
    assert_eq!(got.body, sent.body);
    for name in sent.headers.keys() {
        assert_eq!(got.header(name.as_str()), text(sent, name), "{name}");
    }
    assert_eq!(
        (got.target.as_str(), &got.method),
        (sent.target.as_str(), &sent.method)
    );
}

/// Signed now, by the ak that asked, over the names that the client signed.
fn is_signed_again(got: &Received, sent: &SignedRequest) {
    let (new, old) = (
        parts(got.header("authorization")),
        parts(text(sent, &AUTHORIZATION)),
    );
    assert_ne!(new[4], old[4], "the same signature");
    assert_eq!((new[0], new[1], new[3]), (old[0], old[1], old[3]));
    let age = Timestamp::now().duration_since(new[2].parse().unwrap());
    assert!(age.abs() < SignedDuration::from_secs(30), "{}", new[2]);
    assert_eq!(
        got.header("content-length"),
        Some(&*got.body.len().to_string())
    );
    assert_eq!(got.header("host"), text(sent, &HOST));
}

fn parts(authorization: Option<&str>) -> Vec<&str> {
    authorization.unwrap().split('/').collect()
}

fn text<'a>(request: &'a SignedRequest, name: &HeaderName) -> Option<&'a str> {
    request.headers.get(name)?.to_str().ok()
}

const TEN: &str = "2022-01-02 10:00:00";
const ELEVEN: &str = "2022-01-02 11:00:00";

#[tokio::test]
async fn every_row_of_the_decision_table() {
    let (east, utc) = ("2022-01-02T10:00:00+08:00", "2022-01-02T03:00:00Z");
    let mandatory = Refused("0300006", "mandatory outside GMT+8");
    let world = all_zones().await;
    let mut rows = Vec::new();
    for ak in [
        SHANGHAI,
        BERLIN,
        LOCAL,
        STRICT,
        GMT8,
        BERLIN_UTC,
        BERLIN_LOCAL,
        NEW_YORK,
    ] {
        rows.push((ak, true, TEN, ELEVEN, Same));
    }
    for (ak, out) in [
        (
            SHANGHAI,
            Times("2022-01-02 18:00:00", "2022-01-02 19:00:00"),
        ),
        (GMT8, Times("2022-01-02 18:00:00", "2022-01-02 19:00:00")),
        (
            SINGAPORE,
            Times("2022-01-02 18:00:00", "2022-01-02 19:00:00"),
        ),
        (
            BERLIN_UTC,
            Times("2022-01-02 11:00:00", "2022-01-02 12:00:00"),
        ),
        (
            NEW_YORK,
            Times("2022-01-02 05:00:00", "2022-01-02 06:00:00"),
        ),
        (LOCAL, Times(TEN, ELEVEN)),
        (BERLIN_LOCAL, Times(TEN, ELEVEN)),
        (BERLIN, mandatory),
        (STRICT, Refused("0300006", "version")),
    ] {
        rows.push((ak, false, TEN, ELEVEN, out));
    }
    for version in [false, true] {
        for (ak, out) in [
            (SHANGHAI, Times(TEN, ELEVEN)),
            (LOCAL, Times(TEN, ELEVEN)),
            (STRICT, Times(TEN, ELEVEN)),
            (BERLIN, Times("2022-01-02 03:00:00", "2022-01-02 04:00:00")),
            (
                NEW_YORK,
                Times("2022-01-01 21:00:00", "2022-01-01 22:00:00"),
            ),
        ] {
            rows.push((ak, version, east, utc, out));
        }
    }
    check(&world, &rows).await;
}

#[tokio::test]
async fn mixed_forms_follow_each_its_own_row() {
    let (rfc_begin, rfc_end) = ("2022-01-02T02:00:00Z", "2022-01-02T06:00:00-05:00");
    let world = all_zones().await;
    check(
        &world,
        &[
            (
                SHANGHAI,
                false,
                rfc_begin,
                "2022-01-02 03:00:00",
                Times(TEN, ELEVEN),
            ),
            (SHANGHAI, true, rfc_begin, ELEVEN, Times(TEN, ELEVEN)),
            (
                SHANGHAI,
                true,
                TEN,
                rfc_end,
                Times(TEN, "2022-01-02 19:00:00"),
            ),
            (LOCAL, false, rfc_begin, ELEVEN, Times(TEN, ELEVEN)),
            (
                BERLIN,
                true,
                rfc_begin,
                ELEVEN,
                Times("2022-01-02 03:00:00", ELEVEN),
            ),
            (
                BERLIN,
                false,
                rfc_begin,
                ELEVEN,
                Refused("0300006", "mandatory outside GMT+8"),
            ),
            (STRICT, false, TEN, rfc_end, Refused("0300006", "version")),
            (
                NEW_YORK,
                false,
                TEN,
                rfc_end,
                Times("2022-01-02 05:00:00", "2022-01-02 06:00:00"),
            ),
        ],
    )
    .await;
}

/// A zone counts as GMT+8 only where it was that throughout the years of the window.
#[tokio::test]
async fn a_zone_is_plus_eight_in_some_years_only() {
    let world = all_zones().await;
    let mandatory = Refused("0300006", "mandatory outside GMT+8");
    let (begin, end) = ("1988-12-20 10:00:00", "1988-12-20 11:00:00");
    check(
        &world,
        &[
            (SHANGHAI, false, begin, end, mandatory),
            (SHANGHAI, true, begin, end, Same),
            (
                GMT8,
                false,
                begin,
                end,
                Times("1988-12-20 18:00:00", "1988-12-20 19:00:00"),
            ),
            (
                SHANGHAI,
                false,
                "1991-12-31 23:00:00",
                "1992-01-01 01:00:00",
                mandatory,
            ),
            (
                SHANGHAI,
                false,
                "1992-01-01 10:00:00",
                "1992-01-01 11:00:00",
                Times("1992-01-01 18:00:00", "1992-01-01 19:00:00"),
            ),
            (
                SINGAPORE,
                false,
                "1981-06-01 10:00:00",
                "1981-06-01 11:00:00",
                mandatory,
            ),
        ],
    )
    .await;
}

/// Berlin: 27 March and 30 October 2022 at 01:00 UTC. New York: 13 March at 07:00 and 6 November 2022
/// at 06:00 UTC.
#[tokio::test]
async fn when_the_clocks_change() {
    let world = all_zones().await;
    let autumn = Refused("0300013", "clocks");
    check(
        &world,
        &[
            // Conversions on both sides of a change.
            (
                BERLIN_UTC,
                false,
                "2022-03-27 00:30:00",
                "2022-03-27 01:30:00",
                Times("2022-03-27 01:30:00", "2022-03-27 03:30:00"),
            ),
            (
                NEW_YORK,
                false,
                "2022-11-06 05:00:00",
                "2022-11-06 07:30:00",
                Times("2022-11-06 01:00:00", "2022-11-06 02:30:00"),
            ),
            // A plain time inside the gap is no fault.
            (
                BERLIN,
                true,
                "2022-03-27 02:30:00",
                "2022-03-27 03:30:00",
                Same,
            ),
            (
                NEW_YORK,
                true,
                "2022-03-13 02:00:00",
                "2022-03-13 02:59:59",
                Same,
            ),
            // Three days of UTC that are 73, or 71, hours of wall clock.
            (
                BERLIN_UTC,
                false,
                "2022-03-26 12:00:00",
                "2022-03-29 12:00:00",
                Times("2022-03-26 13:00:00", "2022-03-29 14:00:00"),
            ),
            (
                BERLIN_UTC,
                false,
                "2022-10-29 12:00:00",
                "2022-11-01 12:00:00",
                Times("2022-10-29 14:00:00", "2022-11-01 13:00:00"),
            ),
            (
                BERLIN_UTC,
                false,
                "2022-10-29 12:00:00",
                "2022-11-01 13:00:00",
                Times("2022-10-29 14:00:00", "2022-11-01 14:00:00"),
            ),
            (
                BERLIN_UTC,
                false,
                "2022-10-29 12:00:00",
                "2022-11-01 13:00:01",
                Refused("0300004", "three days"),
            ),
            (
                BERLIN_UTC,
                false,
                "2022-03-26 12:00:00",
                "2022-03-29 12:00:01",
                Refused("0300004", "three days"),
            ),
            // Three days of wall clock that are 73, or 71, hours long.
            (
                BERLIN,
                true,
                "2022-10-29 12:00:00",
                "2022-11-01 12:00:00",
                Same,
            ),
            (
                BERLIN,
                true,
                "2022-03-26 12:00:00",
                "2022-03-29 13:00:00",
                Same,
            ),
            (
                BERLIN,
                true,
                "2022-03-26 12:00:00",
                "2022-03-29 13:00:01",
                Refused("0300004", "three days"),
            ),
            // The hour that autumn repeats.
            (
                BERLIN_UTC,
                false,
                "2022-10-30 00:30:00",
                "2022-10-30 01:10:00",
                autumn,
            ),
            (
                BERLIN,
                true,
                "2022-10-30T02:30:00+02:00",
                "2022-10-30T02:10:00+01:00",
                autumn,
            ),
            (
                NEW_YORK,
                false,
                "2022-11-06 05:30:00",
                "2022-11-06 06:10:00",
                autumn,
            ),
            (
                BERLIN,
                true,
                "2022-10-30 02:30:00",
                "2022-10-30 02:10:00",
                Refused("0300013", "later than endTime"),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_time_with_offset_has_exactly_one_form() {
    let world = all_zones().await;
    let begin = Refused("0300004", "beginTime");
    let mut rows = Vec::new();
    for wrong in [
        "2022-01-02T10:00:00",
        "2022-01-02 10:00:00Z",
        "2022-01-02 10:00:00+08:00",
        "2022-01-02t10:00:00Z",
        "2022-01-02T10:00:00z",
        "2022-01-02T10:00:00.0Z",
        "2022-01-02T10:00:00+0800",
        "2022-01-02T10:00:00+08",
        "2022-01-02T10:00:00+24:00",
        "2022-01-02T10:00:00+08:60",
        "2022-01-02T10:00Z",
        "2022-02-30T10:00:00Z",
        "2022-01-02T24:00:00Z",
        "2022-01-02T23:59:60Z",
        "0001-01-01T00:00:00+14:00",
        "0000-06-01T00:00:00Z",
    ] {
        rows.push((SHANGHAI, true, wrong, "2022-01-02 12:00:00", begin));
    }
    // In the years 0001 to 9999 as written, but not when converted.
    let (early, late) = ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z");
    rows.push((NEW_YORK, true, early, early, begin));
    rows.push((
        SHANGHAI,
        true,
        "9999-12-31 12:00:00",
        late,
        Refused("0300004", "endTime"),
    ));
    let plain = ("0001-01-01 00:00:00", "9999-12-31 23:00:00");
    rows.push((NEW_YORK, false, plain.0, plain.0, begin));
    rows.push((
        GMT8,
        false,
        "9999-12-31 12:00:00",
        plain.1,
        Refused("0300004", "endTime"),
    ));
    rows.push((SHANGHAI, true, plain.0, plain.0, Same));
    check(&world, &rows).await;
}

#[tokio::test]
async fn a_request_is_signed_again_over_the_names_that_its_client_signed() {
    let world = World::start().await;
    for (number, names) in ["host", "host;content-type", NAMES, "x-b;x-a;host;x-a-b"]
        .into_iter()
        .enumerate()
    {
        let mut request = world.post(odd_body(&format!("1-{number}"), false, TEN, ELEVEN));
        for name in ["x-a", "x-b", "x-a-b"] {
            let value = "a  b/\u{e9}:\"%41+".parse().unwrap();
            request.headers.insert(HeaderName::from_static(name), value);
        }
        let request = request
            .sign(&credential(SHANGHAI), names, Timestamp::now())
            .unwrap();
        answered(&world.send(&request).await, "0");
        let got = world.sole();
        is_signed_again(&got, &request);
        let sent = request.headers.get("x-a").map(|value| value.as_bytes());
        let field = got.headers.iter().find(|(name, _)| name == "x-a");
        assert_eq!(field.map(|(_, value)| value.as_bytes()), sent);
    }
}

#[tokio::test]
async fn what_goes_on_under_its_own_signature_keeps_its_time_and_text() {
    let world = World::start().await;
    let earlier = Timestamp::now() - SignedDuration::from_mins(9);
    let body = odd_body("1-1", true, TEN, ELEVEN);
    let request = world
        .post(body)
        .with(CONTENT_TYPE, "Application/JSON ; Charset=\"utf-8\"")
        .sign(&credential(SHANGHAI), NAMES, earlier)
        .unwrap();
    answered(&world.send(&request).await, "0");
    is_identical(&world.sole(), &request);

    let request = world
        .post(odd_body("1-2", false, TEN, ELEVEN))
        .with(CONTENT_TYPE, "Application/JSON ; Charset=\"utf-8\"")
        .sign(&credential(SHANGHAI), NAMES, earlier)
        .unwrap();
    answered(&world.send(&request).await, "0");
    let got = world.sole();
    is_signed_again(&got, &request);
    assert_eq!(got.header("content-type"), text(&request, &CONTENT_TYPE));
}

#[tokio::test]
async fn a_missing_content_type_is_added_only_to_what_is_signed_again() {
    let world = World::start().await;
    for (version, content_type) in [
        (true, None),
        (false, Some("application/json;charset=UTF-8")),
    ] {
        let mut request = world.post(odd_body("1-1", version, TEN, ELEVEN));
        request.headers.remove(CONTENT_TYPE);
        let names = "content-length;host";
        let request = request
            .sign(&credential(SHANGHAI), names, Timestamp::now())
            .unwrap();
        answered(&world.send(&request).await, "0");
        let got = world.sole();
        assert_eq!(
            got.header("content-type"),
            content_type,
            "version {version}"
        );
        assert_eq!(parts(got.header("authorization"))[3], names);
    }
}

#[tokio::test]
async fn a_chunked_body_goes_on_with_its_length() {
    let world = World::start().await;
    for version in [true, false] {
        let body = odd_body("1-1", version, TEN, ELEVEN);
        let request = world.post(body.clone());
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
        let answer = world.raw((head + &chunks).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let got = world.sole();
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
async fn a_query_goes_on_as_it_came_and_nothing_is_cached() {
    let world = World::start().await;
    for version in [true, false] {
        let url = format!(
            "{}/CCFS/resource/ccfs/getRecordFileUrlFromObs?b=1+2&a=%2f&c&d=%e4%bd%a0",
            world.url()
        );
        let body = odd_body("1-1", version, TEN, ELEVEN);
        let request = signed(SignedRequest::post(&url, body).unwrap(), SHANGHAI);
        for _ in 0..2 {
            let answer = world.send(&request).await;
            answered(&answer, "0");
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            assert_eq!(answer.header("age"), None);
            let status = answer.header("cache-status").unwrap_or_default();
            assert!(
                !status.contains("hit") && !status.contains("stored"),
                "{status}"
            );
            let got = world.sole();
            assert_eq!(got.target, request.target);
            match version {
                true => is_identical(&got, &request),
                false => is_signed_again(&got, &request),
            }
        }
    }
    // Neither did they fill the entry of the request without a query.
    let plain = signed(world.post(odd_body("1-1", true, TEN, ELEVEN)), SHANGHAI);
    world.send(&plain).await;
    world.sole();
}

#[tokio::test]
async fn the_answer_is_the_nodes_own_bytes() {
    let world = World::start().await;
    for call_id in [
        "1-1",
        "array-3",
        "members-2",
        "code-0300012",
        "code-0300028",
        "form-lss",
    ] {
        let first = world.ask(call_id).await;
        assert_eq!(first.header("cache-control"), Some("no-store"), "{call_id}");
        assert_eq!(first.header("server"), Some("ccfs-stand-in"));
        assert_eq!(
            first.header("content-type"),
            Some("application/json;charset=UTF-8")
        );
        let text = String::from_utf8_lossy(&first.body);
        // The nodes write the members in this order, which no sorted map would keep.
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
async fn host_node_is_signed_again_for_each_node() {
    let world = Setup {
        nodes: 2,
        cluster: "host = \"node\"\nbalance = \"round-robin\"".into(),
        ..Setup::default()
    }
    .start()
    .await;
    for number in 0..4 {
        let body = odd_body(&format!("1-{number}"), true, TEN, ELEVEN);
        let request = signed(world.post(body), SHANGHAI);
        answered(&world.send(&request).await, "0");
    }
    for node in &world.nodes {
        assert!(node.count("getRecordFileUrlFromObs") > 0);
        let host = node.address().to_string();
        for got in node.requests().iter().filter(|got| got.target != "/") {
            assert_eq!(got.header("host"), Some(&*host));
            assert_eq!(got.access_key.as_deref(), Some(SHANGHAI));
            let outside = world.bound.listeners["ccfs"].to_string();
            assert_eq!(got.header("x-forwarded-host"), Some(&*outside));
            assert_eq!(
                got.header("content-length"),
                Some(&*got.body.len().to_string())
            );
        }
    }
}

#[tokio::test]
async fn host_stays_as_the_client_wrote_it() {
    let world = World::start().await;
    for host in [
        "records.example.com",
        "10.154.198.164",
        "CCFS.example.com:28443",
    ] {
        for version in [true, false] {
            let mut request =
                world.post(odd_body(&format!("1-{}", host.len()), version, TEN, ELEVEN));
            request.headers.insert(HOST, host.parse().unwrap());
            answered(&world.send(&signed(request, SHANGHAI)).await, "0");
            let got = world.sole();
            assert_eq!(got.header("host"), Some(host));
            assert_eq!(got.access_key.as_deref(), Some(SHANGHAI));
        }
    }
}

#[tokio::test]
async fn a_length_that_is_signed_with_zeros_in_front_stays_so() {
    let world = World::start().await;
    let mut request = world.post(odd_body("1-1", true, TEN, ELEVEN));
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
    let answer = world.raw(&raw).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(world.sole().access_key.as_deref(), Some(SHANGHAI));
}
