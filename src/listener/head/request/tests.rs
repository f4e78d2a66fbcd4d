use super::*;
use crate::listener::ProtocolError;

const LIMITS: HeadLimits = HeadLimits {
    size: 4096,
    fields: 10,
};

fn http2(uri: &str, fields: &[(&str, &str)]) -> Result<Parts, HeadError> {
    let mut request = http::Request::builder()
        .version(http::Version::HTTP_2)
        .uri(uri);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let (mut head, ()) = request.body(()).unwrap().into_parts();
    validate(&mut head, LIMITS).map(|()| head)
}

#[test]
fn http2_requests_obey_the_same_rules_and_get_a_host() {
    let head = http2("https://x:8443/a?b", &[]).unwrap();
    assert_eq!(head.headers["host"], "x:8443");
    assert_eq!(head.uri, "/a?b");
    assert!(http2("https://X/a", &[("host", "x")]).is_ok());
    assert!(http2("/a", &[("host", "x")]).is_ok());
    assert!(http2("https://x/a", &[("x", "a b"), ("y", "")]).is_ok());

    for (uri, fields) in [
        ("/a", &[][..]),
        ("https://x/a", &[("host", "y")]),
        ("https://x/a", &[("host", "x"), ("host", "x")]),
        ("/a", &[("host", "a b")]),
        ("https://u@x/a", &[]),
        ("https://x/a/../b", &[]),
        ("https://x/a%2fb", &[]),
        ("https://x/a", &[("content_length", "1")]),
        ("https://x/a", &[("content--length", "1")]),
        ("https://x/a", &[("transfer-encoding-", "chunked")]),
        ("https://x/a", &[("transferencoding", "chunked")]),
        ("https://x/a", &[("x--forwarded-for", "1.1.1.1")]),
        (
            "https://x/a",
            &[("content-length", "1"), ("content-length", "1")],
        ),
        ("https://x/a", &[("content-length", "+1")]),
        ("https://x/a", &[("authorization", " x")]),
        ("https://x/a", &[("authorization", "x\t")]),
        ("https://x/a", &[("authorization", " ")]),
    ] {
        let fault = http2(uri, fields).expect_err(uri);
        assert!(
            matches!(fault.error, ProtocolError::Malformed(_)),
            "{uri} {fields:?}"
        );
    }
    let many: Vec<_> = (0..11).map(|_| ("x", "y")).collect();
    assert_eq!(
        http2("https://x/a", &many).unwrap_err(),
        HeadError::too_large()
    );
    let long = "y".repeat(5000);
    let fields = [("x", long.as_str())];
    assert_eq!(
        http2("https://x/a", &fields).unwrap_err(),
        HeadError::too_large()
    );
}
