//! Heads that two parsers could read in two ways, by the rule that refuses them.

use crate::metrics::MalformedReason;

pub(super) const AMBIGUOUS: &[(MalformedReason, &str)] = &[
    (
        MalformedReason::Framing,
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    (
        MalformedReason::Framing,
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
    ),
    (
        MalformedReason::Framing,
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    (
        MalformedReason::Framing,
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
    ),
    (
        MalformedReason::Framing,
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    ),
    (
        MalformedReason::Framing,
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n",
    ),
    (
        MalformedReason::Framing,
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n\r\n",
    ),
    (
        MalformedReason::Framing,
        "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    (
        MalformedReason::Framing,
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
    ),
    (
        MalformedReason::Framing,
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\n",
    ),
    (
        MalformedReason::Framing,
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n",
    ),
    (
        MalformedReason::Framing,
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    ),
    (
        MalformedReason::Framing,
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x1\r\n\r\n",
    ),
    (
        MalformedReason::Framing,
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n",
    ),
    (
        MalformedReason::Framing,
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551616\r\n\r\n",
    ),
    (
        MalformedReason::FieldName,
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n folded\r\n\r\n",
    ),
    (
        MalformedReason::FieldName,
        "GET / HTTP/1.1\r\n Host: x\r\n\r\n",
    ),
    (
        MalformedReason::FieldName,
        "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    ),
    (
        MalformedReason::FieldName,
        "GET / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n",
    ),
    (
        MalformedReason::FieldName,
        "GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
    ),
    (
        MalformedReason::FieldName,
        "GET / HTTP/1.1\r\nHost: x\r\nContent_Length: 1\r\n\r\n",
    ),
    (
        MalformedReason::FieldName,
        "GET / HTTP/1.1\r\nHost: x\r\ntransfer_encoding: chunked\r\n\r\n",
    ),
    (
        MalformedReason::FieldName,
        "GET / HTTP/1.1\r\nHost: x\r\nX_Forwarded_For: 1.1.1.1\r\n\r\n",
    ),
    (
        MalformedReason::FieldName,
        "GET / HTTP/1.1\r\nHost: x\r\nProxy-Client_IP: 1.1.1.1\r\n\r\n",
    ),
    (
        MalformedReason::FieldValue,
        "GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
    ),
    (MalformedReason::FieldValue, "GET / HTTP/1.1\nHost: x\n\n"),
    (
        MalformedReason::FieldValue,
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
    ),
    (
        MalformedReason::FieldValue,
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\0\r\n\r\n",
    ),
    (
        MalformedReason::FieldValue,
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\x7f\r\n\r\n",
    ),
    (
        MalformedReason::FieldValue,
        "GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::RequestLine,
        "\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::RequestLine,
        "GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::RequestLine,
        "GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
    ),
    (MalformedReason::RequestLine, "GET /\r\n\r\n"),
    (
        MalformedReason::RequestLine,
        "G@T / HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::Version,
        "GET / HTTP/1.2\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::Version,
        "GET / http/1.1\r\nHost: x\r\n\r\n",
    ),
    (MalformedReason::Version, "PRI * HTTP/2.0\r\n\r\n"),
    (MalformedReason::Host, "GET / HTTP/1.1\r\n\r\n"),
    (MalformedReason::Host, "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    (
        MalformedReason::Host,
        "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::Host,
        "GET / HTTP/1.1\r\nHost: x, y\r\n\r\n",
    ),
    (MalformedReason::Host, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    (
        MalformedReason::Host,
        "GET / HTTP/1.1\r\nHost: user@x\r\n\r\n",
    ),
    (MalformedReason::Host, "GET / HTTP/1.1\r\nHost: x/y\r\n\r\n"),
    (
        MalformedReason::Host,
        "GET / HTTP/1.1\r\nHost: x:99999\r\n\r\n",
    ),
    (
        MalformedReason::Host,
        "GET / HTTP/1.1\r\nHost: x:1:2\r\n\r\n",
    ),
    (
        MalformedReason::Host,
        "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
    ),
    (MalformedReason::Host, "GET / HTTP/1.1\r\nHost: [x]\r\n\r\n"),
    (
        MalformedReason::Host,
        "GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n",
    ),
    (
        MalformedReason::Host,
        "GET https://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
    ),
    (
        MalformedReason::Host,
        "GET https://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        MalformedReason::Host,
        "GET https:///x HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (MalformedReason::Target, "GET * HTTP/1.1\r\nHost: x\r\n\r\n"),
    (
        MalformedReason::Target,
        "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    (MalformedReason::Target, "GET a HTTP/1.1\r\nHost: x\r\n\r\n"),
    (
        MalformedReason::Target,
        "GET x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::Target,
        "GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::Target,
        "GET https://x HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::Target,
        "GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::Target,
        "GET /a\\b HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::Target,
        "GET /a?b#c HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::Target,
        "GET /ä HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::Target,
        "GET /?a=\"b\" HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::Target,
        "GET /a<b HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::Target,
        "GET /a/./b HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::Target,
        "GET /a/.. HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::Target,
        "GET /a/../b?c HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::Target,
        "GET /a/%2e%2E/b HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::Target,
        "GET /a/.%2e/b HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::Target,
        "GET /a/..;p=q/b HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::Target,
        "GET /a/%2e;/b HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::Target,
        "GET /a%2Fb HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::Target,
        "GET /a%5cb HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::Target,
        "GET /a%00 HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::Target,
        "GET /a%g0 HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::Target,
        "GET /a% HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    (
        MalformedReason::Target,
        "GET https://x/../a HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
];
