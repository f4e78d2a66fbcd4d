//! Who is believed: signatures that are wrong, old, doubled, over other things, or by another secret.

use ccfs_gateway::auth::{AccessKey, Credential, Secret};
use ccfs_gateway::cli::client::{Answer, NAMES, SignedRequest};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::{SignedDuration, Timestamp};

use crate::expect::{answered, refused};
use crate::support::{BERLIN, SHANGHAI, STRANGER, Setup, World, credential, secret, signed};

fn is_401(answer: &Answer) {
    refused(answer, 401, "unauthenticated", "GW401");
}

/// A credential of this ak with the secret of another.
fn with_secret_of(ak: &str, other: &str) -> Credential {
    let secret = Secret::new(secret(other).into_bytes());
    Credential::new(AccessKey::from(ak), vec![secret], true)
}

fn sign(request: SignedRequest, names: &str) -> SignedRequest {
    request
        .sign(&credential(SHANGHAI), names, Timestamp::now())
        .unwrap()
}

#[tokio::test]
async fn what_was_changed_after_it_was_signed_is_401() {
    let world = World::start().await;
    let right = || signed(world.recording("1-1"), SHANGHAI);
    let mut changed = vec![
        right().with(http::header::CONTENT_TYPE, "application/json"),
        right().with(http::header::HOST, "other.example.com"),
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
    let mut other_path = signed(world.post_to("downloadRecord", "{}"), SHANGHAI);
    other_path.target = other_path
        .target
        .replace("downloadRecord", "downloadRecordFile");
    changed.push(other_path);
    for at in 0..4 {
        // Each part of the value: ak, time, names, signature.
        let value = right().headers[AUTHORIZATION].to_str().unwrap().to_owned();
        let mut parts: Vec<String> = value.split('/').map(Into::into).collect();
        parts[at + 1] = match at {
            0 => BERLIN.into(),
            1 => parts[2].replace("Z", ".000Z"),
            2 => "host".into(),
            _ => parts[4].chars().rev().collect(),
        };
        changed.push(right().authorized(parts.join("/").parse().unwrap()));
    }
    for request in changed {
        is_401(&world.send(&request).await);
    }
    world.nobody_was_asked();
    answered(&world.send(&right()).await, "0");
}

#[tokio::test]
async fn values_that_are_no_auth_v2_are_401() {
    let world = World::start().await;
    let right = signed(world.recording("1-1"), SHANGHAI);
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
        let request = right.clone().authorized(value.parse().unwrap());
        is_401(&world.send(&request).await);
    }
    let mut without = right.clone();
    without.headers.remove(AUTHORIZATION);
    is_401(&world.send(&without).await);
    let not_text = HeaderValue::from_bytes(b"auth-v2/\xff").unwrap();
    is_401(&world.send(&right.clone().authorized(not_text)).await);
    world.nobody_was_asked();
}

#[tokio::test]
async fn more_than_one_authorization_is_401() {
    let world = World::start().await;
    for second in ["same", "", "Bearer x"] {
        let mut request = signed(world.recording("1-1"), SHANGHAI);
        let value = match second {
            "same" => request.headers[AUTHORIZATION].clone(),
            other => other.parse().unwrap(),
        };
        request.headers.append(AUTHORIZATION, value);
        is_401(&world.send(&request).await);
    }
    world.nobody_was_asked();
}

#[tokio::test]
async fn a_signature_is_good_for_a_quarter_of_an_hour_each_way() {
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
        let world = Setup {
            tables,
            ..Setup::default()
        }
        .start()
        .await;
        for (minutes, good) in minutes {
            // Without a version: signed again, so that the node's own clock does not matter.
            let body = format!(
                "{{\"callId\":\"{}\",\"beginTime\":\"2022-01-02 10:00:00\",\
                 \"endTime\":\"2022-01-02 11:00:00\"}}",
                i64::unsigned_abs(minutes) + u64::from(minutes < 0)
            );
            let at = Timestamp::now() + SignedDuration::from_mins(minutes);
            let request = world.post(body);
            let request = request.sign(&credential(SHANGHAI), NAMES, at).unwrap();
            let answer = world.send(&request).await;
            println!("{window} {minutes}");
            if good {
                answered(&answer, "0");
                world.sole();
            } else {
                is_401(&answer);
                world.nobody_was_asked();
            }
        }
    }
}

/// The fields of an answer, but for those that differ between any two.
fn shape(answer: &Answer) -> (u16, HeaderMap, Vec<u8>) {
    let mut headers = answer.headers.clone();
    for name in ["x-request-id", "date"] {
        assert!(headers.remove(name).is_some());
    }
    (answer.status.as_u16(), headers, answer.body.to_vec())
}

#[tokio::test]
async fn all_who_are_not_believed_look_the_same() {
    const OFF: &str = "ak-switched-off";
    for listener in ["", "unknown_clients = \"forward\""] {
        let world = Setup {
            listener: listener.into(),
            accounts: vec![(OFF, "time_zone = \"Asia/Shanghai\"\nenabled = false")],
            ..Setup::default()
        }
        .start()
        .await;
        let by = |credential: &Credential| {
            let request = world.recording("1-1");
            request.sign(credential, NAMES, Timestamp::now()).unwrap()
        };
        let wrong = world.send(&by(&with_secret_of(SHANGHAI, BERLIN))).await;
        is_401(&wrong);
        let mut others = vec![by(&credential(OFF)), by(&with_secret_of(OFF, BERLIN))];
        if listener.is_empty() {
            others.push(by(&credential(STRANGER)));
            others.push(world.recording("1-1"));
        }
        for request in others {
            assert_eq!(shape(&world.send(&request).await), shape(&wrong));
        }
        world.nobody_was_asked();
    }
}

#[tokio::test]
async fn both_secrets_verify_and_the_first_one_signs() {
    const ROTATING: &str = "ak-rotating";
    let tables = format!(
        "[access_keys.{ROTATING}]\ntime_zone = \"GMT+8\"\n\
         secret_key_file = [\"{ROTATING}\", \"{SHANGHAI}\"]"
    );
    let world = Setup {
        known: vec![ROTATING],
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
        let request = world.post(body);
        let credential = with_secret_of(ROTATING, other);
        let request = request.sign(&credential, NAMES, Timestamp::now()).unwrap();
        answered(&world.send(&request).await, "0");
        // The node knows the first one only.
        assert_eq!(world.sole().access_key.as_deref(), Some(ROTATING));
    }
    let request = world.recording("1-1");
    let credential = with_secret_of(ROTATING, BERLIN);
    let request = request.sign(&credential, NAMES, Timestamp::now()).unwrap();
    is_401(&world.send(&request).await);
}

#[tokio::test]
async fn the_query_is_signed_as_it_is_sent() {
    let world = World::start().await;
    let at = |query: &str| {
        let mut request = world.recording("1-1");
        request.target += query;
        request
    };
    for query in [
        "?",
        "?a",
        "?a=",
        "?a=9&a-b=1",
        "?a-b=1&a=9",
        "?a=1+2",
        "?a=1%2B2",
        "?a=1%202&%C3%A9=%2f",
        "?a=b=c",
        "?a=?/",
    ] {
        println!("{query}");
        let request = signed(at(query), SHANGHAI);
        answered(&world.send(&request).await, "0");
        let got = world.sole();
        assert_eq!(
            got.header("authorization"),
            request.headers[AUTHORIZATION].to_str().ok()
        );
    }
    // A plus is a plus: what was signed as one is no blank, and the other way round.
    for (signed_as, sent_as) in [("?a=1+2", "?a=1%202"), ("?a=1%202", "?a=1+2")] {
        let mut request = signed(at(signed_as), SHANGHAI);
        request.target = at(sent_as).target;
        is_401(&world.send(&request).await);
    }
    // And what was signed as one spelling of a byte is the same in another.
    let mut request = signed(at("?a=1+2"), SHANGHAI);
    request.target = at("?%61=1%2b2").target;
    answered(&world.send(&request).await, "0");
    world.sole();
    // Repeated keys have no signature: one over either part is wrong.
    for repeated in ["?a=1&a=2", "?a=1&a=1", "?a=1&%61=2", "?a&a"] {
        for part in ["?a=1", "?a=2", "?a", ""] {
            let mut request = signed(at(part), SHANGHAI);
            request.target = at(repeated).target;
            is_401(&world.send(&request).await);
        }
    }
    world.nobody_was_asked();
}

#[tokio::test]
async fn any_set_of_fields_with_host_may_be_signed() {
    let world = World::start().await;
    let with_fields = || {
        let mut request = world.recording("1-1");
        request.target += "?uncached";
        for (name, value) in [
            ("x-trace", "1"),
            ("x-trace-id", "a:b c"),
            ("accept-encoding", "gzip"),
            ("user-agent", "x/1"),
        ] {
            let name = HeaderName::from_static(name);
            request
                .headers
                .insert(name, HeaderValue::from_static(value));
        }
        request
    };
    for names in [
        "host",
        NAMES,
        "host;content-type;content-length",
        "x-trace;x-trace-id;host",
        "x-trace-id;host;x-trace;user-agent;accept-encoding;content-type;content-length",
    ] {
        let request = sign(with_fields(), names);
        answered(&world.send(&request).await, "0");
        let got = world.sole();
        assert_eq!(
            got.header("authorization"),
            request.headers[AUTHORIZATION].to_str().ok()
        );
        for name in names.split(';') {
            assert_eq!(
                got.header(name),
                request.headers[name].to_str().ok(),
                "{name}"
            );
        }
    }
    // Unsigned fields may change, signed ones may not, nor be missing, nor be doubled.
    let signed = sign(with_fields(), "host;x-trace");
    let other = signed
        .clone()
        .with(HeaderName::from_static("x-trace-id"), "other");
    answered(&world.send(&other).await, "0");
    let mut missing = signed.clone();
    missing.headers.remove("x-trace");
    let mut doubled = signed.clone();
    doubled
        .headers
        .append("x-trace", HeaderValue::from_static("1"));
    for wrong in [
        signed.with(HeaderName::from_static("x-trace"), "2"),
        missing,
        doubled,
    ] {
        is_401(&world.send(&wrong).await);
    }
}

#[tokio::test]
async fn names_that_cannot_be_right_are_401() {
    let world = World::start().await;
    let right = signed(world.recording("1-1"), SHANGHAI);
    let value = right.headers[AUTHORIZATION].to_str().unwrap().to_owned();
    for names in [
        "",
        "content-type",
        "Host",
        "host;",
        ";host",
        "host;host",
        "host,content-type",
        "host;x-missing",
    ] {
        let request = right
            .clone()
            .authorized(value.replace(NAMES, names).parse().unwrap());
        is_401(&world.send(&request).await);
    }
}

#[tokio::test]
async fn a_time_with_milliseconds_is_taken_verbatim() {
    let world = World::start().await;
    let now = Timestamp::now();
    let prefix = format!(
        "auth-v2/{SHANGHAI}/{}/host",
        now.strftime("%Y-%m-%dT%H:%M:%S.123Z")
    );
    let request = world.recording("1-1");
    let hmac = |key: &[u8], text: &str| {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
        let tag = aws_lc_rs::hmac::sign(&key, text.as_bytes());
        tag.as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let encoded = |bytes: &[u8]| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let one = |&byte: &u8| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        };
        bytes.iter().map(one).collect::<String>()
    };
    let canonical = format!(
        "POST\n{}\nhost\nhost:{}\n{}",
        request.target,
        encoded(request.headers["host"].as_bytes()),
        encoded(&request.body),
    );
    let signature = hmac(
        hmac(secret(SHANGHAI).as_bytes(), &prefix).as_bytes(),
        &canonical,
    );
    let value = format!("{prefix}/{signature}");
    answered(
        &world
            .send(&request.authorized(value.parse().unwrap()))
            .await,
        "0",
    );
    assert_eq!(world.sole().header("authorization"), Some(&*value));
}

#[tokio::test]
async fn the_method_is_signed_and_unlisted_paths_take_any() {
    let world = World::start().await;
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH] {
        let url = format!("{}/rest/cmsapp/v1/x", world.url());
        let mut request = SignedRequest::new(method.clone(), &url).unwrap();
        if method != Method::GET {
            request.headers.insert("content-length", 0.into());
        }
        let request = sign(request, "host");
        answered(&world.send(&request).await, "0");
        assert_eq!(world.sole().method, method);
        let mut other = request.clone();
        other.method = Method::OPTIONS;
        is_401(&world.send(&other).await);
    }
}
