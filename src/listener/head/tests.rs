//! The rules of a head as tables, and the property that the split of the bytes does not matter.

mod ambiguous;

use self::ambiguous::AMBIGUOUS;
use super::*;
use proptest::prelude::*;

const LIMITS: HeadLimits = HeadLimits {
    size: 4096,
    fields: 10,
};

/// Scans `head`, split at the given positions.
fn scan(head: &[u8], cuts: &[usize]) -> Result<Option<usize>, HeadError> {
    let mut scanner = HeadScanner::default();
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
        assert_eq!(scan(head.as_bytes(), &[]), Ok(Some(head.len())), "{head:?}");
    }
}

#[test]
fn ambiguous_heads_are_rejected() {
    for &(reason, head) in AMBIGUOUS {
        let error = scan(head.as_bytes(), &[]).expect_err(head);
        assert!(
            matches!(error.error, ProtocolError::Malformed(_)),
            "{head:?}: {error:?}"
        );
        assert_eq!(error.reason, Some(reason), "{head:?}: {error:?}");
    }
}

#[test]
fn connect_and_trace_are_rejected() {
    for head in [
        "CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        "TRACE / HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let error = scan(head.as_bytes(), &[]).expect_err(head);
        assert_eq!(error.error, ProtocolError::MethodNotAllowed);
    }
}

#[test]
fn size_and_number_of_fields_are_bounded() {
    let fields = |count: usize| {
        let more: String = (1..count).map(|n| format!("X-{n}: y\r\n")).collect();
        format!("GET / HTTP/1.1\r\nHost: x\r\n{more}\r\n")
    };
    assert!(scan(fields(10).as_bytes(), &[]).is_ok());
    assert_eq!(
        scan(fields(11).as_bytes(), &[]),
        Err(HeadError::too_large())
    );

    let sized = |size: usize| {
        let frame = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".len();
        format!(
            "GET /{} HTTP/1.1\r\nHost: x\r\n\r\n",
            "a".repeat(size - frame)
        )
    };
    assert_eq!(scan(sized(4096).as_bytes(), &[]), Ok(Some(4096)));
    assert_eq!(
        scan(sized(4097).as_bytes(), &[]),
        Err(HeadError::too_large())
    );
    assert_eq!(
        scan(&sized(9000).as_bytes()[..4097], &[]),
        Err(HeadError::too_large())
    );
}

#[test]
fn a_line_is_validated_as_soon_as_it_is_complete() {
    assert!(scan(b"GET / HTTP/1.1\r\nHost", &[]).is_ok());
    assert!(scan(b"GET / HTTP/3.1\r\n", &[]).is_err());
    assert!(scan(b"GET / HT\n", &[]).is_err());
    assert!(scan(b"\x16\x03\x01", &[]).is_err());
}

#[test]
fn the_framing_is_what_the_fields_say() {
    let framing = |fields: &str| {
        let head = format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        let head = HeadScanner::default().advance(head.as_bytes(), LIMITS);
        head.unwrap().unwrap().framing
    };
    assert!(matches!(framing(""), Framing::NoBody));
    assert!(matches!(framing("Content-Length: 0\r\n"), Framing::NoBody));
    assert!(matches!(
        framing("Content-Length: 007\r\n"),
        Framing::Length(7)
    ));
    assert!(matches!(
        framing("Transfer-Encoding: chunked\r\n"),
        Framing::Chunked(_)
    ));
}

/// Nearly legal heads, so that both results are common.
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
    fn a_head_has_one_result_however_it_is_split(
        head in heads(),
        mut cuts in prop::collection::vec(0usize..400, 0..20),
    ) {
        cuts.sort_unstable();
        let whole = scan(&head, &[]);
        prop_assert_eq!(&scan(&head, &cuts), &whole);
        let every: Vec<usize> = (0..head.len()).collect();
        prop_assert_eq!(&scan(&head, &every), &whole);
    }

    #[test]
    fn any_bytes_have_one_result_however_split(head in prop::collection::vec(any::<u8>(), 0..200)) {
        let every: Vec<usize> = (0..head.len()).collect();
        prop_assert_eq!(scan(&head, &every), scan(&head, &[]));
    }

    // hyper rejects without our error response, so it must never be the stricter parser.
    #[test]
    fn a_target_that_passes_is_kept_as_it_is_by_the_parser_behind(target in "/[ -~]{0,12}") {
        if target::validate_path_and_query(target.as_bytes()).is_ok() {
            let parsed: http::Uri = target.parse().expect(&target);
            prop_assert_eq!(parsed.to_string(), target);
        }
    }

    #[test]
    fn a_host_that_passes_is_an_authority_to_the_parser_behind(host in "[!-~]{1,6}(:[0-9]{0,6})?") {
        let absolute = format!("https://{host}/");
        if host::validate(host.as_bytes()).is_ok() {
            prop_assert!(absolute.parse::<http::Uri>().is_ok(), "{}", absolute);
        }
    }

    #[test]
    fn a_field_that_passes_is_one_to_the_parser_behind(name in "[!-~]{1,12}", value in "[ -~\\x80-\\xff]{0,12}") {
        let line = format!("{name}: {value}");
        if let Ok((_, value)) = field::parse_line(line.as_bytes()) {
            let name = line.split(':').next().unwrap();
            prop_assert!(http::HeaderName::from_bytes(name.as_bytes()).is_ok(), "{}", name);
            prop_assert!(http::HeaderValue::from_bytes(value).is_ok());
        }
    }
}
