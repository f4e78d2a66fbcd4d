//! The normalization table of the recording-URL request: what is forwarded, and with which
//! signature.

use ccfs_gateway::client::ClientRequest;
use ccfs_gateway::stand_in::RecordedRequest;
use http::HeaderName;
use http::header::{AUTHORIZATION, HOST};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::assertions::{assert_gateway_error, assert_node_response};
use crate::support::{BERLIN, SHANGHAI, Setup, TestEnv, signed};

use Out::{Refused, Same, Times};

const LOCAL: &str = "ak-shanghai-local";

const STRICT: &str = "ak-shanghai-reject";

pub(super) const GMT8: &str = "ak-gmt8";

pub(super) const BERLIN_UTC: &str = "ak-berlin-utc";

pub(super) const BERLIN_LOCAL: &str = "ak-berlin-local";

pub(super) const NEW_YORK: &str = "ak-new-york";

pub(super) const SINGAPORE: &str = "ak-singapore";

pub(super) async fn all_zones() -> TestEnv {
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

/// The expected handling of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Out {
    /// Forwarded byte-identical with the client's own signature.
    Same,
    /// Forwarded with these times and version 2.0, re-signed.
    Times(&'static str, &'static str),
    /// Rejected with this code; the text contains this word.
    Refused(&'static str, &'static str),
}

/// Access key, whether the request has version 2.0, its times, and the expected handling.
pub(super) type Row<'a> = (&'static str, bool, &'a str, &'a str, Out);

/// A body whose spacing, order and additional fields no serializer would produce.
pub(super) fn odd_body(call_id: &str, version: bool, begin: &str, end: &str) -> String {
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

pub(super) async fn check(env: &TestEnv, rows: &[Row<'_>]) {
    for (number, &(ak, version, begin, end, out)) in rows.iter().enumerate() {
        let call_id = format!("1637742300-{number}");
        let request = signed(env.post(odd_body(&call_id, version, begin, end)), ak);
        let response = env.send(&request).await;
        println!("{ak} {version} {begin} {end}: {out:?}");
        if let Refused(code, word) = out {
            assert_gateway_error(&response, 200, "invalid-request", code);
            let text = crate::assertions::result_desc(&response);
            assert!(text.contains(word), "{text}");
            env.assert_no_upstream_request();
            continue;
        }
        assert_node_response(&response, "0");
        let got = env.sole_upstream_request();
        assert_eq!(got.access_key.as_deref(), Some(ak));
        match out {
            Times(begin, end) => {
                let expected = changed(&request, begin, end);
                assert_eq!(
                    serde_json::from_slice::<Value>(&got.body).unwrap(),
                    expected
                );
                assert_resigned(&got, &request);
            }
            _ => assert_forwarded_unchanged(&got, &request),
        }
    }
}

/// The client's JSON object with other times and the version.
fn changed(request: &ClientRequest, begin: &str, end: &str) -> Value {
    let mut object: Value = serde_json::from_slice(&request.body).unwrap();
    for (name, value) in [("beginTime", begin), ("endTime", end), ("version", "2.0")] {
        object[name] = value.into();
    }
    object
}

pub(super) fn assert_forwarded_unchanged(got: &RecordedRequest, sent: &ClientRequest) {
    assert_eq!(got.body, sent.body);
    for name in sent.headers.keys() {
        assert_eq!(got.header(name.as_str()), text(sent, name), "{name}");
    }
    assert_eq!(
        (got.target.as_str(), &got.method),
        (sent.target.as_str(), &sent.method)
    );
}

/// Asserts a fresh signature of the same access key over the fields that the client signed.
pub(super) fn assert_resigned(got: &RecordedRequest, sent: &ClientRequest) {
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

pub(super) fn parts(authorization: Option<&str>) -> Vec<&str> {
    authorization.unwrap().split('/').collect()
}

pub(super) fn text<'a>(request: &'a ClientRequest, name: &HeaderName) -> Option<&'a str> {
    request.headers.get(name)?.to_str().ok()
}

pub(super) const TEN: &str = "2022-01-02 10:00:00";

pub(super) const ELEVEN: &str = "2022-01-02 11:00:00";

#[tokio::test]
async fn every_row_of_the_normalization_table() {
    let (east, utc) = ("2022-01-02T10:00:00+08:00", "2022-01-02T03:00:00Z");
    let mandatory = Refused("0300006", "mandatory outside GMT+8");
    let env = all_zones().await;
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
    check(&env, &rows).await;
}

#[tokio::test]
async fn mixed_forms_follow_each_its_own_row() {
    let (rfc_begin, rfc_end) = ("2022-01-02T02:00:00Z", "2022-01-02T06:00:00-05:00");
    let env = all_zones().await;
    check(
        &env,
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
