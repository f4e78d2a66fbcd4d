use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use sha2::Sha256;

use super::*;

const SECRET: &str = "Zx&7wQ@k!2mN%9pR#4";
const OLD_SECRET: &str = "the-secret-before";
const TIME: &str = "2021-11-24T06:25:03Z";
const NAMES: &str = "content-length;content-type;host";
const PATH: &str = "/CCFS/resource/ccfs/getRecordFileUrlFromObs";
const BODY: &str = r#"{"callId": "1637742300-27", "a": {"z": "x/y", "b": [1, 2.50]}}"#;

/// A client, with what it sends and what it signs. Written by the specification alone.
#[derive(Clone, Debug)]
struct Client {
    sent: Parts,
    signed: Parts,
    secret: Vec<u8>,
    /// The names and the timestamp in Authorization.
    names: String,
    time: String,
    /// What the key is made with.
    key_names: String,
    key_time: String,
    is_key_raw: bool,
}

#[derive(Clone, Debug)]
struct Parts {
    path: String,
    query: Option<String>,
    names: String,
    fields: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Parts {
    fn set(&mut self, name: &str, value: &str) {
        let field = self.fields.iter_mut().find(|(it, _)| *it == name);
        value.clone_into(&mut field.unwrap().1);
    }

    fn set_body(&mut self, body: impl Into<Vec<u8>>) {
        self.body = body.into();
    }
}

impl Client {
    /// A client without a mistake.
    fn new() -> Self {
        let parts = Parts {
            path: PATH.to_owned(),
            query: None,
            names: NAMES.to_owned(),
            fields: vec![
                ("content-length", BODY.len().to_string()),
                ("content-type", "application/json;charset=UTF-8".to_owned()),
                ("host", "gw.example.com:28443".to_owned()),
            ],
            body: BODY.into(),
        };
        Self {
            sent: parts.clone(),
            signed: parts,
            secret: SECRET.into(),
            names: NAMES.to_owned(),
            time: TIME.to_owned(),
            key_names: NAMES.to_owned(),
            key_time: TIME.to_owned(),
            is_key_raw: false,
        }
    }

    /// Both what is sent and what is signed.
    fn both(mut self, change: impl Fn(&mut Parts)) -> Self {
        change(&mut self.sent);
        change(&mut self.signed);
        self
    }

    fn signs(mut self, change: impl FnOnce(&mut Parts)) -> Self {
        change(&mut self.signed);
        self
    }

    fn authorization(&self) -> String {
        let key = mac(
            &self.secret,
            format!("auth-v2/ak/{}/{}", self.key_time, self.key_names).as_bytes(),
        );
        let key = if self.is_key_raw {
            key
        } else {
            hex(&key).into_bytes()
        };
        let signature = hex(&mac(&key, &canonical_text(&self.signed)));
        format!("auth-v2/ak/{}/{}/{signature}", self.time, self.names)
    }

    fn mistake(&self) -> Option<Mistake> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.sent.fields {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.insert(HeaderName::from_static(name), value);
        }
        let value = HeaderValue::try_from(self.authorization()).unwrap();
        headers.insert(http::header::AUTHORIZATION, value);
        let evidence = Evidence {
            request: Signable {
                method: "POST",
                path: &self.sent.path,
                query: self.sent.query.as_deref(),
                headers: &headers,
                body: &self.sent.body,
            },
            has_body: true,
            nodes: &["10.1.2.3:8443".to_owned(), "10.1.2.4:8443".to_owned()],
            listener: (IpAddr::V4(Ipv4Addr::new(10, 9, 9, 9)), 28443),
        };
        let secrets = [SECRET, OLD_SECRET].map(|secret| Secret::new(secret.into()));
        let credential = Credential::new("ak".into(), secrets.to_vec(), true);
        assert_eq!(
            find_mistake(&evidence, None),
            Some(Mistake::NothingFitted),
            "an unknown ak"
        );
        find_mistake(&evidence, Some(&credential))
    }
}

fn mac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn escape(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(*byte))
            }
            _ => write!(text, "%{byte:02X}").unwrap(),
        }
        text
    })
}

fn canonical_text(parts: &Parts) -> Vec<u8> {
    let mut lines = vec!["POST".to_owned(), parts.path.clone()];
    lines.extend(parts.query.clone());
    lines.push(parts.names.clone());
    let names: Vec<_> = parts.names.split(';').collect();
    let fields = parts.fields.iter().filter(|(name, _)| names.contains(name));
    let mut fields: Vec<_> = fields
        .map(|(name, value)| format!("{name}:{}", escape(value.as_bytes())))
        .collect();
    fields.sort();
    lines.extend(fields);
    lines.push(escape(&parts.body));
    lines.join("\n").into_bytes()
}

/// A client for each mistake, and the name of the mistake.
#[expect(clippy::too_many_lines, reason = "a table")]
fn clients() -> Vec<(&'static str, Client)> {
    let new = Client::new;
    let host = |host: &'static str| new().signs(|parts| parts.set("host", host));
    let body = |body: &str| {
        let body = body.to_owned();
        new().signs(move |parts| parts.set_body(body))
    };
    let query = |line: Option<&str>| {
        let line = line.map(str::to_owned);
        new()
            .both(|parts| parts.query = Some("b=2&a=1".to_owned()))
            .signs(move |parts| parts.query = line)
    };
    let chinese = r#"{"callId":"北京"}"#;
    let in_gbk = encoding_rs::GBK.encode(chinese).0.into_owned();
    let sends = |bytes: &[u8]| {
        let bytes = bytes.to_vec();
        new().both(move |parts| parts.set_body(bytes.clone()))
    };
    let utf16 = |bom: &[u8], order: fn(u16) -> [u8; 2]| {
        let units = chinese.encode_utf16().flat_map(order);
        let bytes: Vec<u8> = bom.iter().copied().chain(units).collect();
        sends(chinese.as_bytes()).signs(move |parts| parts.set_body(bytes))
    };
    let secret = |start: &str, end: &str| Client {
        secret: format!("{start}{SECRET}{end}").into_bytes(),
        ..new()
    };
    let other_order = "host;content-type;content-length";
    let old_path = |tail: &str| {
        let sent = format!("/CCFS/resource/ccfs/{tail}");
        new()
            .both(|parts| parts.path.clone_from(&sent))
            .signs(|parts| parts.path = "/CCFS/resource/ccfs/downloadRecordFile".to_owned())
    };
    let length = BODY.replace(": ", ":").replace(", ", ",").len().to_string();
    vec![
        ("host-without-port", host("gw.example.com")),
        (
            "host-with-port",
            new()
                .both(|parts| parts.set("host", "gw.example.com"))
                .signs(|parts| parts.set("host", "gw.example.com:28443")),
        ),
        ("host-with-port", host("gw.example.com:443")),
        ("host-with-port", host("gw.example.com:8443")),
        ("host-of-node", host("10.1.2.3:8443")),
        ("host-of-node", host("10.1.2.4")),
        ("host-of-listener", host("10.9.9.9:28443")),
        ("host-of-listener", host("10.9.9.9")),
        (
            "path-without-root",
            new().signs(|parts| parts.path = PATH.replace("/CCFS", "")),
        ),
        (
            "path-with-root",
            new()
                .both(|parts| parts.path = "/rest/ping".to_owned())
                .signs(|parts| parts.path = "/CCFS/rest/ping".to_owned()),
        ),
        ("path-old-name", old_path("downloadRecord")),
        ("path-old-name", old_path("downloadTransferFile")),
        ("query-left-out", query(None)),
        (
            "query-empty-line",
            new().signs(|parts| parts.query = Some(String::new())),
        ),
        (
            "query-in-path",
            query(None).signs(|parts| parts.path = format!("{PATH}?b=2&a=1")),
        ),
        (
            "body-compact",
            body(&BODY.replace(": ", ":").replace(", ", ",")),
        ),
        (
            "body-compact",
            body(&BODY.replace(": ", ":").replace(", ", ","))
                .signs(|parts| parts.set("content-length", &length)),
        ),
        (
            "body-spaced",
            sends(b"{\"a\":1,\"b\":[1,2]}")
                .signs(|parts| parts.set_body("{\"a\": 1, \"b\": [1, 2]}")),
        ),
        (
            "body-pretty",
            sends(b"{\"a\":1,\"b\":2}")
                .signs(|parts| parts.set_body("{\n  \"a\": 1,\n  \"b\": 2\n}")),
        ),
        (
            "body-pretty",
            sends(b"{\"a\":1,\"b\":2}")
                .signs(|parts| parts.set_body("{\n    \"a\": 1,\n    \"b\": 2\n}")),
        ),
        (
            "body-pretty",
            sends(b"{\"a\":1,\"b\":2}")
                .signs(|parts| parts.set_body("{\n\t\"a\": 1,\n\t\"b\": 2\n}")),
        ),
        (
            "body-pretty",
            sends(b"{\"a\":1,\"b\":2}")
                .signs(|parts| parts.set_body("{\n  \"a\" : 1,\n  \"b\" : 2\n}")),
        ),
        (
            "body-sorted",
            sends(b"{\"b\":2,\"a\":1}").signs(|parts| parts.set_body("{\"a\":1,\"b\":2}")),
        ),
        (
            "body-sorted",
            sends(b"{\"b\":2,\"a\":1}").signs(|parts| parts.set_body("{\"a\": 1, \"b\": 2}")),
        ),
        ("body-slash-escaped", body(&BODY.replace('/', "\\/"))),
        (
            "body-slash-escaped",
            sends(br#"{"f":"a\/b"}"#).signs(|parts| parts.set_body(r#"{"f":"a/b"}"#)),
        ),
        (
            "body-slash-escaped",
            sends(br#"{"f": "a/b"}"#).signs(|parts| parts.set_body(r#"{"f":"a\/b"}"#)),
        ),
        ("body-line-end", body(&format!("{BODY}\n"))),
        ("body-line-end", body(&format!("{BODY}\r\n"))),
        (
            "body-line-end",
            sends(format!("{BODY}\r\n").as_bytes()).signs(|parts| parts.set_body(BODY)),
        ),
        ("body-bom", body(&format!("\u{feff}{BODY}"))),
        (
            "body-bom",
            sends(format!("\u{feff}{BODY}").as_bytes()).signs(|parts| parts.set_body(BODY)),
        ),
        (
            "body-gbk",
            sends(chinese.as_bytes()).signs(|parts| parts.set_body(in_gbk.clone())),
        ),
        (
            "body-gbk",
            sends(&in_gbk).signs(|parts| parts.set_body(chinese)),
        ),
        ("body-utf16", utf16(b"", u16::to_le_bytes)),
        ("body-utf16", utf16(b"\xff\xfe", u16::to_le_bytes)),
        ("body-utf16", utf16(b"", u16::to_be_bytes)),
        ("body-utf16", utf16(b"\xfe\xff", u16::to_be_bytes)),
        (
            "names-unsorted",
            new().signs(|parts| parts.names = other_order.to_owned()),
        ),
        (
            "names-unsorted",
            Client {
                names: other_order.to_owned(),
                ..new()
            },
        ),
        (
            "names-unsorted",
            Client {
                key_names: other_order.to_owned(),
                ..new()
            },
        ),
        (
            "names-other",
            new().signs(|parts| parts.names = "host".to_owned()),
        ),
        (
            "names-other",
            new().signs(|parts| parts.names = "content-type;host".to_owned()),
        ),
        (
            "names-other",
            Client {
                key_names: "host".to_owned(),
                ..new()
            }
            .signs(|parts| parts.names = "host".to_owned()),
        ),
        (
            "names-other",
            Client {
                names: "host".to_owned(),
                ..new()
            },
        ),
        (
            "timestamp-milliseconds",
            Client {
                time: TIME.replace('Z', ".123Z"),
                ..new()
            },
        ),
        ("secret-line-end", secret("", "\n")),
        ("secret-line-end", secret("", "\r\n")),
        ("secret-blanks", secret("", " ")),
        ("secret-blanks", secret(" ", "")),
        (
            "raw-key",
            Client {
                is_key_raw: true,
                ..new()
            },
        ),
        ("nothing-fitted", secret("", "x")),
        (
            "nothing-fitted",
            host("elsewhere.example.com").signs(|parts| parts.path = "/".to_owned()),
        ),
    ]
}

#[test]
fn each_mistake_is_named_with_either_secret() {
    for (number, (expected, client)) in clients().into_iter().enumerate() {
        let found = client.mistake().map(Mistake::as_str);
        assert_eq!(found, Some(expected), "client {number}: {client:?}");
        let text = String::from_utf8(client.secret.clone()).unwrap();
        let old = Client {
            secret: text.replace(SECRET, OLD_SECRET).into_bytes(),
            ..client
        };
        assert_eq!(
            old.mistake().map(Mistake::as_str),
            Some(expected),
            "the second secret: {number}"
        );
    }
}

#[test]
fn a_right_signature_of_either_secret_is_no_mistake() {
    assert_eq!(Client::new().mistake(), None);
    let old = Client {
        secret: OLD_SECRET.into(),
        ..Client::new()
    };
    assert_eq!(old.mistake(), None);
    let with_query = Client::new().both(|parts| parts.query = Some("a=1".to_owned()));
    assert_eq!(with_query.mistake(), None);
}

#[test]
fn no_known_vector_is_accused() {
    let vectors: Vec<serde_json::Value> =
        serde_json::from_str(include_str!("../../../tests/vectors/auth-v2.json")).unwrap();
    for vector in vectors {
        let text = |name: &str| vector[name].as_str().unwrap_or_default();
        let mut headers = HeaderMap::new();
        for (name, value) in vector["signed_headers"].as_object().unwrap() {
            let name: HeaderName = name.to_lowercase().parse().unwrap();
            let value = HeaderValue::from_bytes(value.as_str().unwrap().as_bytes());
            headers.insert(name, value.unwrap());
        }
        headers.insert(
            http::header::AUTHORIZATION,
            text("authorization").parse().unwrap(),
        );
        let query = vector["query"].as_object().map(|query| {
            let pairs = query.iter().map(|(name, value)| {
                let value = value.as_str().unwrap_or_default();
                format!("{}={}", escape(name.as_bytes()), escape(value.as_bytes()))
            });
            pairs.collect::<Vec<_>>().join("&")
        });
        let evidence = Evidence {
            request: Signable {
                method: text("method"),
                path: text("uri"),
                query: query.as_deref(),
                headers: &headers,
                body: text("body").as_bytes(),
            },
            has_body: true,
            nodes: &[],
            listener: (IpAddr::V4(Ipv4Addr::LOCALHOST), 443),
        };
        let secret = Secret::new(text("sk").into());
        let credential = Arc::new(Credential::new(text("ak").into(), vec![secret], true));
        assert_eq!(
            find_mistake(&evidence, Some(&credential)),
            None,
            "{}",
            text("name")
        );
    }
}

#[test]
fn a_clock_in_another_zone_is_told_from_one_that_is_wrong() {
    let mistake = |seconds| mistake_of_head(&AuthError::Stale(seconds));
    for seconds in [
        8 * 3600,
        -8 * 3600,
        5 * 3600 + 1800 + 40,
        20_700 - 60,
        14 * 3600,
        900,
    ] {
        assert_eq!(mistake(seconds), Mistake::TimestampLocal, "{seconds}");
    }
    for seconds in [
        0,
        440,
        8 * 3600 + 61,
        14 * 3600 + 900,
        86_400,
        i64::MIN,
        i64::MAX,
    ] {
        assert_eq!(mistake(seconds), Mistake::NothingFitted, "{seconds}");
    }
    let malformed = mistake_of_head(&AuthError::Malformed("x"));
    assert_eq!(malformed, Mistake::NothingFitted);
}

#[test]
fn a_body_that_was_not_kept_is_judged_by_the_head_alone() {
    let client = Client::new().signs(|parts| parts.set_body("{}"));
    assert_eq!(client.mistake(), Some(Mistake::NothingFitted));
}

proptest! {
    /// Whatever is sent: the search ends, and its own form of a right request is the canonical one.
    #[test]
    fn the_parts_make_the_canonical_text(body in proptest::collection::vec(any::<u8>(), 0..200), query in "[a-z]{0,3}(=[a-z%]{0,3})?") {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("a:1"));
        headers.insert("x-trace", HeaderValue::from_static(" b "));
        headers.insert("x-trace-id", HeaderValue::from_static("c"));
        let request = Signable { method: "POST", path: "/p", query: Some(&query), headers: &headers, body: &body };
        let names = "x-trace;x-trace-id;host";
        let message = Message::of(&request, names).to_bytes();
        if let Ok(canonical) = super::super::CanonicalRequest::new(names, &request) {
            prop_assert_eq!(message, canonical.to_bytes());
        }
    }

    #[test]
    fn any_body_is_searched_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let client = Client::new().both(|parts| parts.set_body(body.clone())).signs(|parts| parts.path = "/".to_owned());
        prop_assert_eq!(client.mistake(), Some(Mistake::NothingFitted));
    }
}
