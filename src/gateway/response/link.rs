//! Responses to links that play.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};

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

    /// Makes the redirect to the `Location` that it has, without a body and without what describes one.
    pub(in crate::gateway) fn into_redirect(mut self) -> Self {
        self.status = StatusCode::FOUND;
        self.content = Content::Buffered(Some(Bytes::new()));
        let passed = |name: &HeaderName| {
            matches!(
                name.as_str(),
                "age"
                    | "cache-control"
                    | "cache-status"
                    | "location"
                    | "preference-applied"
                    | "referrer-policy"
            ) || name.as_str().starts_with("x-gateway-")
        };
        let fields = std::mem::take(&mut self.headers);
        self.headers = fields
            .into_iter()
            .filter_map(|(name, value)| Some((name?, value)))
            .filter(|(name, _)| passed(name))
            .collect();
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
