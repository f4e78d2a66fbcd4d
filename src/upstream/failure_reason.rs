//! Why a node failed, as text for the log and the admin interface. No part of it comes from a request or
//! from the body of a response, except a result code.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use http::StatusCode;

use crate::ccfs::ParsedResponse;
use crate::message::UpstreamErrorKind;
use crate::tls::explain;

/// A reason as text.
pub(super) type FailureReason = Cow<'static, str>;

/// The reason of a response that was cut off.
pub(super) const CUT_OFF: &str = "connection closed inside the response";

/// Why no connection was established.
pub(super) fn from_connect(error: &io::Error) -> FailureReason {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "connection closed in the TLS handshake".into(),
        _ => from_io(error),
    }
}

/// Why a connection failed.
pub(super) fn from_io(error: &io::Error) -> FailureReason {
    let inner = error.get_ref();
    if let Some(tls) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return explain(tls, "the node").into();
    }
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => "connection reset".into(),
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::HostUnreachable => "no route to the host".into(),
        io::ErrorKind::NetworkUnreachable => "no route to the network".into(),
        io::ErrorKind::TimedOut => "connection timed out".into(),
        _ => error.to_string().into(),
    }
}

/// Why a response counts as a failure of its node.
pub(super) fn from_response(status: StatusCode, json: Option<&ParsedResponse>) -> FailureReason {
    let code = json.and_then(|json| json.result_code.as_deref());
    match code.filter(|_| status == StatusCode::OK) {
        // The node chooses the text, so it is cut and escaped.
        Some(code) => {
            let code: String = code.chars().take(MAX_CODE_LENGTH).collect();
            format!("resultCode {code:?}").into()
        }
        None => format!("status {}", status.as_u16()).into(),
    }
}

/// The reason of a failure of which only the kind and the duration are known.
pub(super) fn from_kind(kind: UpstreamErrorKind, waited: Duration) -> FailureReason {
    match kind {
        UpstreamErrorKind::ConnectionClosed => "connection closed before the response".into(),
        UpstreamErrorKind::ResponseIncomplete => CUT_OFF.into(),
        UpstreamErrorKind::InvalidResponse => {
            "the response was no JSON object, cut off, or larger than max_answer".into()
        }
        UpstreamErrorKind::NoNodeAvailable => "no connection was free".into(),
        UpstreamErrorKind::Timeout => format!("no response in {waited:.1?}").into(),
        UpstreamErrorKind::ConnectFailed(_) => "no connection".into(),
    }
}

/// CC-FS has codes of seven digits.
const MAX_CODE_LENGTH: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_in_plain_words() {
        let tls =
            |error: rustls::Error| from_io(&io::Error::new(io::ErrorKind::InvalidData, error));
        for (reason, expected) in [
            (
                from_io(&io::ErrorKind::ConnectionRefused.into()),
                "connection refused",
            ),
            (
                tls(rustls::Error::AlertReceived(
                    rustls::AlertDescription::HandshakeFailure,
                )),
                "TLS refused by the node: alert handshake_failure",
            ),
            (
                from_kind(UpstreamErrorKind::Timeout, Duration::from_secs(8)),
                "no response in 8.0s",
            ),
            (
                from_response(StatusCode::SERVICE_UNAVAILABLE, None),
                "status 503",
            ),
        ] {
            assert_eq!(reason, expected);
        }
    }
}
