//! Every rejection and failure, and the one table that maps each to its response.

use compact_str::{CompactString, format_compact};
use http::{Method, StatusCode};

use crate::auth::AuthError;
use crate::ccfs::InvalidRequest;
use crate::limit::RateLimited;
use crate::message::{ConnectError, UpstreamError, UpstreamErrorKind};
use crate::metrics::{Limiter, RequestOutcome, ShedReason};

/// Why the gateway answers a request itself, with an error. `Display` is the text for the client, except
/// for [`Rejection::public_message`]'s cases.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Rejection {
    /// The body is larger than allowed.
    #[error("the body is larger than {limit} bytes")]
    BodyTooLarge {
        /// In bytes.
        limit: usize,
    },
    /// The client disconnected before its request was complete.
    #[error("the client disconnected")]
    ClientGone,
    /// The client is identified and may not make this request.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The head is larger than allowed.
    #[error("the request head is larger than allowed")]
    HeadersTooLarge,
    /// A defect of the gateway.
    #[error("internal error")]
    Internal,
    /// CC-FS itself would reject what a link asks for.
    #[error(transparent)]
    InvalidLink(InvalidRequest),
    /// CC-FS itself would reject the body.
    #[error(transparent)]
    InvalidRequest(#[from] InvalidRequest),
    /// A link that plays is only read.
    #[error("only GET and HEAD are allowed here")]
    LinkMethodNotAllowed,
    /// The request carries this process' own name in `Via`.
    #[error("this gateway has already forwarded the request: a node's address leads back to it")]
    LoopDetected,
    /// Not legal HTTP; the text names the rule.
    #[error("{0}")]
    Malformed(&'static str),
    /// CONNECT or TRACE.
    #[error("this method is not served on any path")]
    MethodNeverAllowed,
    /// The interface has another method, given here.
    #[error("only {0} is allowed here")]
    MethodNotAllowed(Method),
    /// No such listener, route or interface.
    #[error("{0}")]
    NotFound(&'static str),
    /// The gateway is at one of its own limits.
    #[error("the gateway is at its limit")]
    Overloaded(ShedReason),
    /// A limit of the account or the client address is exhausted.
    #[error("too many requests")]
    RateLimited {
        /// The limiter that rejected.
        limiter: Limiter,
        /// Its rate and wait, where it is a rate limit.
        exceeded: Option<RateLimited>,
        /// 0300008 on downloads, 0300009 elsewhere.
        code: &'static str,
    },
    /// Head or body did not arrive in time.
    #[error("the request did not arrive in time")]
    RequestTimeout,
    /// The signature did not verify. The text is for the log; to clients all causes look the same.
    #[error(transparent)]
    Unauthenticated(#[from] AuthError),
    /// The body is declared as something else than JSON in UTF-8.
    #[error("{0}")]
    UnsupportedMediaType(&'static str),
    /// No node gave a response.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// One row of the error table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ErrorResponse {
    /// The value of `X-Gateway-Error`.
    pub(super) kind: &'static str,
    pub(super) status: StatusCode,
    /// The resultCode; `GW` and the status unless CC-FS has a code of its own.
    pub(super) code: CompactString,
    /// How it is counted.
    pub(super) outcome: RequestOutcome,
    /// `Retry-After` in seconds.
    pub(super) retry_after: Option<u64>,
    /// Whether the connection ends: bytes of an illegal or unfinished request, or a flood, may follow.
    pub(super) closes_connection: bool,
}

impl Rejection {
    /// Returns the row of `deploy/callers.md`, "Errors made by the gateway".
    pub(super) fn error_response(&self) -> ErrorResponse {
        use RequestOutcome as O;
        match self {
            Self::BodyTooLarge { .. } => row("body-too-large", 413, O::BodyTooLarge),
            Self::ClientGone => row("client-gone", 400, O::ClientDisconnected).closing(),
            Self::Forbidden(_) => row("forbidden", 403, O::Forbidden),
            Self::HeadersTooLarge => row("headers-too-large", 431, O::HeadersTooLarge).closing(),
            Self::Internal => row("internal", 500, O::Internal),
            Self::InvalidLink(invalid) => {
                row("invalid-request", 400, O::InvalidRequest).with_code(invalid.code)
            }
            Self::InvalidRequest(invalid) => {
                row("invalid-request", 200, O::InvalidRequest).with_code(invalid.code)
            }
            Self::LoopDetected => row("loop-detected", 508, O::LoopDetected),
            Self::Malformed(_) => row("malformed", 400, O::Malformed).closing(),
            Self::MethodNeverAllowed => {
                row("method-not-allowed", 405, O::MethodNotAllowed).closing()
            }
            Self::LinkMethodNotAllowed | Self::MethodNotAllowed(_) => {
                row("method-not-allowed", 405, O::MethodNotAllowed)
            }
            Self::NotFound(_) => row("not-found", 404, O::NotFound),
            Self::Overloaded(_) => row("overloaded", 503, O::Overloaded).retrying_after(1),
            Self::RateLimited {
                limiter,
                exceeded,
                code,
            } => {
                let seconds = exceeded.map_or(1, |exceeded| exceeded.retry_after());
                let mut row = row("rate-limited", 429, O::RateLimited).with_code(code);
                row.closes_connection = *limiter == Limiter::Address;
                row.retrying_after(seconds)
            }
            Self::RequestTimeout => row("request-timeout", 408, O::RequestTimeout).closing(),
            Self::Unauthenticated(_) => row("unauthenticated", 401, O::Unauthenticated),
            Self::UnsupportedMediaType(_) => {
                row("unsupported-media-type", 415, O::UnsupportedMediaType)
            }
            Self::Upstream(error) => match error.kind {
                UpstreamErrorKind::Timeout
                | UpstreamErrorKind::ConnectFailed(ConnectError::Timeout) => {
                    row("node-timeout", 504, O::NodeTimeout)
                }
                UpstreamErrorKind::ConnectFailed(_)
                | UpstreamErrorKind::ConnectionClosed
                | UpstreamErrorKind::InvalidResponse
                | UpstreamErrorKind::ResponseIncomplete => row("node-failed", 502, O::NodeFailed),
                UpstreamErrorKind::NoNodeAvailable => {
                    row("no-healthy-node", 503, O::NoHealthyNode).retrying_after(1)
                }
            },
        }
    }

    /// Returns the error type of `Proxy-Status` (RFC 9209, 2.3). It is the same for every request that did not
    /// verify, and names no node.
    pub(super) fn proxy_error(&self) -> &'static str {
        match self {
            Self::Forbidden(_)
            | Self::InvalidLink(_)
            | Self::InvalidRequest(_)
            | Self::LinkMethodNotAllowed
            | Self::MethodNeverAllowed
            | Self::MethodNotAllowed(_)
            | Self::NotFound(_)
            | Self::RateLimited { .. }
            | Self::Unauthenticated(_)
            | Self::UnsupportedMediaType(_) => "http_request_denied",
            Self::BodyTooLarge { .. }
            | Self::ClientGone
            | Self::HeadersTooLarge
            | Self::Malformed(_)
            | Self::RequestTimeout => "http_request_error",
            Self::Internal => "proxy_internal_error",
            Self::LoopDetected => "proxy_loop_detected",
            Self::Overloaded(_) => "connection_limit_reached",
            Self::Upstream(error) => match error.kind {
                UpstreamErrorKind::ConnectFailed(cause) => connect_error(cause),
                UpstreamErrorKind::ConnectionClosed => "connection_terminated",
                UpstreamErrorKind::ResponseIncomplete => "http_response_incomplete",
                UpstreamErrorKind::InvalidResponse => "http_protocol_error",
                UpstreamErrorKind::NoNodeAvailable => "destination_unavailable",
                UpstreamErrorKind::Timeout if error.request_sent => "http_response_timeout",
                UpstreamErrorKind::Timeout => "connection_timeout",
            },
        }
    }

    /// Returns the text that a client sees: which rule, never which part of a signature.
    pub fn public_message(&self) -> String {
        match self {
            Self::InvalidLink(invalid) | Self::InvalidRequest(invalid) => invalid.text.clone(),
            Self::Unauthenticated(_) => "authentication failed".to_owned(),
            other => other.to_string(),
        }
    }

    /// Returns the text for the operator, which also names the limit and what is wrong with a signature.
    pub fn reason(&self) -> String {
        match self {
            Self::RateLimited { limiter, .. } => format!("too many requests: {}", limiter.as_str()),
            Self::Overloaded(reason) => {
                format!("the gateway is at its limit: {}", reason.as_str())
            }
            other => other.to_string(),
        }
    }
}

/// Returns the error type of `Proxy-Status` for a connection that was not established.
fn connect_error(cause: ConnectError) -> &'static str {
    match cause {
        ConnectError::Refused => "connection_refused",
        ConnectError::Timeout => "connection_timeout",
        ConnectError::NoAddress => "dns_error",
        ConnectError::Certificate => "tls_certificate_error",
        ConnectError::Tls => "tls_protocol_error",
        ConnectError::Closed => "connection_terminated",
    }
}

fn row(kind: &'static str, status: u16, outcome: RequestOutcome) -> ErrorResponse {
    ErrorResponse {
        kind,
        status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        code: format_compact!("GW{status}"),
        outcome,
        retry_after: None,
        closes_connection: false,
    }
}

impl ErrorResponse {
    fn with_code(mut self, code: &'static str) -> Self {
        self.code = CompactString::const_new(code);
        self
    }

    fn retrying_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    fn closing(mut self) -> Self {
        self.closes_connection = true;
        self
    }
}

#[cfg(test)]
mod tests;
