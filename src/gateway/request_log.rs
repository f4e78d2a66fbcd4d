//! Fills the record of a request with what the request asks for, and in whose name.

use http::HeaderMap;

use super::context::RequestContext;
use super::{Account, claims};
use crate::auth;
use crate::ccfs::{self, InvalidRequest, MAX_NAME_CHARACTERS, Payload};

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
