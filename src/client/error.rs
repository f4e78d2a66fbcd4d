//! What can go wrong between a client and a server, in words that say what to do about it.

use std::error::Error;
use std::io;
use std::time::Duration;

use http_body_util::LengthLimitError;

/// Why there is no answer, or not all of one. The text tells the causes too: they are no sources, so
/// that nobody tells them twice.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// What was given is not a place that a request can go to.
    #[error("{0:?} is no address that a request can be sent to")]
    InvalidUrl(String),
    /// The body broke off.
    #[error("the answer broke off: {}", error_chain(.0.as_ref()))]
    Body(Box<dyn Error + Send + Sync>),
    /// The server's certificate is not trusted, or not for this name.
    #[error("the server's certificate is not accepted: {0}")]
    Certificate(String),
    /// No TCP connection.
    #[error("cannot connect to {0}: {1}")]
    Connect(String, io::Error),
    /// No TLS connection, for another reason than the certificate.
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
    /// The server answered something that is not HTTP, or ended before it answered.
    #[error("no proper answer: {}", error_chain(.0))]
    Http(hyper::Error),
    /// Too late.
    #[error("no answer within {}", spell(*.0))]
    Timeout(Duration),
    /// More than a whole answer may have.
    #[error("the answer is larger than {} bytes", super::MAX_BUFFERED_BODY)]
    ResponseTooLarge,
    /// The trusted certificates cannot be used.
    #[error("cannot use the trusted certificates: {0}")]
    TrustStore(String),
}

impl From<hyper::Error> for ClientError {
    fn from(error: hyper::Error) -> Self {
        Self::Http(error)
    }
}

impl ClientError {
    /// Tells a certificate that was not accepted from other failures of a handshake.
    pub(super) fn from_handshake(error: io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        match inner {
            Some(rustls::Error::InvalidCertificate(reason)) => {
                Self::Certificate(reason.to_string())
            }
            _ => Self::Handshake(error),
        }
    }

    pub(super) fn from_body(error: Box<dyn Error + Send + Sync>) -> Self {
        if error.is::<LengthLimitError>() {
            Self::ResponseTooLarge
        } else {
            Self::Body(error)
        }
    }
}

fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Returns a duration as the command line reads it: `30s`, `1500ms`.
fn spell(duration: Duration) -> String {
    if duration.subsec_nanos() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_secs_f64() * 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_spelled_as_it_is_read() {
        for (duration, text) in [
            (Duration::from_millis(200), "200ms"),
            (Duration::from_secs(30), "30s"),
            (Duration::ZERO, "0s"),
            (Duration::from_millis(1500), "1500ms"),
        ] {
            assert_eq!(spell(duration), text);
        }
    }
}
