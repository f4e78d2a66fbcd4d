//! The head rules as tables, and the promise that cuts do not matter.

use super::*;
use proptest::prelude::*;

const LIMITS: HeadLimits = HeadLimits {
    size: 4096,
    fields: 10,
};

/// The verdict on `head`, shown in the given pieces.
fn verdict(head: &[u8], cuts: &[usize]) -> Result<Option<usize>, Fault> {
    let mut scanner = Scanner::default();
    for &cut in cuts.iter().chain([&head.len()]) {
        if let Some(whole) = scanner.advance(&head[..cut.min(head.len())], LIMITS)? {
            return Ok(Some(whole.length));
        }
    }
    Ok(None)
}

#[test]
fn legal_heads_pass() {
    for head in [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: x\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "OPTIONS /a HTTP/1.1\r\nhOST:x:8443\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1]:8443 \t\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: 10.154.198.164\r\nX-Any:\tv\tw\r\nY:\r\n\r\n",
        "POST /CCFS/resource/ccfs/get HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n",
        "GET https://X.example/a?b HTTP/1.1\r\nHost: x.EXAMPLE\r\n\r\n",
        "GET /a.b/..c/...;x=y/.hidden?../%2f&q=%zz[]{}|^ HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /a%20b%e4%bd%a0/~x!$&'()*+,;=:@ HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nX_Own_Field: 1\r\n\r\n",
    ] {
        assert_eq!(
            verdict(head.as_bytes(), &[]),
            Ok(Some(head.len())),
            "{head:?}"
        );
    }
}

#[test]
fn what_two_parsers_could_read_in_two_ways_is_refused() {
    use Malformed::*;
    for (reason, head) in [
        (
            Framing,
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            Framing,
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
        ),
        (
            Framing,
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            Framing,
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        ),
        (
            Framing,
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        ),
        (
            Framing,
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n",
        ),
        (
            Framing,
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n\r\n",
        ),
        (
            Framing,
            "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            Framing,
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        ),
        (
            Framing,
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\n",
        ),
        (
            Framing,
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n",
        ),
        (
            Framing,
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        ),
        (
            Framing,
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x1\r\n\r\n",
        ),
        (
            Framing,
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n",
        ),
        (
            Framing,
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551616\r\n\r\n",
        ),
        (
            FieldName,
            "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n folded\r\n\r\n",
        ),
        (FieldName, "GET / HTTP/1.1\r\n Host: x\r\n\r\n"),
        (FieldName, "GET / HTTP/1.1\r\nHost : x\r\n\r\n"),
        (FieldName, "GET / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n"),
        (FieldName, "GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n"),
        (
            FieldName,
            "GET / HTTP/1.1\r\nHost: x\r\nContent_Length: 1\r\n\r\n",
        ),
        (
            FieldName,
            "GET / HTTP/1.1\r\nHost: x\r\ntransfer_encoding: chunked\r\n\r\n",
        ),
        (
            FieldName,
            "GET / HTTP/1.1\r\nHost: x\r\nX_Forwarded_For: 1.1.1.1\r\n\r\n",
        ),
        (
            FieldName,
            "GET / HTTP/1.1\r\nHost: x\r\nProxy-Client_IP: 1.1.1.1\r\n\r\n",
        ),
        (FieldValue, "GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n"),
        (FieldValue, "GET / HTTP/1.1\nHost: x\n\n"),
        (FieldValue, "GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n"),
        (FieldValue, "GET / HTTP/1.1\r\nHost: x\r\nA: b\0\r\n\r\n"),
        (FieldValue, "GET / HTTP/1.1\r\nHost: x\r\nA: b\x7f\r\n\r\n"),
        (FieldValue, "GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n"),
        (RequestLine, "\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        (RequestLine, "GET  / HTTP/1.1\r\nHost: x\r\n\r\n"),
        (RequestLine, "GET / HTTP/1.1 \r\nHost: x\r\n\r\n"),
        (RequestLine, "GET /\r\n\r\n"),
        (RequestLine, "G@T / HTTP/1.1\r\nHost: x\r\n\r\n"),
        (Version, "GET / HTTP/1.2\r\nHost: x\r\n\r\n"),
        (Version, "GET / http/1.1\r\nHost: x\r\n\r\n"),
        (Version, "PRI * HTTP/2.0\r\n\r\n"),
        (Host, "GET / HTTP/1.1\r\n\r\n"),
        (Host, "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
        (Host, "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"),
        (Host, "GET / HTTP/1.1\r\nHost: x, y\r\n\r\n"),
        (Host, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
        (Host, "GET / HTTP/1.1\r\nHost: user@x\r\n\r\n"),
        (Host, "GET / HTTP/1.1\r\nHost: x/y\r\n\r\n"),
        (Host, "GET / HTTP/1.1\r\nHost: x:99999\r\n\r\n"),
        (Host, "GET / HTTP/1.1\r\nHost: x:1:2\r\n\r\n"),
        (Host, "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
        (Host, "GET / HTTP/1.1\r\nHost: [x]\r\n\r\n"),
        (Host, "GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n"),
        (Host, "GET https://a/ HTTP/1.1\r\nHost: b\r\n\r\n"),
        (Host, "GET https://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (Host, "GET https:///x HTTP/1.1\r\nHost: a\r\n\r\n"),
        (Target, "GET * HTTP/1.1\r\nHost: x\r\n\r\n"),
        (Target, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"),
        (Target, "GET a HTTP/1.1\r\nHost: x\r\n\r\n"),
        (Target, "GET x:443 HTTP/1.1\r\nHost: x\r\n\r\n"),
        (Target, "GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n"),
        (Target, "GET https://x HTTP/1.1\r\nHost: x\r\n\r\n"),
        (Target, "GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n"),
        (Target, "GET /a\\b HTTP/1.1\r\nHost: x\r\n\r\n"),
        (Target, "GET /a?b#c HTTP/1.1\r\nHost: x\r\n\r\n"),
        (Target, "GET /ä HTTP/1.1\r\nHost: x\r\n\r\n"),
        (Target, "GET /?a=\"b\" HTTP/1.1\r\nHost: x\r\n\r\n"),
        (Target, "GET /a<b HTTP/1.1\r\nHost: x\r\n\r\n"),
        (Target, "GET /a/./b HTTP/1.1\r\nHost: x\r\n\r\n"),
        (Target, "GET /a/.. HTTP/1.1\r\nHost: x\r\n\r\n"),
        (Target, "GET /a/../b?c HTTP/1.1\r\nHost: x\r\n\r\n"),
        (Target, "GET /a/%2e%2E/b HTTP/1.1\r\nHost: x\r\n\r\n"),
        (Target, "GET /a/.%2e/b HTTP/1.1\r\nHost: x\r\n\r\n"),
        (Target, "GET /a/..;p=q/b HTTP/1.1\r\nHost: x\r\n\r\n"),
        (Target, "GET /a/%2e;/b HTTP/1.1\r\nHost: x\r\n\r\n"),
        (Target, "GET /a%2Fb HTTP/1.1\r\nHost: x\r\n\r\n"),
        (Target, "GET /a%5cb HTTP/1.1\r\nHost: x\r\n\r\n"),
        (Target, "GET /a%00 HTTP/1.1\r\nHost: x\r\n\r\n"),
        (Target, "GET /a%g0 HTTP/1.1\r\nHost: x\r\n\r\n"),
        (Target, "GET /a% HTTP/1.1\r\nHost: x\r\n\r\n"),
        (Target, "GET https://x/../a HTTP/1.1\r\nHost: x\r\n\r\n"),
    ] {
        let fault = verdict(head.as_bytes(), &[]).expect_err(head);
        assert!(
            matches!(fault.violation, Violation::Malformed(_)),
            "{head:?}: {fault:?}"
        );
        assert_eq!(fault.reason, reason, "{head:?}: {fault:?}");
    }
}

#[test]
fn nothing_is_tunnelled_or_echoed() {
    for head in [
        "CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        "TRACE / HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let fault = verdict(head.as_bytes(), &[]).expect_err(head);
        assert_eq!(fault.violation, Violation::Method);
    }
}

#[test]
fn size_and_number_of_fields_are_bounded() {
    let fields = |count: usize| {
        let more: String = (1..count).map(|n| format!("X-{n}: y\r\n")).collect();
        format!("GET / HTTP/1.1\r\nHost: x\r\n{more}\r\n")
    };
    assert!(verdict(fields(10).as_bytes(), &[]).is_ok());
    assert_eq!(verdict(fields(11).as_bytes(), &[]), Err(Fault::too_large()));

    let sized = |size: usize| {
        let frame = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".len();
        format!(
            "GET /{} HTTP/1.1\r\nHost: x\r\n\r\n",
            "a".repeat(size - frame)
        )
    };
    assert_eq!(verdict(sized(4096).as_bytes(), &[]), Ok(Some(4096)));
    assert_eq!(
        verdict(sized(4097).as_bytes(), &[]),
        Err(Fault::too_large())
    );
    assert_eq!(
        verdict(sized(9000)[..4097].as_bytes(), &[]),
        Err(Fault::too_large())
    );
}

#[test]
fn a_line_is_judged_as_soon_as_it_is_whole() {
    assert!(verdict(b"GET / HTTP/1.1\r\nHost", &[]).is_ok());
    assert!(verdict(b"GET / HTTP/3.1\r\n", &[]).is_err());
    assert!(verdict(b"GET / HT\n", &[]).is_err());
    assert!(verdict(b"\x16\x03\x01", &[]).is_err());
}

#[test]
fn the_framing_is_what_the_fields_say() {
    let framing = |fields: &str| {
        let head = format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        let head = Scanner::default().advance(head.as_bytes(), LIMITS);
        head.unwrap().unwrap().framing
    };
    assert!(matches!(framing(""), Framing::Nothing));
    assert!(matches!(framing("Content-Length: 0\r\n"), Framing::Nothing));
    assert!(matches!(
        framing("Content-Length: 007\r\n"),
        Framing::Length(7)
    ));
    assert!(matches!(
        framing("Transfer-Encoding: chunked\r\n"),
        Framing::Chunked(_)
    ));
}

/// What became of a chunked body, cut after each `step` bytes: how much was used, and how it ended.
fn follow(body: &[u8], step: usize) -> (usize, bool, bool) {
    let mut chunked = Chunked::default();
    let mut used = 0;
    for piece in body.chunks(step) {
        let step = chunked.advance(piece);
        used += step.used;
        if step.done || step.broken {
            return (used, step.done, step.broken);
        }
    }
    (used, false, false)
}

#[test]
fn chunked_bodies_are_followed_to_their_end() {
    for body in [
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "00005\r\nhello\r\n000\r\n\r\n",
        "5;a=b\r\nhello\r\n0;c\r\n\r\n",
        "5 ; a = \"q;\\\"\" ;b\r\nhello\r\n0\r\n\r\n",
        "0\r\nX-Sum: 1\r\nY:\r\n\r\n",
        "A\r\n0123456789\r\n0\r\n\r\n",
    ] {
        let more = format!("{body}GET / HTTP/1.1");
        for step in [1, 2, 3, 1000] {
            assert_eq!(
                follow(more.as_bytes(), step),
                (body.len(), true, false),
                "{body:?}"
            );
        }
    }
}

#[test]
fn broken_chunks_are_found() {
    for body in [
        "\r\n",
        "g\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        " 5\r\nhello\r\n",
        "5 \r\nhello\r\n",
        "0x5\r\nhello\r\n",
        "-5\r\nhello\r\n",
        "5;\r\nhello\r\n",
        "5;a=\r\nhello\r\n",
        "5;a\0\r\nhello\r\n",
        "5;a b\r\nhello\r\n",
        "5;a=\"b\r\nhello\r\n",
        "5,5\r\nhello\r\n",
        "ffffffffffffffff\r\nx",
        "10000000000000005\r\nhello\r\n",
        "0\r\nContent-Length: 5\r\n\r\n",
        "0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "0\r\nHost: x\r\n\r\n",
        "0\r\nAuthorization: x\r\n\r\n",
        "0\r\nContent_Length: 5\r\n\r\n",
        "0\r\nX-Forwarded-For: 5\r\n\r\n",
        "0\r\nno colon\r\n\r\n",
        "0\r\n folded: 1\r\n\r\n",
        "0\r\nX: a\rb\r\n\r\n",
    ] {
        for step in [1, 2, 1000] {
            let (_, done, broken) = follow(body.as_bytes(), step);
            assert!(broken && !done, "{body:?} in steps of {step}");
        }
    }
    let long = format!("5;a={}\r\n", "x".repeat(5000));
    assert!(follow(long.as_bytes(), 100).2);
}

fn http2(uri: &str, fields: &[(&str, &str)]) -> Result<http::request::Parts, Fault> {
    let mut request = http::Request::builder()
        .version(http::Version::HTTP_2)
        .uri(uri);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let (mut head, ()) = request.body(()).unwrap().into_parts();
    request::judge(&mut head, LIMITS).map(|()| head)
}

#[test]
fn http2_requests_obey_the_same_rules_and_get_a_host() {
    let head = http2("https://x:8443/a?b", &[]).unwrap();
    assert_eq!(head.headers["host"], "x:8443");
    assert_eq!(head.uri, "/a?b");
    assert!(http2("https://X/a", &[("host", "x")]).is_ok());
    assert!(http2("/a", &[("host", "x")]).is_ok());

    for (uri, fields) in [
        ("/a", &[][..]),
        ("https://x/a", &[("host", "y")]),
        ("https://x/a", &[("host", "x"), ("host", "x")]),
        ("/a", &[("host", "a b")]),
        ("https://u@x/a", &[]),
        ("https://x/a/../b", &[]),
        ("https://x/a%2fb", &[]),
        ("https://x/a", &[("content_length", "1")]),
        (
            "https://x/a",
            &[("content-length", "1"), ("content-length", "1")],
        ),
        ("https://x/a", &[("content-length", "+1")]),
    ] {
        let fault = http2(uri, fields).expect_err(uri);
        assert!(
            matches!(fault.violation, Violation::Malformed(_)),
            "{uri} {fields:?}"
        );
    }
    let many: Vec<_> = (0..11).map(|_| ("x", "y")).collect();
    assert_eq!(http2("https://x/a", &many).unwrap_err(), Fault::too_large());
    let long = "y".repeat(5000);
    let fields = [("x", long.as_str())];
    assert_eq!(
        http2("https://x/a", &fields).unwrap_err(),
        Fault::too_large()
    );
}

/// Heads that are nearly legal, so that both verdicts are common.
fn heads() -> impl Strategy<Value = Vec<u8>> {
    let line = prop::sample::select(vec![
        "Host: x",
        "Host: x",
        "A: b",
        "Content-Length: 3",
        "Transfer-Encoding: chunked",
        "X_Y: z",
        "Content_Length: 3",
        " fold",
        "",
        "B:\tc",
        "bad name: x",
        "Expect: 100-continue",
    ]);
    let first = prop::sample::select(vec![
        "GET / HTTP/1.1",
        "POST /a?b HTTP/1.1",
        "GET / HTTP/1.0",
        "GET https://x/ HTTP/1.1",
        "GET /.. HTTP/1.1",
        "GET / HTTP/1.2",
        "",
        "GET /% HTTP/1.1",
    ]);
    let end = prop::sample::select(vec![
        "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\0\r\n",
    ]);
    (
        first,
        prop::collection::vec((line, end), 0..12),
        prop::collection::vec(any::<u8>(), 0..8),
    )
        .prop_map(|(first, lines, tail)| {
            let mut head = format!("{first}\r\n").into_bytes();
            for (line, end) in lines {
                head.extend_from_slice(line.as_bytes());
                head.extend_from_slice(end.as_bytes());
            }
            head.extend_from_slice(b"\r\n");
            head.extend(tail);
            head
        })
}

proptest! {
    #[test]
    fn however_a_head_is_cut_the_verdict_is_the_same(
        head in heads(),
        mut cuts in prop::collection::vec(0usize..400, 0..20),
    ) {
        cuts.sort_unstable();
        let whole = verdict(&head, &[]);
        prop_assert_eq!(&verdict(&head, &cuts), &whole);
        let every: Vec<usize> = (0..head.len()).collect();
        prop_assert_eq!(&verdict(&head, &every), &whole);
    }

    #[test]
    fn any_bytes_get_the_same_verdict_however_cut(head in prop::collection::vec(any::<u8>(), 0..200)) {
        let every: Vec<usize> = (0..head.len()).collect();
        prop_assert_eq!(verdict(&head, &every), verdict(&head, &[]));
    }

    // hyper answers without our envelope where it refuses, so it must never be the stricter one.
    #[test]
    fn a_target_that_passes_is_kept_as_it_is_by_the_parser_behind(target in "/[ -~]{0,12}") {
        if target::path_and_query(target.as_bytes()).is_ok() {
            let parsed: http::Uri = target.parse().expect(&target);
            prop_assert_eq!(parsed.to_string(), target);
        }
    }

    #[test]
    fn a_host_that_passes_is_an_authority_to_the_parser_behind(host in "[!-~]{1,6}(:[0-9]{0,6})?") {
        let absolute = format!("https://{host}/");
        if host::judge(host.as_bytes()).is_ok() {
            prop_assert!(absolute.parse::<http::Uri>().is_ok(), "{}", absolute);
        }
    }

    #[test]
    fn a_field_that_passes_is_one_to_the_parser_behind(name in "[!-~]{1,12}", value in "[ -~\\x80-\\xff]{0,12}") {
        let line = format!("{name}: {value}");
        if let Ok((_, value)) = field::split(line.as_bytes()) {
            let name = line.split(':').next().unwrap();
            prop_assert!(http::HeaderName::from_bytes(name.as_bytes()).is_ok(), "{}", name);
            prop_assert!(http::HeaderValue::from_bytes(value).is_ok());
        }
    }

    #[test]
    fn any_chunked_body_gets_the_same_verdict_however_cut(
        body in "([0-9a-f]{1,3}(;[a-z]=?[a-z\"]{0,3})?\r\n[a-z]{0,6}\r?\n?){0,3}(0\r\n)?([A-Za-z_]{1,6}: ?x\r\n)?(\r\n)?",
    ) {
        prop_assert_eq!(follow(body.as_bytes(), 1), follow(body.as_bytes(), 1000));
    }
}
