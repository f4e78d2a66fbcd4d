//! Why a node failed, as text for the log and the admin interface. No part of it comes from a request or
//! from the body of a response, except a result code.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use http::StatusCode;
use rustls::CertificateError;

use crate::ccfs::ParsedResponse;
use crate::message::UpstreamErrorKind;

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
        return from_tls(tls);
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

fn from_tls(error: &rustls::Error) -> FailureReason {
    match error {
        rustls::Error::InvalidCertificate(wrong) => from_certificate_error(wrong),
        rustls::Error::AlertReceived(alert) => {
            format!("TLS refused by the node: alert {alert:?}").into()
        }
        rustls::Error::InvalidMessage(_) => "the node does not speak TLS".into(),
        rustls::Error::PeerIncompatible(reason) => {
            format!("no TLS version or cipher suite in common: {reason:?}").into()
        }
        other => format!("TLS: {other}").into(),
    }
}

fn from_certificate_error(wrong: &CertificateError) -> FailureReason {
    match wrong {
        CertificateError::UnknownIssuer => {
            "certificate not trusted: signed by no authority in ca".into()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "certificate not trusted: expired".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "certificate not trusted: not yet valid".into()
        }
        CertificateError::NotValidForName => {
            "certificate not trusted: it is for another name".into()
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => format!(
            "certificate not trusted: it is for {}, not for {}",
            presented_names(presented),
            expected.to_str()
        )
        .into(),
        other => format!("certificate not trusted: {other}").into(),
    }
}

/// Lists the names of a certificate, which rustls writes as `DnsName("a.example")`. The first few are
/// enough to recognize it.
fn presented_names(presented: &[String]) -> String {
    let names = presented.iter().take(MAX_NAMES).map(|name| {
        let inside = name.split_once('(').map_or(name.as_str(), |(_, rest)| rest);
        let name = inside.trim_end_matches(')').trim_matches('"');
        name.chars().take(MAX_NAME_LENGTH).collect::<String>()
    });
    let names: Vec<_> = names.collect();
    match names.len() {
        0 => "no name".to_owned(),
        _ if presented.len() > MAX_NAMES => format!("{} and others", names.join(", ")),
        _ => names.join(", "),
    }
}

/// CC-FS has codes of seven digits.
const MAX_CODE_LENGTH: usize = 16;

/// RFC 1035, 2.3.4.
const MAX_NAME_LENGTH: usize = 255;

const MAX_NAMES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_in_plain_words() {
        let tls =
            |error: rustls::Error| from_io(&io::Error::new(io::ErrorKind::InvalidData, error));
        let name = CertificateError::NotValidForNameContext {
            expected: "node.test".try_into().unwrap(),
            presented: vec!["DnsName(\"other.test\")".to_owned()],
        };
        for (reason, expected) in [
            (
                from_io(&io::ErrorKind::ConnectionRefused.into()),
                "connection refused",
            ),
            (
                tls(CertificateError::UnknownIssuer.into()),
                "certificate not trusted: signed by no authority in ca",
            ),
            (
                tls(CertificateError::Expired.into()),
                "certificate not trusted: expired",
            ),
            (
                tls(name.into()),
                "certificate not trusted: it is for other.test, not for node.test",
            ),
            (
                tls(rustls::Error::AlertReceived(
                    rustls::AlertDescription::HandshakeFailure,
                )),
                "TLS refused by the node: alert HandshakeFailure",
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
