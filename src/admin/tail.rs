//! `GET /tail`: the requests as they end, as NDJSON of access-log objects.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame};

use super::Admin;
use super::respond::{self, AdminResponse};
use crate::metrics::RequestOutcome;
use crate::telemetry::{CannotFollow, MAX_FOLLOWERS, TailFilter, TailStream};

impl Admin {
    /// Follows the requests that the query asks for. The lines name access keys and clients, so that it needs
    /// a token on loopback as well.
    pub(super) fn tail(&self, query: &str) -> AdminResponse {
        if !self.guard.has_token() {
            return respond::problem(StatusCode::FORBIDDEN, TOKEN_NEEDED);
        }
        let filter = match parse(query) {
            Ok(filter) => filter,
            Err(detail) => return respond::problem(StatusCode::BAD_REQUEST, &detail),
        };
        match self.state.tail.follow(filter) {
            Ok(stream) => respond::stream("application/x-ndjson", TailBody(stream)),
            Err(CannotFollow::TooMany) => respond::problem(
                StatusCode::SERVICE_UNAVAILABLE,
                &format!("{MAX_FOLLOWERS} follow already: end one of them"),
            ),
            Err(CannotFollow::Closed) => respond::problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "the gateway is shutting down",
            ),
        }
    }
}

/// Reads the filters of a query.
///
/// # Errors
/// What is wrong: a mistyped filter must not show what nobody asked for.
fn parse(query: &str) -> Result<TailFilter, String> {
    let mut filter = TailFilter::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
        let slot = match name {
            "ak" => &mut filter.access_key,
            "call_id" => &mut filter.call_id,
            "outcome" if filter.outcome.is_none() => {
                filter.outcome = Some(outcome(&value)?);
                continue;
            }
            _ => return Err(USAGE.to_owned()),
        };
        if value.is_empty() || slot.is_some() {
            return Err(USAGE.to_owned());
        }
        *slot = Some(value.into_owned());
    }
    Ok(filter)
}

fn outcome(value: &str) -> Result<RequestOutcome, String> {
    let mut all = RequestOutcome::ALL.iter();
    let found = all.find(|outcome| outcome.as_str() == value).copied();
    found.ok_or_else(|| {
        let names: Vec<_> = RequestOutcome::ALL.iter().map(|it| it.as_str()).collect();
        format!("an outcome is one of {}", names.join(", "))
    })
}

/// The lines of one follower, until the gateway shuts down.
#[derive(Debug)]
pub struct TailBody(TailStream);

impl Body for TailBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let lines = self.0.poll_lines(context);
        lines.map(|lines| lines.map(|lines| Ok(Frame::data(lines))))
    }
}

const TOKEN_NEEDED: &str =
    "following requests needs a token, on loopback too: set [admin] token_file";

const USAGE: &str = "tail takes ak=…, call_id=… and outcome=…, each once and not empty";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_once_and_not_empty() {
        assert_eq!(parse(""), Ok(TailFilter::default()));
        let filter = TailFilter {
            access_key: Some("a b".to_owned()),
            call_id: Some("1-2".to_owned()),
            outcome: Some(RequestOutcome::NodeFailed),
        };
        let query = "ak=a%20b&call_id=1-2&outcome=node_failed";
        assert_eq!(parse(query), Ok(filter));
        for wrong in ["ak=", "ak", "ak=a&ak=b", "a=b", "call_id", "AK=a"] {
            assert_eq!(parse(wrong), Err(USAGE.to_owned()), "{wrong}");
        }
        let wrong = parse("outcome=502").unwrap_err();
        assert!(wrong.contains("node_failed, node_timeout"), "{wrong}");
    }
}
