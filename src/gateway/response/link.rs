//! Responses to links that play.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::{Content, GatewayResponse, PROXY_STATUS, browser};
use crate::ccfs;
use crate::http_fields::{JSON_UTF_8, X_GATEWAY_ERROR};
use crate::metrics::RequestOutcome;

impl GatewayResponse {
    /// Returns the body; `None` if it streams.
    pub(in crate::gateway) fn body(&self) -> Option<&Bytes> {
        match &self.content {
            Content::Buffered(body) => body.as_ref(),
            Content::Streaming(_) => None,
        }
    }

    /// Drops the fields of the node: a link is opened by browsers.
    pub(in crate::gateway) fn without_node_fields(mut self) -> Self {
        browser::retain(&mut self.headers, browser::is_of_the_gateway);
        self
    }

    /// Makes the response with this JSON, under the gateway's own type whatever the node says.
    pub(in crate::gateway) fn into_json(mut self, status: StatusCode, body: Bytes) -> Self {
        self.status = status;
        self.content = Content::Buffered(Some(body));
        self.headers.insert(CONTENT_TYPE, JSON_UTF_8);
        self
    }

    /// Makes the response to a link where a node gave none of CC-FS.
    pub(in crate::gateway) fn into_node_failure(mut self) -> Self {
        let fields = [
            (X_GATEWAY_ERROR, "node-failed"),
            (PROXY_STATUS, "ccfs-gateway; error=http_protocol_error"),
        ];
        for (name, value) in fields {
            self.headers.insert(name, HeaderValue::from_static(value));
        }
        let text = "the answer of the node is none of CC-FS";
        self.into_json(StatusCode::BAD_GATEWAY, ccfs::envelope("GW502", text))
    }

    /// Makes the redirect to `location`, without a body.
    pub(in crate::gateway) fn into_redirect(mut self, location: HeaderValue) -> Self {
        self.status = StatusCode::FOUND;
        self.content = Content::Buffered(Some(Bytes::new()));
        self.headers.remove(RETRY_AFTER);
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
