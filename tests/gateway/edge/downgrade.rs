//! HTTP/2 requests that would become invalid HTTP/1.1 toward a node.

use crate::edge::assert_healthy;
use crate::hostile::{END_HEADERS, END_STREAM, HEADERS, frame, header_block};
use crate::support::TestEnv;

#[tokio::test]
async fn http2_requests_follow_the_rules_of_http1() {
    let env = TestEnv::start().await;
    let path = "/CCFS/resource/ccfs/getRecordFileUrlFromObs";
    let head = |method: &str, path: &str, authority: &str, more: &[(&str, &str)]| {
        let mut fields = vec![(":method", method), (":scheme", "https"), (":path", path)];
        fields.extend((!authority.is_empty()).then_some((":authority", authority)));
        fields.extend(more);
        header_block(&fields)
    };
    for (name, status, block) in [
        ("no authority", "400", head("GET", path, "", &[])),
        ("a user", "400", head("GET", path, "u@h", &[])),
        (
            "two hosts",
            "400",
            head("GET", path, "", &[("host", "h"), ("host", "h")]),
        ),
        (
            "another host",
            "400",
            head("GET", path, "h", &[("host", "g")]),
        ),
        ("a dot segment", "400", head("GET", "/a/%2e%2e/b", "h", &[])),
        ("an encoded slash", "400", head("GET", "/a%2fb", "h", &[])),
        ("a backslash", "400", head("GET", "/a\\b", "h", &[])),
        (
            "a look-alike",
            "400",
            head("GET", path, "h", &[("content_length", "5")]),
        ),
        (
            "two lengths",
            "400",
            head(
                "POST",
                path,
                "h",
                &[("content-length", "0"), ("content-length", "0")],
            ),
        ),
        ("TRACE", "405", head("TRACE", path, "h", &[])),
        (
            "101 fields",
            "431",
            head("GET", path, "h", &[("x", "y"); 101]),
        ),
    ] {
        let mut connection = env.target().connect_http2(&[]).await;
        connection
            .send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block))
            .await;
        match connection.frame(HEADERS, 1).await {
            // h2 itself may reject it.
            None => assert_ne!(status, "431", "{name}"),
            Some((_, response)) => {
                let seen = status_of(&response);
                assert_eq!(seen, status, "{name}");
            }
        }
    }
    for (name, fields) in [
        ("Connection", ("connection", "close")),
        ("Transfer-Encoding", ("transfer-encoding", "chunked")),
        ("an upper-case name", ("X-Y", "z")),
        ("a line feed", ("x", "y\nz")),
        ("NUL", ("x", "y\0z")),
        ("a space in a name", ("x y", "z")),
        ("an unknown pseudo-header", (":x", "y")),
    ] {
        let mut connection = env.target().connect_http2(&[]).await;
        let block = head("GET", path, "h", &[fields]);
        connection
            .send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block))
            .await;
        let response = connection.frame(HEADERS, 1).await;
        assert!(
            response.is_none_or(|(_, block)| status_of(&block) == "400"),
            "{name}"
        );
    }
    env.assert_no_upstream_request();
    assert_healthy(&env).await;
}

/// The status in a header block: indexed, or a literal with the indexed name `:status`.
fn status_of(block: &[u8]) -> String {
    match block[0] {
        0x88..=0x8e => {
            ["200", "204", "206", "304", "400", "404", "500"][usize::from(block[0] - 0x88)].into()
        }
        _ if block[1] == 3 => String::from_utf8_lossy(&block[2..5]).into_owned(),
        // Huffman coding of three digits in 20 bits: five bits each for 0 to 2, six for higher
        // digits.
        _ => huffman(&block[2..2 + usize::from(block[1] & 0x7f)]),
    }
}

fn huffman(bytes: &[u8]) -> String {
    let mut bits = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    let mut text = String::new();
    while text.len() < 3 {
        let five = (0..5).fold(0, |code, _| code << 1 | bits.next().unwrap());
        let digit = if five < 3 {
            five
        } else {
            (five << 1 | bits.next().unwrap()) - 0x19 + 3
        };
        text.push(char::from(b'0' + digit));
    }
    text
}
