//! Responses of all kinds, read by the exchange and by hyper's client.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::read_pieces;
use crate::upstream::fuzzing::Response;

fn read(bytes: &[u8], piece: usize, is_head: bool) -> Result<Response, String> {
    read_pieces(bytes.chunks(piece), is_head)
}

/// The same response read by hyper, in the form of the exchange.
async fn read_by_hyper(bytes: &[u8], is_head: bool) -> Result<Response, String> {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let builder = http1::Builder::new();
    let (mut sender, connection) = builder.handshake(TokioIo::new(near)).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "awaited or aborted below")]
    let driver = tokio::spawn(connection);
    let request = http::Request::builder()
        .method(if is_head { "HEAD" } else { "GET" })
        .header("host", "x")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let node = async {
        let mut request = [0; 1024];
        let _ = far.read(&mut request).await;
        let _ = far.write_all(bytes).await;
        let _ = far.shutdown().await;
    };
    let (response, ()) = tokio::join!(sender.send_request(request), node);
    let (head, body) = response.map_err(|error| error.to_string())?.into_parts();
    let body = body.collect().await.map_err(|error| error.to_string())?;
    driver.abort();
    let fields = head.headers.iter();
    Ok(Response {
        status: head.status.as_u16(),
        fields: fields
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
            .collect(),
        body: body.to_bytes().to_vec(),
        reusable: false,
    })
}

/// Responses that the exchange rejects on purpose although hyper accepts them.
const STRICTER_THAN_HYPER: [&str; 7] = [
    // Leading empty lines: nothing may stand before a response.
    "does not begin with HTTP/1",
    // Lists and duplicates of equal numbers, and numbers above 2^53.
    "Content-Length is not one decimal number",
    // Other codings, and chunked in HTTP/1.0 or where there is no body.
    "Transfer-Encoding is not one chunked",
    "Content-Length and Transfer-Encoding",
    // An extension without a name, bare line feeds, and white space in sizes.
    "the chunked coding is invalid",
    "101 to a request without Upgrade",
    "more than 8 interim responses",
];

fn status_lines() -> impl Strategy<Value = &'static [u8]> {
    prop::sample::select(vec![
        &b"HTTP/1.1 200 OK"[..],
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 ",
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1 204 No Content",
        b"HTTP/1.1 304 Not Modified",
        b"HTTP/1.1 205 Reset",
        b"HTTP/1.1 101 Switching",
        b"HTTP/1.1 100 Continue",
        b"HTTP/1.1 103 Early Hints",
        b"HTTP/1.1 500 Oops",
        b"HTTP/1.1 999 x",
        b"HTTP/1.1 099 x",
        b"HTTP/1.1 20 x",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1\t200 OK",
        b"HTTP/2 200 OK",
        b"HTTP/1.2 200 OK",
        b"http/1.1 200 OK",
        b"HTTP/1.1 200 \xe4",
        b"HTTP/1.1 200 a\x01b",
        b"",
    ])
}

fn field_lines() -> impl Strategy<Value = &'static [u8]> {
    prop::sample::select(vec![
        &b"Content-Length: 3"[..],
        b"Content-Length: 3",
        b"content-length: 0",
        b"Content-Length: 3, 3",
        b"Content-Length: +3",
        b"Content-Length: ",
        b"Content-Length: 4",
        b"Content-Length: 18446744073709551615",
        b"Content-Length: 99999999999999999999",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: Chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding:",
        b"Connection: close",
        b"Connection: keep-alive, CLOSE",
        b"Connection: keep-alive",
        b"X: a\xfcb",
        b"X : y",
        b" folded",
        b"\tfolded",
        b"X:",
        b"no colon",
        b": empty",
        b"X: a\tb",
        b"X: \x01",
        b"X: a\x7f",
        b"Upgrade: h2c",
        b"Content_Length: 9",
    ])
}

fn line_ends() -> impl Strategy<Value = &'static [u8]> {
    prop::sample::select(vec![
        &b"\r\n"[..],
        b"\r\n",
        b"\r\n",
        b"\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"\0\r\n",
    ])
}

fn bodies() -> impl Strategy<Value = &'static [u8]> {
    prop::sample::select(vec![
        &b""[..],
        b"abc",
        b"abcd",
        b"3\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabc\r\n0\r\nX: 1\r\n\r\n",
        b"3;a=b\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabc\r\n",
        b"3\nabc\r\n0\r\n\r\n",
        b"zz\r\n",
        b"0\r\n\r\n",
        b"0\r\n\r\nsurplus",
        b"003\r\nabc\r\n0\r\n\r\n",
        b"3 \r\nabc\r\n0\r\n\r\n",
        b"3\r\nabc0\r\n\r\n",
        b"3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n",
        b"3\r\nabc\r\n0\r\n\n",
        b"fffffffffffffffff\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"3;\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabc\r\n0\r\nbad name: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    ])
}

/// Responses that are nearly legal, some of them with an interim response before.
fn responses() -> impl Strategy<Value = Vec<u8>> {
    let fields = prop::collection::vec((field_lines(), line_ends()), 0..4);
    let heads = prop::collection::vec((status_lines(), line_ends(), fields), 1..3);
    (heads, bodies()).prop_map(|(heads, body)| {
        let mut response = Vec::new();
        for (status, end, fields) in heads {
            response.extend_from_slice(&[status, end].concat());
            for (field, end) in fields {
                response.extend_from_slice(&[field, end].concat());
            }
            response.extend_from_slice(b"\r\n");
        }
        response.extend_from_slice(body);
        response
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn hyper_reads_the_same_or_the_exchange_is_stricter_on_purpose(
        response in responses(),
        is_head in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let by_hyper = runtime.block_on(read_by_hyper(&response, is_head));
        match (read(&response, usize::MAX, is_head), by_hyper) {
            (Ok(response), by_hyper) => {
                let expected = Response { reusable: false, ..response };
                prop_assert_eq!(Ok(expected), by_hyper);
            }
            (Err(reason), Ok(_)) => {
                let is_on_purpose = STRICTER_THAN_HYPER.iter().any(|known| reason.contains(known));
                prop_assert!(is_on_purpose, "{reason}");
            }
            (Err(_), Err(_)) => {}
        }
    }

    #[test]
    fn a_response_is_the_same_however_it_is_cut(response in responses(), piece in 1usize..9) {
        let whole = read(&response, usize::MAX, false);
        prop_assert_eq!(read(&response, piece, false), whole);
    }
}

#[test]
fn a_connection_is_reusable_only_after_a_whole_response_that_allows_it() {
    let reusable =
        |response: &str, is_head| read(response.as_bytes(), 9, is_head).unwrap().reusable;
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n",
        "HTTP/1.1 204 No\r\n\r\n",
        "HTTP/1.1 304 Not\r\nContent-Length: 9\r\n\r\n",
        "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        assert!(reusable(response, false), "{response:?}");
        assert!(!reusable(&format!("{response}H"), false), "{response:?}");
    }
    assert!(reusable(
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        true
    ));
    for response in [
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\n\r\nabc",
    ] {
        assert!(!reusable(response, false), "{response:?}");
    }
}

#[test]
fn heads_are_bounded() {
    let head = |fields: usize, size: usize| {
        let fields: String = (0..fields)
            .map(|n| format!("X{n}: {}\r\n", "v".repeat(size)))
            .collect();
        format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{fields}\r\n")
    };
    let reason = |response: String| read(response.as_bytes(), 1024, false).unwrap_err();
    for fields in [20, 100, 999] {
        let response = read(head(fields, 9).as_bytes(), 1024, false).unwrap();
        assert_eq!(response.fields.len(), fields + 1);
    }
    assert!(reason(head(1000, 9)).contains("more than 1000 fields"));
    assert!(reason(head(10, 7000)).contains("larger than 64 KiB"));
    assert!(reason("HTTP/1.1 200 OK\r\nX: ".to_owned() + &"x".repeat(70_000)).contains("64 KiB"));
    let interim = |count| "HTTP/1.1 100 C\r\n\r\n".repeat(count) + &head(0, 0);
    assert!(read(interim(8).as_bytes(), 7, false).is_ok());
    assert!(reason(interim(9)).contains("more than 8 interim"));
    assert!(reason("220 mail".into()).contains("does not begin with HTTP/1"));
}
