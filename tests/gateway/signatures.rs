//! Signature verification: wrong, expired, duplicated, over other data, or made with another
//! secret.

use ccfs_gateway::auth::{AccessKey, Credential, Secret};
use ccfs_gateway::client::{ClientResponse, DEFAULT_SIGNED_FIELDS};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use jiff::{SignedDuration, Timestamp};

use crate::assertions::{assert_gateway_error, assert_node_response};
use crate::support::{BERLIN, SHANGHAI, Setup, TestEnv, UNKNOWN, credential, secret, signed};

pub(super) fn is_401(response: &ClientResponse) {
    assert_gateway_error(response, 401, "unauthenticated", "GW401");
}

/// A credential of this access key with the secret of another.
fn with_secret_of(ak: &str, other: &str) -> Credential {
    let secret = Secret::new(secret(other).into_bytes());
    Credential::new(AccessKey::from(ak), vec![secret], true)
}

#[tokio::test]
async fn changes_after_signing_are_401() {
    let env = TestEnv::start().await;
    let right = || signed(env.recording("1-1"), SHANGHAI);
    let mut changed = vec![
        right().with_header(http::header::CONTENT_TYPE, "application/json"),
        right().with_header(http::header::HOST, "other.example.com"),
    ];
    let mut body = right();
    body.body = String::from_utf8(body.body.to_vec())
        .unwrap()
        .replace("1-1", "1-2")
        .into();
    changed.push(body);
    let mut query = right();
    query.target += "?a=1";
    changed.push(query);
    let mut other_path = signed(env.post_to("downloadRecord", "{}"), SHANGHAI);
    other_path.target = other_path
        .target
        .replace("downloadRecord", "downloadRecordFile");
    changed.push(other_path);
    for at in 0..4 {
        // Each part of the value: access key, time, signed names, signature.
        let value = right().headers[AUTHORIZATION].to_str().unwrap().to_owned();
        let mut parts: Vec<String> = value.split('/').map(Into::into).collect();
        parts[at + 1] = match at {
            0 => BERLIN.into(),
            1 => parts[2].replace("Z", ".000Z"),
            2 => "host".into(),
            _ => parts[4].chars().rev().collect(),
        };
        changed.push(right().with_authorization(parts.join("/").parse().unwrap()));
    }
    for request in changed {
        is_401(&env.send(&request).await);
    }
    env.assert_no_upstream_request();
    assert_node_response(&env.send(&right()).await, "0");
}

#[tokio::test]
async fn values_other_than_auth_v2_are_401() {
    let env = TestEnv::start().await;
    let right = signed(env.recording("1-1"), SHANGHAI);
    let value = right.headers[AUTHORIZATION].to_str().unwrap().to_owned();
    let (prefix, signature) = value.rsplit_once('/').unwrap();
    for value in [
        String::new(),
        "Bearer abc".into(),
        "SDK-HMAC-SHA256 Access=x, SignedHeaders=host, Signature=y".into(),
        value.replace("auth-v2", "auth-v1"),
        value.replace("auth-v2", "AUTH-V2"),
        value.replace('/', " / "),
        format!("Bearer {value}"),
        format!("{value}/"),
        format!("{value}, {value}"),
        prefix.into(),
        format!("{prefix}/"),
        format!("{prefix}/{}", signature.to_uppercase()),
        format!("{prefix}/{}", &signature[..63]),
        format!(
            "auth-v2//{}",
            value.split('/').skip(2).collect::<Vec<_>>().join("/")
        ),
    ] {
        println!("{value}");
        let request = right.clone().with_authorization(value.parse().unwrap());
        is_401(&env.send(&request).await);
    }
    let mut without = right.clone();
    without.headers.remove(AUTHORIZATION);
    is_401(&env.send(&without).await);
    let not_text = HeaderValue::from_bytes(b"auth-v2/\xff").unwrap();
    is_401(&env.send(&right.clone().with_authorization(not_text)).await);
    env.assert_no_upstream_request();
}

#[tokio::test]
async fn more_than_one_authorization_is_401() {
    let env = TestEnv::start().await;
    for second in ["same", "", "Bearer x"] {
        let mut request = signed(env.recording("1-1"), SHANGHAI);
        let value = match second {
            "same" => request.headers[AUTHORIZATION].clone(),
            other => other.parse().unwrap(),
        };
        request.headers.append(AUTHORIZATION, value);
        is_401(&env.send(&request).await);
    }
    env.assert_no_upstream_request();
}

#[tokio::test]
async fn a_signature_is_valid_for_15_minutes_each_way() {
    for (window, minutes) in [
        ("", vec![(-14, true), (14, true), (-16, false), (16, false)]),
        (
            "clock_window = \"1m\"",
            vec![(0, true), (-2, false), (2, false)],
        ),
        (
            "clock_window = \"0s\"",
            vec![(-60 * 24 * 700, true), (60 * 24 * 700, true)],
        ),
    ] {
        let tables = format!("[limits]\n{window}");
        let env = Setup {
            tables,
            ..Setup::default()
        }
        .start()
        .await;
        for (minutes, good) in minutes {
            // Without a version the request is re-signed, so the node's own clock check does not
            // matter.
            let body = format!(
                "{{\"callId\":\"{}\",\"beginTime\":\"2022-01-02 10:00:00\",\
                 \"endTime\":\"2022-01-02 11:00:00\"}}",
                i64::unsigned_abs(minutes) + u64::from(minutes < 0)
            );
            let at = Timestamp::now() + SignedDuration::from_mins(minutes);
            let request = env.post(body);
            let request = request
                .sign(&credential(SHANGHAI), DEFAULT_SIGNED_FIELDS, at)
                .unwrap();
            let response = env.send(&request).await;
            println!("{window} {minutes}");
            if good {
                assert_node_response(&response, "0");
                env.sole_upstream_request();
            } else {
                is_401(&response);
                env.assert_no_upstream_request();
            }
        }
    }
}

/// The response without the header fields that differ between any two responses.
fn shape(response: &ClientResponse) -> (u16, HeaderMap, Vec<u8>) {
    let mut headers = response.headers.clone();
    for name in ["x-request-id", "date"] {
        assert!(headers.remove(name).is_some());
    }
    (response.status.as_u16(), headers, response.body.to_vec())
}

#[tokio::test]
async fn all_rejected_signatures_look_the_same() {
    const OFF: &str = "ak-switched-off";
    for listener in ["", "unknown_clients = \"forward\""] {
        let env = Setup {
            listener: listener.into(),
            accounts: vec![(OFF, "time_zone = \"Asia/Shanghai\"\nenabled = false")],
            ..Setup::default()
        }
        .start()
        .await;
        let by = |credential: &Credential| {
            let request = env.recording("1-1");
            request
                .sign(credential, DEFAULT_SIGNED_FIELDS, Timestamp::now())
                .unwrap()
        };
        let wrong = env.send(&by(&with_secret_of(SHANGHAI, BERLIN))).await;
        is_401(&wrong);
        let mut others = vec![by(&credential(OFF)), by(&with_secret_of(OFF, BERLIN))];
        if listener.is_empty() {
            others.push(by(&credential(UNKNOWN)));
            others.push(env.recording("1-1"));
        }
        for request in others {
            assert_eq!(shape(&env.send(&request).await), shape(&wrong));
        }
        env.assert_no_upstream_request();
    }
}

#[tokio::test]
async fn both_secrets_verify_and_the_first_one_signs() {
    const ROTATING: &str = "ak-rotating";
    let tables = format!(
        "[access_keys.{ROTATING}]\ntime_zone = \"GMT+8\"\n\
         secret_key_file = [\"{ROTATING}\", \"{SHANGHAI}\"]"
    );
    let env = Setup {
        unconfigured: vec![ROTATING],
        tables,
        ..Setup::default()
    }
    .start()
    .await;
    for other in [ROTATING, SHANGHAI] {
        let body = format!(
            "{{\"callId\":\"{other}\",\"beginTime\":\"2022-01-02 10:00:00\",\
             \"endTime\":\"2022-01-02 11:00:00\"}}"
        );
        let request = env.post(body);
        let credential = with_secret_of(ROTATING, other);
        let request = request
            .sign(&credential, DEFAULT_SIGNED_FIELDS, Timestamp::now())
            .unwrap();
        assert_node_response(&env.send(&request).await, "0");
        // The node knows only the first secret.
        assert_eq!(
            env.sole_upstream_request().access_key.as_deref(),
            Some(ROTATING)
        );
    }
    let request = env.recording("1-1");
    let credential = with_secret_of(ROTATING, BERLIN);
    let request = request
        .sign(&credential, DEFAULT_SIGNED_FIELDS, Timestamp::now())
        .unwrap();
    is_401(&env.send(&request).await);
}
