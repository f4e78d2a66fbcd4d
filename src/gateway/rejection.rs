//! Every refusal and failure, and the one table that says what each becomes.

use http::{Method, StatusCode};

use crate::auth::AuthError;
use crate::ccfs::InvalidRequest;
use crate::limit::RateLimited;
use crate::message::{UpstreamError, UpstreamErrorKind};
use crate::metrics::{Limiter, RequestOutcome, ShedReason};

/// Why a request is not answered with what it asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Rejection {
    /// More body than allowed.
    #[error("the body is larger than {limit} bytes")]
    BodyTooLarge {
        /// The limit.
        limit: usize,
    },
    /// Nobody is there to be answered.
    #[error("the client left")]
    ClientGone,
    /// A larger head than allowed.
    #[error("the request head is larger than allowed")]
    HeadersTooLarge,
    /// A defect of ours.
    #[error("internal error")]
    Internal,
    /// What CC-FS itself would refuse.
    #[error(transparent)]
    InvalidRequest(#[from] InvalidRequest),
    /// Not legal HTTP; says which rule.
    #[error("{0}")]
    Malformed(&'static str),
    /// CONNECT or TRACE.
    #[error("this method is not served on any path")]
    MethodNeverAllowed,
    /// The path is known, the method is not.
    #[error("only {0} is allowed here")]
    MethodNotAllowed(Method),
    /// No path, listener or interface.
    #[error("{0}")]
    NotFound(&'static str),
    /// Nobody delivered.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The gateway is at one of its own caps.
    #[error("the gateway is at its limit")]
    Overloaded(ShedReason),
    /// A limit of this caller or address.
    #[error("too many requests")]
    RateLimited {
        /// Which limiter.
        limiter: Limiter,
        /// The budget, where it is one.
        exceeded: Option<RateLimited>,
        /// 0300008 on downloads, 0300009 elsewhere.
        code: &'static str,
    },
    /// Head or body did not come in time.
    #[error("the request did not arrive in time")]
    RequestTimeout,
    /// Not proved who asks. The text is for the log; outside all look the same.
    #[error(transparent)]
    Unauthenticated(#[from] AuthError),
    /// A body of another kind than JSON in UTF-8.
    #[error("{0}")]
    UnsupportedMediaType(&'static str),
}

/// One line of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ErrorResponse {
    /// `X-Gateway-Error`.
    pub kind: &'static str,
    /// HTTP status.
    pub status: StatusCode,
    /// resultCode.
    pub code: &'static str,
    /// How it is counted.
    pub outcome: RequestOutcome,
    /// Must the connection end?
    pub closes_connection: bool,
}

impl Rejection {
    /// The table of `README.md`, "Errors".
    #[expect(clippy::too_many_lines, reason = "one table, one line for each")]
    pub fn error_response(&self) -> ErrorResponse {
        let (kind, status, code, outcome) = match self {
            Self::BodyTooLarge { .. } => (
                "body-too-large",
                StatusCode::PAYLOAD_TOO_LARGE,
                "GW413",
                RequestOutcome::BodyTooLarge,
            ),
            Self::ClientGone => (
                "client-gone",
                StatusCode::BAD_REQUEST,
                "GW400",
                RequestOutcome::ClientDisconnected,
            ),
            Self::HeadersTooLarge => (
                "headers-too-large",
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "GW431",
                RequestOutcome::HeadersTooLarge,
            ),
            Self::Internal => (
                "internal",
                StatusCode::INTERNAL_SERVER_ERROR,
                "GW500",
                RequestOutcome::Internal,
            ),
            Self::InvalidRequest(invalid) => (
                "invalid-request",
                StatusCode::OK,
                invalid.code,
                RequestOutcome::InvalidRequest,
            ),
            Self::Malformed(_) => (
                "malformed",
                StatusCode::BAD_REQUEST,
                "GW400",
                RequestOutcome::Malformed,
            ),
            Self::MethodNeverAllowed | Self::MethodNotAllowed(_) => (
                "method-not-allowed",
                StatusCode::METHOD_NOT_ALLOWED,
                "GW405",
                RequestOutcome::MethodNotAllowed,
            ),
            Self::NotFound(_) => (
                "not-found",
                StatusCode::NOT_FOUND,
                "GW404",
                RequestOutcome::NotFound,
            ),
            Self::Upstream(failure) => return upstream_error_response(failure.kind),
            Self::Overloaded(_) => (
                "overloaded",
                StatusCode::SERVICE_UNAVAILABLE,
                "GW503",
                RequestOutcome::Overloaded,
            ),
            Self::RateLimited { code, .. } => (
                "rate-limited",
                StatusCode::TOO_MANY_REQUESTS,
                *code,
                RequestOutcome::RateLimited,
            ),
            Self::RequestTimeout => (
                "request-timeout",
                StatusCode::REQUEST_TIMEOUT,
                "GW408",
                RequestOutcome::RequestTimeout,
            ),
            Self::Unauthenticated(_) => (
                "unauthenticated",
                StatusCode::UNAUTHORIZED,
                "GW401",
                RequestOutcome::Unauthenticated,
            ),
            Self::UnsupportedMediaType(_) => (
                "unsupported-media-type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "GW415",
                RequestOutcome::UnsupportedMediaType,
            ),
        };
        ErrorResponse {
            kind,
            status,
            code,
            outcome,
            closes_connection: self.closes_connection(),
        }
    }

    /// The text a client sees: which rule, never which part of a signature.
    pub fn public_message(&self) -> String {
        match self {
            Self::InvalidRequest(invalid) => invalid.text.clone(),
            Self::Unauthenticated(_) => "authentication failed".to_owned(),
            Self::BodyTooLarge { .. }
            | Self::ClientGone
            | Self::HeadersTooLarge
            | Self::Internal
            | Self::Malformed(_)
            | Self::MethodNeverAllowed
            | Self::MethodNotAllowed(_)
            | Self::Upstream(_)
            | Self::NotFound(_)
            | Self::Overloaded(_)
            | Self::RateLimited { .. }
            | Self::RequestTimeout
            | Self::UnsupportedMediaType(_) => self.to_string(),
        }
    }

    /// The text for the operator: also which limit it was, and what is wrong with a signature.
    pub fn reason(&self) -> String {
        match self {
            Self::RateLimited { limiter, .. } => format!("too many requests: {}", limiter.as_str()),
            Self::Overloaded(cap) => format!("the gateway is at its limit: {}", cap.as_str()),
            other => other.to_string(),
        }
    }

    /// `Retry-After` in seconds, where the table has one.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::RateLimited { exceeded, .. } => Some(exceeded.map_or(1, |e| e.retry_after())),
            Self::Overloaded(_) => Some(1),
            Self::Upstream(failure) if failure.kind == UpstreamErrorKind::NoNodeAvailable => {
                Some(1)
            }
            _ => None,
        }
    }

    /// Where bytes of an illegal or unfinished request, or a flood, may follow.
    fn closes_connection(&self) -> bool {
        match self {
            Self::ClientGone
            | Self::HeadersTooLarge
            | Self::Malformed(_)
            | Self::MethodNeverAllowed
            | Self::RequestTimeout
            | Self::RateLimited {
                limiter: Limiter::Address,
                ..
            } => true,
            Self::BodyTooLarge { .. }
            | Self::Internal
            | Self::InvalidRequest(_)
            | Self::MethodNotAllowed(_)
            | Self::Upstream(_)
            | Self::NotFound(_)
            | Self::Overloaded(_)
            | Self::RateLimited { .. }
            | Self::Unauthenticated(_)
            | Self::UnsupportedMediaType(_) => false,
        }
    }
}

fn upstream_error_response(cause: UpstreamErrorKind) -> ErrorResponse {
    let (kind, status, code, outcome) = match cause {
        UpstreamErrorKind::ConnectionClosed
        | UpstreamErrorKind::InvalidResponse
        | UpstreamErrorKind::ConnectFailed => (
            "node-failed",
            StatusCode::BAD_GATEWAY,
            "GW502",
            RequestOutcome::NodeFailed,
        ),
        UpstreamErrorKind::NoNodeAvailable => (
            "no-healthy-node",
            StatusCode::SERVICE_UNAVAILABLE,
            "GW503",
            RequestOutcome::NoHealthyNode,
        ),
        UpstreamErrorKind::Timeout => (
            "node-timeout",
            StatusCode::GATEWAY_TIMEOUT,
            "GW504",
            RequestOutcome::NodeTimeout,
        ),
    };
    ErrorResponse {
        kind,
        status,
        code,
        outcome,
        closes_connection: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rate;
    use crate::message::AttemptSummary;

    /// The whole table as it stands in the contract and in the README.
    #[test]
    #[expect(clippy::too_many_lines, reason = "one table")]
    fn every_error_has_its_line() {
        let node = |cause| {
            Rejection::Upstream(UpstreamError {
                kind: cause,
                request_sent: false,
                attempts: AttemptSummary::default(),
            })
        };
        let limited = |code| Rejection::RateLimited {
            limiter: Limiter::AccessKey,
            exceeded: Some(RateLimited {
                rate: Rate {
                    per_second: 1,
                    burst: 1,
                },
                wait: std::time::Duration::from_millis(1500),
            }),
            code,
        };
        let invalid = InvalidRequest {
            code: "0300001",
            text: "callId is null".to_owned(),
            reason: "null",
        };
        let table = [
            (
                Rejection::InvalidRequest(invalid),
                "invalid-request 200 0300001",
            ),
            (Rejection::Malformed("x"), "malformed 400 GW400 close"),
            (
                Rejection::Unauthenticated(AuthError::UnknownKey),
                "unauthenticated 401 GW401",
            ),
            (
                Rejection::Unauthenticated(AuthError::WrongSignature),
                "unauthenticated 401 GW401",
            ),
            (Rejection::NotFound("x"), "not-found 404 GW404"),
            (
                Rejection::MethodNotAllowed(Method::POST),
                "method-not-allowed 405 GW405",
            ),
            (Rejection::RequestTimeout, "request-timeout 408 GW408 close"),
            (
                Rejection::BodyTooLarge { limit: 1 },
                "body-too-large 413 GW413",
            ),
            (
                Rejection::UnsupportedMediaType("x"),
                "unsupported-media-type 415 GW415",
            ),
            (
                Rejection::HeadersTooLarge,
                "headers-too-large 431 GW431 close",
            ),
            (limited("0300009"), "rate-limited 429 0300009 retry-after 2"),
            (limited("0300008"), "rate-limited 429 0300008 retry-after 2"),
            (
                node(UpstreamErrorKind::NoNodeAvailable),
                "no-healthy-node 503 GW503 retry-after 1",
            ),
            (
                Rejection::Overloaded(ShedReason::InFlight),
                "overloaded 503 GW503 retry-after 1",
            ),
            (
                node(UpstreamErrorKind::ConnectFailed),
                "node-failed 502 GW502",
            ),
            (
                node(UpstreamErrorKind::ConnectionClosed),
                "node-failed 502 GW502",
            ),
            (
                node(UpstreamErrorKind::InvalidResponse),
                "node-failed 502 GW502",
            ),
            (node(UpstreamErrorKind::Timeout), "node-timeout 504 GW504"),
            (Rejection::Internal, "internal 500 GW500"),
        ];
        for (rejection, expected) in table {
            let answer = rejection.error_response();
            let mut line = format!("{} {} {}", answer.kind, answer.status.as_u16(), answer.code);
            if answer.closes_connection {
                line += " close";
            }
            if let Some(seconds) = rejection.retry_after() {
                line += &format!(" retry-after {seconds}");
            }
            println!("{line}");
            assert_eq!(line, expected, "{rejection:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_signature_stays_inside() {
        let texts = [
            AuthError::UnknownKey,
            AuthError::WrongSignature,
            AuthError::Disabled,
        ]
        .map(|error| Rejection::from(error).public_message());
        assert!(texts.iter().all(|text| *text == texts[0]));
    }
}
