//! The last requests that failed, for people: bounded, without secrets. Each worker keeps those of the last second,
//! which one reader takes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use jiff::Timestamp;

use super::RequestOutcome;

/// The requests of one worker, or of all of them, that failed since they were last taken. Those that failed at
/// the gateway or a node and those that were refused have places of their own, so that no client can take the
/// places of the former.
#[derive(Clone, Debug, Default)]
pub struct FailedRequests {
    /// Failed at the gateway or at a node.
    pub failed: Vec<FailedRequest>,
    /// Refused for what they are.
    pub refused: Vec<FailedRequest>,
}

/// A request that failed.
#[derive(Clone, Debug)]
pub struct FailedRequest {
    /// When its head had been read.
    pub at: Timestamp,
    /// The `X-Request-Id` of its response.
    pub request_id: CompactString,
    /// The listener.
    pub listener: Arc<str>,
    /// The client's address.
    pub client: IpAddr,
    /// The access key, if it was verified.
    pub access_key: Option<Arc<str>>,
    /// The callId of a verified request.
    pub call_id: Option<CompactString>,
    /// The method; `None` if the head was malformed.
    pub method: Option<CompactString>,
    /// The interface; `None` for unknown paths.
    pub interface: Option<&'static str>,
    /// The path without the query, shortened.
    pub path: Option<CompactString>,
    /// The status of the response; 0 if none was sent.
    pub status: u16,
    /// The resultCode of the response.
    pub result_code: Option<CompactString>,
    /// The outcome.
    pub outcome: RequestOutcome,
    /// The node that was tried last.
    pub node: Option<Arc<str>>,
    /// Upstream attempts made.
    pub attempts: u32,
    /// From its head to its end.
    pub duration: Duration,
    /// Why, for the operator, shortened.
    pub reason: Option<CompactString>,
}

/// How a request failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RequestFailure {
    /// At the gateway or at a node.
    Failed,
    /// Refused for what it is.
    Refused,
}

impl RequestFailure {
    /// Returns how a request with this status and outcome failed; `None` if it did not. A call that CC-FS has no
    /// recording of is no failure, and neither is a client that has gone.
    pub fn of(status: u16, outcome: RequestOutcome) -> Option<Self> {
        match (status, outcome) {
            (400..500, _) | (_, RequestOutcome::InvalidRequest) => Some(Self::Refused),
            (500.., _) | (_, RequestOutcome::NodeFailed | RequestOutcome::NodeTimeout) => {
                Some(Self::Failed)
            }
            _ => None,
        }
    }
}

impl FailedRequests {
    /// Adds a request, unless all places of its kind are taken.
    pub(super) fn note(
        &mut self,
        failure: RequestFailure,
        request: impl FnOnce() -> FailedRequest,
    ) {
        let places = match failure {
            RequestFailure::Failed => &mut self.failed,
            RequestFailure::Refused => &mut self.refused,
        };
        if places.len() < PLACES {
            places.push(request());
        }
    }

    /// Adds all requests of `other`.
    pub(super) fn merge(&mut self, other: Self) {
        self.failed.extend(other.failed);
        self.refused.extend(other.refused);
    }
}

/// Places of each kind and worker between two readings, a second apart. Our choice: as many as people are shown.
const PLACES: usize = 25;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_are_noted() {
        use RequestOutcome as O;
        let of = RequestFailure::of;
        assert_eq!(of(200, O::Node), None);
        assert_eq!(of(302, O::Node), None);
        assert_eq!(of(0, O::ClientDisconnected), None);
        assert_eq!(of(200, O::InvalidRequest), Some(RequestFailure::Refused));
        assert_eq!(of(401, O::Unauthenticated), Some(RequestFailure::Refused));
        assert_eq!(of(502, O::NodeFailed), Some(RequestFailure::Failed));
        assert_eq!(of(503, O::Node), Some(RequestFailure::Failed));
        // The body was cut off after a head of 200.
        assert_eq!(of(200, O::NodeFailed), Some(RequestFailure::Failed));
    }
}
