//! Fills the record of a request with what the request asks for, and in whose name.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::context::RequestContext;
use super::response::GatewayResponse;
use super::{Account, claims};
use crate::auth;
use crate::ccfs::{self, Endpoint, InvalidRequest, MAX_NAME_CHARACTERS, Payload, ResponseKind};

impl RequestContext {
    /// Records what a valid body asks for.
    pub(super) fn record_payload(&mut self, payload: &Payload, account: &Account) {
        let record = &mut self.record;
        record.call_id = payload.owned_call_id();
        let times = payload.sent_times();
        (record.begin_sent, record.end_sent) = (times.begin, times.end);
        if let Some(name) = payload.file_name() {
            record.details_mut().file_name = Some(name.into());
        }
        if payload.is_changed() {
            let zone = ccfs::zone_name(&account.tenant.zone);
            record.details_mut().normalized_zone = Some(zone.into());
        }
        if let Some(call_id) = &mut record.call_id
            && call_id.is_heap_allocated()
            && let Some((end, _)) = call_id.char_indices().nth(MAX_NAME_CHARACTERS)
        {
            call_id.truncate(end);
        }
    }

    /// Records whether the answer gives out a recording, where there is an audit log.
    pub(super) fn record_given(&mut self, endpoint: &Endpoint, response: &GatewayResponse) {
        if self.record.is_audited() && endpoint.gives_recording() {
            self.record.gives_recording = self.is_given(endpoint, response);
        }
    }

    fn is_given(&self, endpoint: &Endpoint, response: &GatewayResponse) -> bool {
        let is_json = || {
            let content_type = response.headers.get(CONTENT_TYPE);
            let content_type = content_type.map_or(&b""[..], HeaderValue::as_bytes);
            let start = content_type.get(..JSON.len()).unwrap_or_default();
            start.eq_ignore_ascii_case(JSON)
        };
        match endpoint.response {
            // Downloads fail with 200 and JSON (interface document, page 4221 and following).
            ResponseKind::File => response.status.is_success() && !is_json(),
            ResponseKind::Json | ResponseKind::SignedUrl => {
                let code = self.record.result_code.as_deref();
                response.status == StatusCode::OK
                    && code.is_some_and(|code| self.snapshot.rules.is_success_code(code))
            }
        }
    }

    /// Records what an invalid body asks for.
    pub(super) fn record_invalid(&mut self, invalid: &InvalidRequest) {
        self.record.call_id.clone_from(&invalid.call_id);
    }

    /// Records the access key that an unverified request names, if the configuration asks for it.
    pub(super) fn record_claimed_key(&mut self, headers: &HeaderMap) {
        if self.snapshot.log_claimed_ak
            && let Some(claimed) = auth::claimed_access_key(headers)
        {
            let shown = claims::shown(claimed, &self.snapshot);
            self.record.details_mut().claimed_access_key = Some(shown);
        }
    }
}

/// The type of failures, also of those of downloads.
const JSON: &[u8] = b"application/json";
