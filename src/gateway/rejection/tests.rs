use super::*;
use crate::config::Rate;
use crate::message::AttemptSummary;

/// The table as the contract and `deploy/callers.md` have it.
#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn every_error_has_its_row() {
    let node = |cause| {
        Rejection::Upstream(UpstreamError {
            kind: cause,
            request_sent: false,
            attempts: AttemptSummary::default(),
        })
    };
    let connect = |cause| node(UpstreamErrorKind::ConnectFailed(cause));
    let limited = |code| Rejection::RateLimited {
        limiter: Limiter::AccessKey,
        exceeded: Some(RateLimited {
            rate: Rate::per_second(1, 1),
            wait: std::time::Duration::from_millis(1500),
        }),
        code,
    };
    let invalid = InvalidRequest {
        code: "0300001",
        text: "callId is null".to_owned(),
        reason: "null",
        call_id: None,
    };
    let table = [
        (
            Rejection::InvalidRequest(invalid),
            "invalid-request 200 0300001 http_request_denied",
        ),
        (
            Rejection::Malformed("x"),
            "malformed 400 GW400 close http_request_error",
        ),
        (
            Rejection::Unauthenticated(AuthError::UnknownKey),
            "unauthenticated 401 GW401 http_request_denied",
        ),
        (
            Rejection::Unauthenticated(AuthError::WrongSignature),
            "unauthenticated 401 GW401 http_request_denied",
        ),
        (
            Rejection::NotFound("x"),
            "not-found 404 GW404 http_request_denied",
        ),
        (
            Rejection::MethodNotAllowed(Method::POST),
            "method-not-allowed 405 GW405 http_request_denied",
        ),
        (
            Rejection::RequestTimeout,
            "request-timeout 408 GW408 close http_request_error",
        ),
        (
            Rejection::BodyTooLarge { limit: 1 },
            "body-too-large 413 GW413 http_request_error",
        ),
        (
            Rejection::UnsupportedMediaType("x"),
            "unsupported-media-type 415 GW415 http_request_denied",
        ),
        (
            Rejection::HeadersTooLarge,
            "headers-too-large 431 GW431 close http_request_error",
        ),
        (
            limited("0300009"),
            "rate-limited 429 0300009 retry-after 2 http_request_denied",
        ),
        (
            limited("0300008"),
            "rate-limited 429 0300008 retry-after 2 http_request_denied",
        ),
        (
            node(UpstreamErrorKind::NoNodeAvailable),
            "no-healthy-node 503 GW503 retry-after 1 destination_unavailable",
        ),
        (
            Rejection::Overloaded(ShedReason::InFlight),
            "overloaded 503 GW503 retry-after 1 connection_limit_reached",
        ),
        (
            connect(ConnectError::Refused),
            "node-failed 502 GW502 connection_refused",
        ),
        (
            connect(ConnectError::Closed),
            "node-failed 502 GW502 connection_terminated",
        ),
        (
            connect(ConnectError::Certificate),
            "node-failed 502 GW502 tls_certificate_error",
        ),
        (
            connect(ConnectError::Tls),
            "node-failed 502 GW502 tls_protocol_error",
        ),
        (
            connect(ConnectError::NoAddress),
            "node-failed 502 GW502 dns_error",
        ),
        (
            connect(ConnectError::Timeout),
            "node-timeout 504 GW504 connection_timeout",
        ),
        (
            node(UpstreamErrorKind::ConnectionClosed),
            "node-failed 502 GW502 connection_terminated",
        ),
        (
            node(UpstreamErrorKind::ResponseIncomplete),
            "node-failed 502 GW502 http_response_incomplete",
        ),
        (
            node(UpstreamErrorKind::InvalidResponse),
            "node-failed 502 GW502 http_protocol_error",
        ),
        (
            node(UpstreamErrorKind::Timeout),
            "node-timeout 504 GW504 connection_timeout",
        ),
        (
            Rejection::Internal,
            "internal 500 GW500 proxy_internal_error",
        ),
        (
            Rejection::LoopDetected,
            "loop-detected 508 GW508 proxy_loop_detected",
        ),
    ];
    for (rejection, expected) in table {
        let row = rejection.error_response();
        let mut line = format!("{} {} {}", row.kind, row.status.as_u16(), row.code);
        if row.closes_connection {
            line += " close";
        }
        if let Some(seconds) = row.retry_after {
            line += &format!(" retry-after {seconds}");
        }
        line += &format!(" {}", rejection.proxy_error());
        println!("{line}");
        assert_eq!(line, expected, "{rejection:?}");
    }
}

#[test]
fn authentication_errors_look_the_same_to_clients() {
    let texts = [
        AuthError::UnknownKey,
        AuthError::WrongSignature,
        AuthError::Disabled,
    ]
    .map(|error| Rejection::from(error).public_message());
    assert!(texts.iter().all(|text| *text == texts[0]));
}
