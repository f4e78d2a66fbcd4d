//! Errors of the client.

use std::error::Error;
use std::io;
use std::time::Duration;

use http_body_util::LengthLimitError;

use crate::tls::{TrustError, explain};

/// Why a request has no complete response. The text includes the causes; `source` is empty, so that
/// `{:#}` of anyhow does not print them twice.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL or the target is not one that a request can be sent to.
    #[error("{0:?} is not a URL that a request can be sent to")]
    InvalidUrl(String),
    /// The body was cut off.
    #[error("the response body was cut off: {}", error_chain(.0.as_ref()))]
    Body(Box<dyn Error + Send + Sync>),
    /// The server's certificate is not trusted, or not valid for this name.
    #[error("the server's certificate is not accepted: {0}")]
    Certificate(String),
    /// The client certificate or its key cannot be used.
    #[error("cannot use the client certificate: {0}")]
    ClientCertificate(String),
    /// The TCP connection failed.
    #[error("cannot connect to {0}: {1}")]
    Connect(String, io::Error),
    /// The TLS handshake failed for another reason than the certificate.
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
    /// The response is not HTTP, or the connection closed before the response.
    #[error("invalid response: {}", error_chain(.0))]
    Http(hyper::Error),
    /// The timeout passed.
    #[error("no response within {}", format_duration(*.0))]
    Timeout(Duration),
    /// The body exceeds [`MAX_BUFFERED_BODY`](super::MAX_BUFFERED_BODY).
    #[error("the response body is larger than {} bytes", super::MAX_BUFFERED_BODY)]
    ResponseTooLarge,
    /// The trusted CA certificates cannot be used.
    #[error("cannot use the trusted certificates: {0}")]
    TrustStore(String),
}

impl From<hyper::Error> for ClientError {
    fn from(error: hyper::Error) -> Self {
        Self::Http(error)
    }
}

impl ClientError {
    /// Distinguishes a rejected certificate from other handshake errors.
    pub(super) fn from_handshake(error: io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        match inner {
            Some(error @ rustls::Error::InvalidCertificate(_)) => {
                // The advice is about the keys of a configuration.
                Self::Certificate(match TrustError::of(error) {
                    Some(refusal) => refusal.finding(),
                    None => explain(error, "the server"),
                })
            }
            _ => Self::Handshake(error),
        }
    }

    /// Whether the server has not processed the request: it was never sent, because the connection closed before,
    /// or its HTTP/2 stream was refused (RFC 9113, 8.7).
    pub(super) fn is_unprocessed(&self) -> bool {
        let Self::Http(error) = self else {
            return false;
        };
        let source = error.source().and_then(|it| it.downcast_ref::<h2::Error>());
        error.is_canceled()
            || source.is_some_and(|error| error.reason() == Some(h2::Reason::REFUSED_STREAM))
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
fn format_duration(duration: Duration) -> String {
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
    fn a_duration_is_formatted_as_it_is_parsed() {
        for (duration, text) in [
            (Duration::from_millis(200), "200ms"),
            (Duration::from_secs(30), "30s"),
            (Duration::ZERO, "0s"),
            (Duration::from_millis(1500), "1500ms"),
        ] {
            assert_eq!(format_duration(duration), text);
        }
    }
}
