//! Responses to links that play.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{Content, GatewayResponse};
use crate::metrics::RequestOutcome;

impl GatewayResponse {
    /// Returns the body; `None` if it streams.
    pub(in crate::gateway) fn body(&self) -> Option<&Bytes> {
        match &self.content {
            Content::Buffered(body) => body.as_ref(),
            Content::Streaming(_) => None,
        }
    }

    /// Drops the fields of the node but those that describe its body and say when to come back: a link is opened
    /// by browsers, to which the node must give no cookie, no other place to go and no permission.
    pub(in crate::gateway) fn without_node_fields(mut self) -> Self {
        let fields = std::mem::take(&mut self.headers);
        self.headers = fields
            .into_iter()
            .filter_map(|(name, value)| Some((name?, value)))
            .filter(|(name, _)| is_passed(name))
            .collect();
        self
    }

    /// Makes the redirect to `location`, without a body and without what describes one.
    pub(in crate::gateway) fn into_redirect(mut self, location: HeaderValue) -> Self {
        self.status = StatusCode::FOUND;
        self.content = Content::Buffered(Some(Bytes::new()));
        for name in OF_A_BODY {
            self.headers.remove(name);
        }
        self.headers.insert(LOCATION, location);
        self
    }

    /// Makes the response with a ticket.
    pub(in crate::gateway) fn of_ticket(
        status: StatusCode,
        headers: HeaderMap,
        body: Bytes,
    ) -> Self {
        Self {
            status,
            headers,
            outcome: RequestOutcome::Ticket,
            content: Content::Buffered(Some(body)),
        }
    }
}

/// Whether a field of a response to a recording-URL request stands in the answer to a link.
fn is_passed(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "age" | "cache-control" | "cache-status" | "preference-applied"
    ) || name.as_str().starts_with("x-gateway-")
        || OF_A_BODY.contains(name)
}

/// They describe the answer of CC-FS.
const OF_A_BODY: [HeaderName; 3] = [CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER];
