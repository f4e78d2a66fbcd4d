//! Why an exchange failed.

use std::io;

use crate::message::UpstreamErrorKind;
use crate::upstream::failure_reason::{self, FailureReason};

/// Why an exchange failed.
#[derive(Debug)]
pub(in crate::upstream) enum ExchangeError {
    /// The node closed the connection in order before the response was complete.
    Closed,
    /// The response is not legal HTTP/1.1, or exceeds a limit.
    Invalid(FailureReason),
    /// The connection failed.
    Io(io::Error),
}

impl ExchangeError {
    /// Returns the kind of the failure. `response_started`: a byte of the response has arrived.
    pub(in crate::upstream) fn kind(&self, response_started: bool) -> UpstreamErrorKind {
        match self {
            Self::Closed | Self::Io(_) if response_started => UpstreamErrorKind::ResponseIncomplete,
            Self::Closed | Self::Io(_) => UpstreamErrorKind::ConnectionClosed,
            Self::Invalid(_) => UpstreamErrorKind::InvalidResponse,
        }
    }

    /// Returns why the exchange brought no response, as text.
    pub(in crate::upstream) fn into_reason(self) -> FailureReason {
        match self {
            Self::Closed => "connection closed before the response".into(),
            Self::Invalid(reason) => reason,
            Self::Io(error) => match error.kind() {
                io::ErrorKind::UnexpectedEof => "connection closed without close_notify".into(),
                _ => failure_reason::from_io(&error),
            },
        }
    }
}

impl From<io::Error> for ExchangeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
