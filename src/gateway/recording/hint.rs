//! The hint of a response without data: why the recording may not have been found. Made for each request,
//! never stored or shared.

use http::{HeaderMap, HeaderValue};

use super::super::Gateway;
use super::super::account_counts::Setback;
use super::super::context::{RequestContext, wall_clock};
use super::super::response::GatewayResponse;
use crate::ccfs::{NO_DATA, RecordingHint, SentTimes};
use crate::http_fields::X_GATEWAY_HINT;

impl Gateway {
    /// Adds the hint to a response that says that there is no data, and counts it for its access key.
    pub(in crate::gateway) fn add_hint(
        &self,
        context: &mut RequestContext,
        response: &mut GatewayResponse,
    ) {
        if context.record.result_code.as_deref() == Some(NO_DATA) {
            self.explain_no_data(context, response);
        }
    }

    #[cold]
    fn explain_no_data(&self, context: &mut RequestContext, response: &mut GatewayResponse) {
        let record = &context.record;
        let Some(access_key) = &record.access_key else {
            return;
        };
        let Some(account) = context.snapshot.account(access_key) else {
            return;
        };
        let now = wall_clock();
        let sent = SentTimes {
            begin: record.begin_sent,
            end: record.end_sent,
        };
        let zone = &account.tenant.zone;
        let hint = record
            .call_id
            .as_deref()
            .and_then(|call_id| RecordingHint::of(call_id, sent, zone, now));
        self.state.not_found.count(access_key, hint, now);
        context.count_setback_as(Setback::NotFound, Some(account));
        let Some(hint) = hint else { return };
        let text = hint.to_string();
        add_to_list(&mut response.headers, &text);
        context.record.details_mut().hint = Some(text.into());
    }
}

/// Appends an item to `X-Gateway-Hint`, which stays one field.
fn add_to_list(headers: &mut HeaderMap, item: &str) {
    let list = match headers.get(&X_GATEWAY_HINT).map(HeaderValue::to_str) {
        Some(Ok(list)) => format!("{list}, {item}"),
        Some(Err(_)) | None => item.to_owned(),
    };
    if let Ok(list) = HeaderValue::try_from(list) {
        headers.insert(X_GATEWAY_HINT, list);
    }
}
