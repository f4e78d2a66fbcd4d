//! What a signature covers: method, query, fields and its own timestamp, as they are on the wire.

use ccfs_gateway::client::{ClientRequest, DEFAULT_SIGNED_FIELDS};
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, Method};
use jiff::Timestamp;

use crate::assertions::assert_node_response;
use crate::signatures::is_401;
use crate::support::{SHANGHAI, TestEnv, credential, secret, signed};

fn sign(request: ClientRequest, names: &str) -> ClientRequest {
    request
        .sign(&credential(SHANGHAI), names, Timestamp::now())
        .unwrap()
}

#[tokio::test]
async fn the_query_is_signed_as_it_is_sent() {
    let env = TestEnv::start().await;
    let at = |query: &str| {
        let mut request = env.recording("1-1");
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
        assert_node_response(&env.send(&request).await, "0");
        let got = env.sole_upstream_request();
        assert_eq!(
            got.header("authorization"),
            request.headers[AUTHORIZATION].to_str().ok()
        );
    }
    // `+` is a literal plus, not a space.
    for (signed_as, sent_as) in [("?a=1+2", "?a=1%202"), ("?a=1%202", "?a=1+2")] {
        let mut request = signed(at(signed_as), SHANGHAI);
        request.target = at(sent_as).target;
        is_401(&env.send(&request).await);
    }
    // Percent-encodings of the same byte are equivalent.
    let mut request = signed(at("?a=1+2"), SHANGHAI);
    request.target = at("?%61=1%2b2").target;
    assert_node_response(&env.send(&request).await, "0");
    env.sole_upstream_request();
    // Repeated query keys cannot be represented by the signature rules.
    for repeated in ["?a=1&a=2", "?a=1&a=1", "?a=1&%61=2", "?a&a"] {
        for part in ["?a=1", "?a=2", "?a", ""] {
            let mut request = signed(at(part), SHANGHAI);
            request.target = at(repeated).target;
            is_401(&env.send(&request).await);
        }
    }
    env.assert_no_upstream_request();
}

#[tokio::test]
async fn any_set_of_fields_with_host_may_be_signed() {
    let env = TestEnv::start().await;
    let with_fields = || {
        let mut request = env.recording("1-1");
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
        DEFAULT_SIGNED_FIELDS,
        "host;content-type;content-length",
        "x-trace;x-trace-id;host",
        "x-trace-id;host;x-trace;user-agent;accept-encoding;content-type;content-length",
    ] {
        let request = sign(with_fields(), names);
        assert_node_response(&env.send(&request).await, "0");
        let got = env.sole_upstream_request();
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
    // Unsigned fields may change. Signed ones must be present exactly once, unchanged.
    let signed = sign(with_fields(), "host;x-trace");
    let other = signed
        .clone()
        .with_header(HeaderName::from_static("x-trace-id"), "other");
    assert_node_response(&env.send(&other).await, "0");
    let mut missing = signed.clone();
    missing.headers.remove("x-trace");
    let mut doubled = signed.clone();
    doubled
        .headers
        .append("x-trace", HeaderValue::from_static("1"));
    for wrong in [
        signed.with_header(HeaderName::from_static("x-trace"), "2"),
        missing,
        doubled,
    ] {
        is_401(&env.send(&wrong).await);
    }
}

#[tokio::test]
async fn invalid_signed_names_are_401() {
    let env = TestEnv::start().await;
    let right = signed(env.recording("1-1"), SHANGHAI);
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
            .with_authorization(value.replace(DEFAULT_SIGNED_FIELDS, names).parse().unwrap());
        is_401(&env.send(&request).await);
    }
}

#[tokio::test]
async fn a_timestamp_with_milliseconds_is_used_verbatim() {
    let env = TestEnv::start().await;
    let now = Timestamp::now();
    let prefix = format!(
        "auth-v2/{SHANGHAI}/{}/host",
        now.strftime("%Y-%m-%dT%H:%M:%S.123Z")
    );
    let request = env.recording("1-1");
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
    assert_node_response(
        &env.send(&request.with_authorization(value.parse().unwrap()))
            .await,
        "0",
    );
    assert_eq!(
        env.sole_upstream_request().header("authorization"),
        Some(&*value)
    );
}

#[tokio::test]
async fn the_method_is_signed_and_unlisted_paths_take_any() {
    let env = TestEnv::start().await;
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH] {
        let url = format!("{}/rest/cmsapp/v1/x", env.url());
        let mut request = ClientRequest::new(method.clone(), &url).unwrap();
        if method != Method::GET {
            request.headers.insert("content-length", 0.into());
        }
        let request = sign(request, "host");
        assert_node_response(&env.send(&request).await, "0");
        assert_eq!(env.sole_upstream_request().method, method);
        let mut other = request.clone();
        other.method = Method::OPTIONS;
        is_401(&env.send(&other).await);
    }
}
