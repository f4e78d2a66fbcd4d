//! The callers without a secret key in `/status`.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::config::MAX_LISTED;
use crate::gateway::{Caller, Snapshot};

/// Returns the callers in the order of their names, at most [`MAX_LISTED`].
pub(super) fn list(snapshot: &Snapshot, now: Timestamp) -> Value {
    let callers = snapshot.callers().take(MAX_LISTED);
    callers.map(|it| caller(it, snapshot, now)).collect()
}

/// Returns how many callers the list leaves out.
pub(super) fn omitted(snapshot: &Snapshot) -> usize {
    snapshot.callers().len().saturating_sub(MAX_LISTED)
}

fn caller(caller: &Caller, snapshot: &Snapshot, now: Timestamp) -> Value {
    let settings = &caller.settings;
    let account = snapshot.account(settings.access_key.as_str());
    let totals = caller.totals();
    let is_usable = account.is_some_and(|account| account.is_usable(now)) && caller.is_usable(now);
    json!({
        "name": settings.name,
        "access_key": settings.access_key.as_str(),
        "usable": is_usable,
        "listeners": settings.listeners,
        "interfaces": settings.interfaces,
        "not_after": settings.validity.not_after.map(|end| end.to_string()),
        "requests": caller.admitted(),
        "hits": totals.hits,
        "refused": totals.refused,
        "limited": totals.limited,
        "failed": totals.failed,
        "not_found": totals.not_found,
        "in_flight": caller.in_flight(),
        "in_flight_limit": account.map(|account| caller.in_flight_limit(account)),
        "rate_limit": settings.rate_limit,
    })
}
