//! HTTP/1.1 requests that two parsers could read differently: rejected, the connection is closed,
//! and the bytes behind them are never read as a request.

use crate::edge::{assert_healthy, post, valid_request};
use crate::support::{TestEnv, eventually};

/// Follows each case: if it were read as a request, a second response would arrive.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

const POST: &str = "POST /x HTTP/1.1\r\nHost: 127.0.0.1\r\n";

/// Sends each case followed by another request; exactly one response arrives, which closes.
async fn are_refused(env: &TestEnv, status: u16, reason: &str, cases: &[(&str, String)]) {
    let before = env.metric_sum("malformed_requests_total", reason).await;
    for (name, case) in cases {
        let mut connection = env.target().connect().await;
        connection
            .send(format!("{case}{SMUGGLED}").as_bytes())
            .await;
        let all = connection
            .read_to_end()
            .await
            .unwrap_or_else(|| panic!("{name}: stays open"));
        let all = String::from_utf8_lossy(&all).to_lowercase();
        assert!(
            all.starts_with(&format!("http/1.1 {status} ")),
            "{name}: {all}"
        );
        assert_eq!(all.matches("\r\ndate: ").count(), 1, "{name}: {all}");
        assert!(all.contains("\r\nconnection: close\r\n"), "{name}: {all}");
        assert!(all.contains("\r\nx-gateway-error: "), "{name}: {all}");
        assert!(
            all.contains("{\"resultdata\":null,\"resultcode\":\"gw"),
            "{name}: {all}"
        );
    }
    env.assert_no_upstream_request();
    // The connection may end slightly before it is counted.
    let expected = before + cases.len() as u64;
    eventually(reason, async || {
        env.metric_sum("malformed_requests_total", reason).await == expected
    })
    .await;
}

fn cases(list: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    list.iter()
        .map(|&(name, text)| {
            (
                name,
                text.replace("POST /x\n", &POST.replace('\r', ""))
                    .replace('\n', "\r\n"),
            )
        })
        .collect()
}

#[tokio::test]
async fn framing() {
    let env = TestEnv::start().await;
    let list = cases(&[
        (
            "a length and chunks",
            "POST /x\nContent-Length: 5\nTransfer-Encoding: chunked\n\n0\n\n",
        ),
        (
            "chunks and a length",
            "POST /x\nTransfer-Encoding: chunked\nContent-Length: 5\n\n0\n\n",
        ),
        (
            "two lengths",
            "POST /x\nContent-Length: 0\nContent-Length: 43\n\n",
        ),
        (
            "two equal lengths",
            "POST /x\nContent-Length: 0\nContent-Length: 0\n\n",
        ),
        ("a list of lengths", "POST /x\nContent-Length: 0, 0\n\n"),
        ("a signed length", "POST /x\nContent-Length: +0\n\n"),
        ("a negative length", "POST /x\nContent-Length: -1\n\n"),
        ("a hexadecimal length", "POST /x\nContent-Length: 0x10\n\n"),
        ("an empty length", "POST /x\nContent-Length:\n\n"),
        (
            "a length with a space inside",
            "POST /x\nContent-Length: 1 0\n\n",
        ),
        (
            "a length beyond 64 bits",
            "POST /x\nContent-Length: 18446744073709551616\n\n",
        ),
        (
            "chunked twice",
            "POST /x\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n0\n\n",
        ),
        (
            "chunked twice in a list",
            "POST /x\nTransfer-Encoding: chunked, chunked\n\n0\n\n",
        ),
        (
            "another coding",
            "POST /x\nTransfer-Encoding: gzip\n\n0\n\n",
        ),
        (
            "another coding first",
            "POST /x\nTransfer-Encoding: gzip, chunked\n\n0\n\n",
        ),
        ("identity", "POST /x\nTransfer-Encoding: identity\n\n"),
        (
            "an unknown coding",
            "POST /x\nTransfer-Encoding: xchunked\n\n0\n\n",
        ),
        (
            "a quoted coding",
            "POST /x\nTransfer-Encoding: \"chunked\"\n\n0\n\n",
        ),
        ("an empty coding", "POST /x\nTransfer-Encoding:\n\n0\n\n"),
        (
            "a coding with a parameter",
            "POST /x\nTransfer-Encoding: chunked;q=1\n\n0\n\n",
        ),
        (
            "chunks in HTTP/1.0",
            "POST /x HTTP/1.0\nHost: h\nTransfer-Encoding: chunked\n\n0\n\n",
        ),
    ]);
    are_refused(&env, 400, "framing", &list).await;
    assert_healthy(&env).await;
}

#[tokio::test]
async fn names_and_values() {
    let env = TestEnv::start().await;
    let list = cases(&[
        (
            "a space before the colon",
            "POST /x\nContent-Length : 43\n\n",
        ),
        (
            "a tab before the colon",
            "POST /x\nTransfer-Encoding\t: chunked\n\n",
        ),
        ("Content_Length", "POST /x\nContent_Length: 43\n\n"),
        (
            "Transfer_Encoding",
            "POST /x\nTransfer_Encoding: chunked\n\n",
        ),
        ("Content--Length", "POST /x\nContent--Length: 43\n\n"),
        ("ContentLength", "POST /x\nContentLength: 43\n\n"),
        (
            "Transfer---Encoding",
            "POST /x\nTransfer---Encoding: chunked\n\n",
        ),
        (
            "Transfer-Encoding-",
            "POST /x\nTransfer-Encoding-: chunked\n\n",
        ),
        (
            "Transfer.Encoding",
            "POST /x\nTransfer.Encoding: chunked\n\n",
        ),
        ("XForwardedFor", "POST /x\nXForwardedFor: 1.2.3.4\n\n"),
        ("X_Forwarded-For", "POST /x\nX_Forwarded-For: 1.2.3.4\n\n"),
        ("Proxy_Connection", "POST /x\nProxy_Connection: close\n\n"),
        ("a folded line", "POST /x\nX: a\n b\n\n"),
        ("a folded first line", "POST /x HTTP/1.1\n Host: h\n\n"),
        ("no colon", "POST /x\nContent-Length\n\n"),
        ("no name", "POST /x\n: 43\n\n"),
        ("a name in brackets", "POST /x\n(x): 43\n\n"),
    ]);
    are_refused(&env, 400, "field_name", &list).await;
    let list = [
        (
            "a bare line feed",
            format!("{POST}X: a\nContent-Length: 43\r\n\r\n"),
        ),
        (
            "a bare carriage return",
            format!("{POST}X: a\rContent-Length: 43\r\n\r\n"),
        ),
        ("NUL", format!("{POST}X: a\0b\r\n\r\n")),
        ("DEL", format!("{POST}X: a\x7fb\r\n\r\n")),
        ("line feeds only", "GET / HTTP/1.1\nHost: h\n\n".to_owned()),
        ("a line feed at the end", format!("{POST}\n\r\n")),
    ];
    are_refused(&env, 400, "field_value", &list).await;
    assert_healthy(&env).await;
}

#[tokio::test]
async fn hosts() {
    let env = TestEnv::start().await;
    let list = cases(&[
        ("none", "GET /x HTTP/1.1\n\n"),
        ("an empty one", "GET /x HTTP/1.1\nHost:\n\n"),
        ("two", "GET /x HTTP/1.1\nHost: h\nHost: h\n\n"),
        ("two in a list", "GET /x HTTP/1.1\nHost: h, h@g\n\n"),
        ("a user", "GET /x HTTP/1.1\nHost: u@h\n\n"),
        ("a path", "GET /x HTTP/1.1\nHost: h/x\n\n"),
        ("a space", "GET /x HTTP/1.1\nHost: h h\n\n"),
        ("an invalid port", "GET /x HTTP/1.1\nHost: h:x\n\n"),
        ("a port too large", "GET /x HTTP/1.1\nHost: h:65536\n\n"),
        ("an open bracket", "GET /x HTTP/1.1\nHost: [::1\n\n"),
        ("no address in brackets", "GET /x HTTP/1.1\nHost: [h]\n\n"),
        ("another authority", "GET https://g/x HTTP/1.1\nHost: h\n\n"),
        ("another port", "GET https://h:1/x HTTP/1.1\nHost: h:2\n\n"),
        ("no authority", "GET https:///x HTTP/1.1\nHost: h\n\n"),
        (
            "a user in the target",
            "GET https://u@h/x HTTP/1.1\nHost: h\n\n",
        ),
    ]);
    are_refused(&env, 400, "host", &list).await;
}

#[tokio::test]
async fn targets() {
    let env = TestEnv::start().await;
    let paths = [
        "*",
        "x",
        "",
        "h:443",
        "ftp://h/x",
        "https://h",
        "/a#b",
        "/./x",
        "/../x",
        "/a/..",
        "/a/.",
        "/%2e/x",
        "/%2E%2e/x",
        "/.%2e/x",
        "/..;a=b/x",
        "/%2e%2e;/x",
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a%5Cb",
        "/a\\b",
        "/a%00b",
        "/%",
        "/%1",
        "/%zz",
        "/a\"b",
        "/a<b",
        "/ä",
    ];
    let list: Vec<_> = paths
        .iter()
        .map(|&path| (path, format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")))
        .collect();
    are_refused(&env, 400, "target", &list).await;
    // Independent of the signature.
    let signed = post(
        "/CCFS/resource/../resource/ccfs/getRecordFileUrlFromObs",
        b"{}",
    );
    let signed = String::from_utf8(signed).unwrap();
    are_refused(&env, 400, "target", &[("a signed one", signed)]).await;
}

#[tokio::test]
async fn request_lines() {
    let env = TestEnv::start().await;
    let list = cases(&[
        ("two spaces", "GET  / HTTP/1.1\nHost: h\n\n"),
        ("a leading space", " GET / HTTP/1.1\nHost: h\n\n"),
        ("a trailing space", "GET / HTTP/1.1 \nHost: h\n\n"),
        ("no version", "GET /\nHost: h\n\n"),
        ("an illegal method", "G(T / HTTP/1.1\nHost: h\n\n"),
        ("a response", "HTTP/1.1 200 OK\nHost: h\n\n"),
        ("two empty lines first", "\n\nGET / HTTP/1.1\nHost: h\n\n"),
    ]);
    are_refused(&env, 400, "request_line", &list).await;
    let list = cases(&[
        ("HTTP/1.2", "GET / HTTP/1.2\nHost: h\n\n"),
        ("HTTP/2.0", "GET / HTTP/2.0\nHost: h\n\n"),
        ("HTTP/0.9", "GET / HTTP/0.9\nHost: h\n\n"),
        ("http/1.1", "GET / http/1.1\nHost: h\n\n"),
        ("HTTP/1.10", "GET / HTTP/1.10\nHost: h\n\n"),
        ("the preface", "PRI * HTTP/2.0\n\nSM\n\n"),
    ]);
    are_refused(&env, 400, "version", &list).await;
    let list = cases(&[
        ("CONNECT", "CONNECT h:443 HTTP/1.1\nHost: h:443\n\n"),
        ("TRACE", "TRACE / HTTP/1.1\nHost: h\n\n"),
    ]);
    are_refused(&env, 405, "request_line", &list).await;
}

#[tokio::test]
async fn sizes() {
    let env = TestEnv::start().await;
    let list = [
        (
            "a long field",
            format!("{POST}X: {}\r\n\r\n", "y".repeat(33_000)),
        ),
        (
            "a long target",
            format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(33_000)),
        ),
        (
            "many fields",
            format!("{POST}{}\r\n", "x: y\r\n".repeat(100)),
        ),
        (
            "a head without an end",
            format!("{POST}{}", "x: y\r\n".repeat(8_000)),
        ),
    ];
    are_refused(&env, 431, "too_large", &list).await;
}

#[tokio::test]
async fn chunks() {
    let env = TestEnv::start().await;
    let chunked = |body: &str| {
        let body = body.replace('\n', "\r\n");
        format!(
            "POST /CCFS/resource/ccfs/queryBillData HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nAuthorization: auth-v2/ak-shanghai/{}/host/{}\r\n\r\n{body}",
            jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            "0".repeat(64)
        )
    };
    let list = [
        ("no size", chunked("\n{}\n0\n\n")),
        ("a size with a sign", chunked("+2\n{}\n0\n\n")),
        ("0x", chunked("0x2\n{}\n0\n\n")),
        ("a size too large", chunked("10000000000000002\n{}\n0\n\n")),
        ("too much data", chunked("2\n{}x\n0\n\n")),
        (
            "a bare line feed",
            chunked("2\n{}\n0\n\n").replace("2\r\n", "2\n"),
        ),
        ("a control in an extension", chunked("2;a\0\n{}\n0\n\n")),
        (
            "a forbidden trailer",
            chunked("2\n{}\n0\nContent-Length: 5\n\n"),
        ),
        ("a trailer with a space", chunked("2\n{}\n0\nX : 5\n\n")),
    ];
    are_refused(&env, 400, "body", &list).await;
}

#[tokio::test]
async fn unusual_but_valid_requests_are_served() {
    let env = TestEnv::start().await;
    let legal = String::from_utf8(valid_request("1-1")).unwrap();
    for (name, request) in [
        ("plain", legal.clone()),
        ("an empty line first", format!("\r\n{legal}")),
        (
            "names in any case",
            legal
                .replace("Host:", "hOST:")
                .replace("Content-Length:", "CONTENT-LENGTH:"),
        ),
        (
            "whitespace around values",
            legal.replace("Host: 127.0.0.1", "Host:\t 127.0.0.1 \t"),
        ),
        (
            "an absolute target",
            legal.replace("POST /", "POST https://127.0.0.1/"),
        ),
        (
            "an unknown field",
            legal.replace("Host:", "X_Y: z\r\nHost:"),
        ),
        ("an old version", legal.replace("HTTP/1.1", "HTTP/1.0")),
    ] {
        let mut connection = env.target().connect().await;
        connection.send(request.as_bytes()).await;
        let response = connection
            .response()
            .await
            .unwrap_or_else(|| panic!("{name}"));
        assert_eq!(response.status, 200, "{name}: {response:?}");
    }
}
