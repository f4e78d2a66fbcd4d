use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http_body_util::BodyExt;

use super::*;
use crate::auth::{Claim, Credential, Secret};
use crate::cluster::Cluster;
use crate::upstream::tests::{DOWNLOAD, QUERY, test_server, unverified_request_to};

/// Returns a request with these fields, and the node that it is sent to.
fn request_with(
    name: &str,
    host: HostPolicy,
    fields: &[(&str, &str)],
) -> (UpstreamRequest, Arc<Node>) {
    let address: SocketAddr = "127.0.0.1:8443".parse().unwrap();
    let mut settings = test_server::settings(&[address]);
    settings.host = host;
    let cluster = Cluster::new(settings);
    let mut request = unverified_request_to(name, &cluster);
    request.headers = Arc::new(map(fields));
    (request, cluster.nodes().remove(0))
}

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    headers
}

/// Returns the encoded request, parsed again.
fn encoded(request: &UpstreamRequest, node: &Node) -> http::Request<()> {
    let started = tokio::time::Instant::now();
    let attempt = AttemptProgress::start(request.metadata.trace, started);
    let encoded = encode(request, node, &attempt, || NOW).unwrap();
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut fields);
    let length = head.parse(&encoded.head).unwrap();
    assert_eq!(length, httparse::Status::Complete(encoded.head.len()));
    let mut message = http::Request::new(());
    *message.method_mut() = head.method.unwrap().parse().unwrap();
    *message.uri_mut() = head.path.unwrap().parse().unwrap();
    for field in head.headers {
        let name: HeaderName = field.name.parse().unwrap();
        let value = HeaderValue::from_bytes(field.value).unwrap();
        message.headers_mut().append(name, value);
    }
    message
}

/// The fields as they are sent, sorted, without those that the gateway always writes.
fn outgoing(request: &UpstreamRequest, node: &Node) -> Vec<(String, String)> {
    let message = encoded(request, node);
    let mut fields: Vec<_> = message
        .headers()
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.to_string(), value)
        })
        .filter(|field| !ALWAYS_ADDED.contains(&(field.0.as_str(), field.1.as_str())))
        .collect();
    fields.sort();
    fields
}

fn names(fields: &[(String, String)]) -> Vec<&str> {
    fields.iter().map(|(name, _)| name.as_str()).collect()
}

fn credential() -> Arc<Credential> {
    let secret = Secret::new(b"secret".to_vec());
    Arc::new(Credential::new("ak1".into(), vec![secret], true))
}

/// Signs a request as its client would, and returns the verified signature.
fn signed(request: &mut UpstreamRequest, names: &str) -> Signer {
    let mut headers = (*request.headers).clone();
    let value = auth::sign(&credential(), names, NOW, &signable(request, &headers)).unwrap();
    headers.insert(AUTHORIZATION, value);
    request.headers = Arc::new(headers);
    verified(request, &request.headers).expect("just signed")
}

fn signable<'a>(request: &'a UpstreamRequest, headers: &'a HeaderMap) -> Signable<'a> {
    Signable {
        method: request.method.as_str(),
        path: request.target.path(),
        query: request.target.query(),
        headers,
        body: &request.body,
    }
}

/// Returns the signer whose signature a node verifies; `None` if the signature is invalid.
fn verified(request: &UpstreamRequest, headers: &HeaderMap) -> Option<Signer> {
    let claim = Claim::parse(headers, NOW, None).ok()?;
    let credential = credential();
    claim
        .verify(Some(&credential), &signable(request, headers))
        .ok()
}

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

const ALWAYS_ADDED: [(&str, &str); 7] = [
    ("content-length", "14"),
    (
        "traceparent",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
    ("via", "1.1 ccfs-gateway-0123456789ab"),
    ("x-forwarded-for", "192.0.2.7"),
    ("x-forwarded-host", "gw:1"),
    ("x-forwarded-proto", "https"),
    ("x-request-id", "req-1"),
];

#[test]
fn a_request_without_host_gets_the_nodes() {
    let bearer = [("authorization", "Bearer x")];
    for (policy, fields) in [
        (HostPolicy::Preserve, &[][..]),
        (HostPolicy::Preserve, &bearer),
        (HostPolicy::Node, &[]),
        (HostPolicy::Node, &bearer),
    ] {
        let (request, node) = request_with(DOWNLOAD, policy, fields);
        let message = encoded(&request, &node);
        assert_eq!(message.headers()["host"], "127.0.0.1:8443", "{fields:?}");
    }
}

#[test]
fn end_to_end_fields_pass_byte_for_byte_and_nothing_else() {
    let (request, node) = request_with(
        QUERY,
        HostPolicy::Preserve,
        &[
            ("host", "gw:1"),
            ("authorization", "Bearer x"),
            ("content-length", "14"),
            ("cookie", "a=\u{e9}"),
            ("x-twice", "1"),
            ("x-twice", "2"),
            ("tracestate", "a=b"),
            ("accept-encoding", "gzip"),
            ("connection", "keep-alive, X-Mine,  Authorization, host"),
            ("connection", "content-length"),
            ("x-mine", "1"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("upgrade", "h2c"),
            ("keep-alive", "1"),
            ("transfer-encoding", "chunked"),
            ("expect", "100-continue"),
            ("proxy-authorization", "Basic x"),
            ("proxy_magic", "1"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x_forwarded_for", "6.6.6.6"),
            ("x-forwarded--for", "6.6.6.6"),
            ("clientip", "6.6.6.6"),
            ("cf_connecting-ip-", "6.6.6.6"),
            ("proxy", "http://6.6.6.6"),
            ("x-requestid", "theirs"),
            ("x-forwarded-port", "1"),
            ("forwarded", "for=6.6.6.6"),
            ("x-real-ip", "6.6.6.6"),
            ("x-request-id", "theirs"),
            ("traceparent", "theirs"),
        ],
    );
    let expected = [
        ("authorization", "Bearer x"),
        ("cookie", "a=\u{e9}"),
        ("host", "gw:1"),
        ("tracestate", "a=b"),
        ("x-twice", "1"),
        ("x-twice", "2"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(outgoing(&request, &node), expected);
}

#[test]
fn via_is_appended_and_a_download_keeps_its_accept_encoding() {
    let fields = [
        ("host", "gw:1"),
        ("via", "1.0 x"),
        ("accept-encoding", "gzip"),
    ];
    let (request, node) = request_with(DOWNLOAD, HostPolicy::Preserve, &fields);
    let message = encoded(&request, &node);
    let via: Vec<_> = message.headers().get_all(VIA).iter().collect();
    assert_eq!(via, ["1.0 x", "1.1 ccfs-gateway-0123456789ab"]);
    assert_eq!(message.headers()[ACCEPT_ENCODING], "gzip");
}

#[test]
fn a_signed_field_reaches_the_node_as_it_was_signed() {
    let (mut request, node) = request_with(
        QUERY,
        HostPolicy::Preserve,
        &[
            ("host", "gw:1"),
            ("content-length", "014"),
            ("via", "mine"),
            ("x-request-id", "mine"),
            ("accept-encoding", "gzip"),
            ("connection", "x-own"),
            ("x-own", "1"),
            ("expect", "100-continue"),
        ],
    );
    let all = "accept-encoding;content-length;expect;host;via;x-own;x-request-id";
    let signer = signed(&mut request, all);
    request.authorization = Authorization::PassThrough(Some(signer));
    let message = encoded(&request, &node);
    assert_eq!(
        message.headers()[AUTHORIZATION],
        request.headers[AUTHORIZATION]
    );
    assert!(verified(&request, message.headers()).is_some());
    assert_eq!(message.headers()[CONTENT_LENGTH], "014");
}

#[test]
fn client_identity_fields_are_always_written_by_the_gateway() {
    let (mut request, node) = request_with(
        QUERY,
        HostPolicy::Preserve,
        &[
            ("host", "gw:1"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-real-ip", "6.6.6.6"),
            ("x_forwarded_for", "6.6.6.6"),
        ],
    );
    let signer = signed(&mut request, "host;x-forwarded-for;x-real-ip");
    request.authorization = Authorization::PassThrough(Some(signer));
    let message = encoded(&request, &node);
    let count = |name: &str| message.headers().get_all(name).iter().count();
    assert_eq!(message.headers()["x-forwarded-for"], "192.0.2.7");
    assert_eq!(
        (
            count("x-forwarded-for"),
            count("x-real-ip"),
            count("x_forwarded_for")
        ),
        (1, 0, 0)
    );
    assert_eq!(
        auth::signed_names(message.headers()),
        "host;x-forwarded-for"
    );
    assert!(verified(&request, message.headers()).is_some());
}

#[test]
fn a_changed_request_is_signed_again_over_the_same_names() {
    for (host, names, remaining) in [
        (HostPolicy::Node, "host;x-a", "host;x-a"),
        (
            HostPolicy::Node,
            "content-length;host",
            "content-length;host",
        ),
        (HostPolicy::Preserve, "host;te;x-a", "host;x-a"),
    ] {
        let fields = [
            ("host", "gw:1"),
            ("content-length", "14"),
            ("te", "trailers"),
            ("x-a", "1"),
        ];
        let (mut request, node) = request_with(QUERY, host, &fields);
        let signer = signed(&mut request, names);
        request.authorization = Authorization::PassThrough(Some(signer));
        let message = encoded(&request, &node);
        let headers = message.headers();
        assert!(verified(&request, headers).is_some(), "{names}");
        assert_eq!(auth::signed_names(headers), remaining);
        let expected = if host == HostPolicy::Node {
            "127.0.0.1:8443"
        } else {
            "gw:1"
        };
        assert_eq!(headers[HOST], expected);
        assert_eq!(headers["x-forwarded-host"], "gw:1");
        assert_eq!(headers[CONTENT_TYPE], "application/json;charset=UTF-8");
    }
}

#[test]
fn a_verified_request_can_be_signed_anew() {
    let fields = [("host", "gw:1"), ("content-type", "application/json")];
    let (mut request, node) = request_with(QUERY, HostPolicy::Preserve, &fields);
    let signer = signed(&mut request, "host;content-type");
    let started = tokio::time::Instant::now();
    let later = NOW + jiff::SignedDuration::from_secs(60);
    let authorization = |request: &UpstreamRequest| {
        let mut attempt = AttemptProgress::start(request.metadata.trace, started);
        attempt.is_signed_anew = true;
        let encoded = encode(request, &node, &attempt, || later).unwrap();
        let head = String::from_utf8(encoded.head).unwrap();
        let line = head
            .lines()
            .find(|line| line.starts_with("authorization: "));
        line.map(str::to_owned)
    };
    let original = request.headers[AUTHORIZATION].to_str().unwrap().to_owned();
    request.authorization = Authorization::PassThrough(Some(signer));
    let anew = authorization(&request).unwrap();
    assert!(
        anew.contains("/host;content-type/") && !anew.contains(&original),
        "{anew}"
    );
    // The signature of an unverified client is never replaced.
    request.authorization = Authorization::PassThrough(None);
    assert_eq!(
        authorization(&request),
        Some(format!("authorization: {original}"))
    );
}

#[test]
fn a_changed_body_is_signed_with_its_own_length() {
    let fields = [
        ("host", "gw:1"),
        ("content-length", "14"),
        ("content-type", "a/json"),
    ];
    let (mut request, node) = request_with(QUERY, HostPolicy::Preserve, &fields);
    let signer = signed(&mut request, "content-length;content-type;host");
    request.body = Bytes::from_static(b"{\"callId\":\"1\",\"version\":\"2.0\"}");
    request.authorization = Authorization::Resign(signer);
    let message = encoded(&request, &node);
    assert_eq!(message.headers()[CONTENT_LENGTH], "30");
    assert_eq!(message.headers()[CONTENT_TYPE], "a/json");
    assert!(verified(&request, message.headers()).is_some());
    assert_ne!(
        message.headers()[AUTHORIZATION],
        request.headers[AUTHORIZATION]
    );
}

#[test]
fn an_unverified_request_keeps_its_host_and_signature() {
    let fields = [("host", "gw:1"), ("authorization", "auth-v2/x/y/host/z")];
    let (request, node) = request_with(QUERY, HostPolicy::Node, &fields);
    let out = outgoing(&request, &node);
    assert_eq!(names(&out), ["authorization", "host"]);
    assert_eq!(out[1].1, "gw:1");
    // Without a signature nothing binds the Host.
    let (request, node) = request_with(QUERY, HostPolicy::Node, &fields[..1]);
    assert_eq!(outgoing(&request, &node)[0].1, "127.0.0.1:8443");
}

#[test]
fn a_get_has_a_content_length_only_if_it_had_one() {
    for (field, expected) in [(None, None), (Some("0"), Some("0"))] {
        let mut fields = vec![("host", "gw:1")];
        fields.extend(field.map(|length| ("content-length", length)));
        let (mut request, node) = request_with("playVoice", HostPolicy::Preserve, &fields);
        request.method = Method::GET;
        request.body = Bytes::new();
        let message = encoded(&request, &node);
        let length = message.headers().get(CONTENT_LENGTH);
        assert_eq!(length.map(|value| value.to_str().unwrap()), expected);
    }
}

#[tokio::test]
async fn target_and_body_go_out_byte_for_byte() {
    let node = test_server::TestServer::responding(test_server::ok_response()).await;
    let cluster = test_server::cluster(&[&node]);
    let upstream = crate::upstream::tests::TestUpstream::new();
    for target in [
        "/CCFS/resource/ccfs/playVoice?token=a%2fb+c&&=&x=%zz",
        "/CCFS/resource/ccfs//a;b/~!$&'()*+,=:@%41?a?b/c|{}\"",
        "/CCFS/?",
        "/CCFS/é?ü",
    ] {
        let mut request = unverified_request_to(DOWNLOAD, &cluster);
        let Ok(parsed) = PathAndQuery::try_from(target) else {
            continue;
        };
        request.target = parsed;
        let reply = upstream.send_streaming(&request).await.unwrap();
        reply.body.collect().await.unwrap();
        let received = node.received().pop().unwrap();
        let line = received.head.lines().next().unwrap();
        assert_eq!(line, format!("POST {target} HTTP/1.1"));
        assert_eq!(received.body, request.body);
        assert_eq!(received.field("host"), Some("gw.example:28443"));
    }
    assert!(node.count() >= 3);
}
