//! The members of `/status` that speak of access keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::admin::AdminState;
use crate::admin::history::rounded;
use crate::admin::key_rates::{KeyRates, KeyUsage};
use crate::auth::AccessKey;
use crate::ccfs::offset_text;
use crate::config::{KeyDirectory, MAX_LISTED};
use crate::gateway::{Account, Snapshot};

/// Returns the access keys of which most recordings were not found in the last ten minutes.
pub(super) fn recordings_not_found(
    state: &AdminState,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Value {
    let recent = state.shared.not_found.recent(now);
    let shown = recent.iter().take(TOP_KEYS).map(|one| {
        let account = snapshot.account(&one.access_key);
        let counts = &one.counts;
        let times_off = counts
            .times_off
            .iter()
            .map(|&(by, count)| json!({ "by": offset_text(by), "count": count }));
        json!({
            "access_key": one.access_key,
            "requests": account.map(|account| account.recent_recordings(now)),
            "not_found": counts.not_found,
            "not_synchronised": counts.not_synchronised,
            "ends_before_call": counts.ends_before_call,
            "begins_after_call": counts.begins_after_call,
            "times_off": times_off.collect::<Vec<_>>(),
        })
    });
    shown.collect()
}

/// Returns the state of `access_keys_dir`.
pub(super) fn key_directory(directory: &KeyDirectory) -> Value {
    let refused = directory.refused().values().take(MAX_LISTED).map(|file| {
        let keys = file.not_yet_revoked.iter().map(AccessKey::as_str);
        json!({
            "file": file.path.display().to_string(),
            "message": file.message,
            "not_yet_revoked": keys.take(MAX_LISTED).collect::<Vec<_>>(),
            "not_yet_revoked_omitted": file.not_yet_revoked.len().saturating_sub(MAX_LISTED),
        })
    });
    let contested = directory.contested().take(MAX_LISTED).map(|contested| {
        json!({ "access_key": contested.access_key.as_str(), "files": contested.files })
    });
    json!({
        "directory": directory.path().display().to_string(),
        "files": directory.files(),
        "error": directory.error(),
        "refused": refused.collect::<Vec<_>>(),
        "refused_omitted": directory.refused().len().saturating_sub(MAX_LISTED),
        "in_several_files": contested.collect::<Vec<_>>(),
        "in_several_files_omitted": directory.contested().len().saturating_sub(MAX_LISTED),
    })
}

/// Returns the number of access keys of each plan.
pub(in crate::admin) fn access_keys_by_plan(
    state: &AdminState,
    snapshot: &Snapshot,
) -> BTreeMap<Arc<str>, usize> {
    let config = state.config.load();
    let mut counts: BTreeMap<_, _> = config.plans.keys().map(|name| (name.clone(), 0)).collect();
    if counts.is_empty() {
        return counts;
    }
    for account in snapshot.accounts() {
        if let Some(count) = account
            .settings
            .plan
            .as_ref()
            .and_then(|it| counts.get_mut(it))
        {
            *count += 1;
        }
    }
    counts
}

pub(super) fn plans(state: &AdminState, snapshot: &Snapshot) -> Value {
    let counts = access_keys_by_plan(state, snapshot)
        .into_iter()
        .take(MAX_LISTED);
    Value::Object(
        counts
            .map(|(name, count)| (name.to_string(), count.into()))
            .collect(),
    )
}

/// Returns the accounts whose second secret was used in the last seven days.
pub(in crate::admin) fn second_secrets(
    snapshot: &Snapshot,
    now: Timestamp,
) -> impl Iterator<Item = (&Arc<Account>, Timestamp)> {
    snapshot.accounts().filter_map(move |account| {
        let used = account.second_secret_used()?;
        (now.duration_since(used) <= SECOND_SECRET_WINDOW).then_some((account, used))
    })
}

/// Returns the accounts with two secrets, those first whose second one was never used: it can be removed.
pub(super) fn second_secrets_json(snapshot: &Snapshot, now: Timestamp) -> Value {
    let has_two = |account: &&Arc<Account>| account.credential.secrets().len() > 1;
    let mut accounts: Vec<_> = snapshot.accounts().filter(has_two).collect();
    let order = |account: &Arc<Account>| {
        let name = account.credential.access_key().clone();
        (account.second_secret_used(), name)
    };
    accounts.sort_by_cached_key(|account| order(account));
    let shown = accounts.iter().take(MAX_LISTED).map(|account| {
        let used = account.second_secret_used();
        let note = match used.map(|used| now.duration_since(used).as_secs()) {
            None => "never since the start: safe to remove".to_owned(),
            Some(seconds @ ..172_800) => format!("last used {} hours ago", seconds.max(0) / 3_600),
            Some(seconds) => format!("last used {} days ago", seconds / 86_400),
        };
        json!({
            "access_key": account.credential.access_key().as_str(),
            "last_used": used.map(|used| used.to_string()),
            "note": note,
        })
    });
    json!({
        "used_in_7_days": second_secrets(snapshot, now).count(),
        "access_keys": shown.collect::<Vec<_>>(),
        "access_keys_omitted": accounts.len().saturating_sub(MAX_LISTED),
    })
}

/// Returns the busiest access keys.
pub(super) fn busiest(rates: &KeyRates, snapshot: &Snapshot, now: Timestamp) -> Value {
    let top = rates.top(TOP_KEYS).into_iter();
    top.map(|(access_key, usage)| row(&access_key, usage, snapshot.account(&access_key), now))
        .collect()
}

/// Which access keys the status page asks for.
#[derive(Debug, Default)]
pub(in crate::admin) struct KeyQuery {
    /// Part of the access key, its name or its plan, in lower case.
    pub(in crate::admin) filter: String,
    /// By which member of the rows they are ordered, the largest first; the rate if it is none of them.
    pub(in crate::admin) sort: String,
}

/// Returns the rows of the access keys that match, at most [`MAX_ROWS`] of them, and how many match. Takes one look
/// at each access key, and only if it is filtered or sorted.
pub(super) fn rows(
    query: &KeyQuery,
    rates: &KeyRates,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Value {
    let order = |account: &Account| order(&query.sort, account, rates);
    let mut matching: Vec<_> = snapshot
        .accounts()
        .filter(|account| query.matches(account))
        .map(|account| (order(account), account))
        .collect();
    let count = matching.len();
    let compare = |(one, a): &(f64, &Arc<Account>), (other, b): &(f64, &Arc<Account>)| {
        let (a, b) = (a.credential.access_key(), b.credential.access_key());
        other
            .total_cmp(one)
            .then_with(|| a.as_str().cmp(b.as_str()))
    };
    if count > MAX_ROWS {
        matching.select_nth_unstable_by(MAX_ROWS, compare);
        matching.truncate(MAX_ROWS);
    }
    matching.sort_by(compare);
    let rows = matching.into_iter().map(|(_, account)| {
        let access_key = account.credential.access_key().as_str();
        row(access_key, rates.usage(access_key), Some(account), now)
    });
    json!({ "matching": count, "rows": rows.collect::<Vec<_>>() })
}

impl KeyQuery {
    fn matches(&self, account: &Account) -> bool {
        let contains = |text: &str| text.to_lowercase().contains(&self.filter);
        self.filter.is_empty()
            || contains(account.credential.access_key().as_str())
            || account.settings.name.as_deref().is_some_and(contains)
            || account.settings.plan.as_deref().is_some_and(contains)
    }
}

#[expect(clippy::cast_precision_loss, reason = "an order for the eye")]
fn order(sort: &str, account: &Account, rates: &KeyRates) -> f64 {
    let totals = account.totals();
    let count = match sort {
        "requests" => account.admitted(),
        "hits" => totals.hits,
        "refused" => totals.refused,
        "limited" => totals.limited,
        "failed" => totals.failed,
        "not_found" => totals.not_found,
        _ if account.admitted() == 0 => 0,
        _ => return rates.usage(account.credential.access_key().as_str()).rate,
    };
    count as f64
}

/// Returns one row. Of an access key that is not configured any more only the usage is known.
fn row(access_key: &str, usage: KeyUsage, account: Option<&Arc<Account>>, now: Timestamp) -> Value {
    let mut row = json!({
        "access_key": access_key,
        "requests": account.map_or(usage.count, |account| account.admitted()),
        "per_second": rounded(usage.rate),
    });
    let Some(account) = account else {
        return row;
    };
    let (settings, totals) = (&account.settings, account.totals());
    row["name"] = json!(settings.name);
    row["plan"] = json!(settings.plan);
    row["hits"] = totals.hits.into();
    row["refused"] = totals.refused.into();
    row["limited"] = totals.limited.into();
    row["failed"] = totals.failed.into();
    row["not_found"] = totals.not_found.into();
    row["state"] = state(account, now).into();
    row["not_before"] = json!(settings.validity.not_before.map(|time| time.to_string()));
    row["not_after"] = json!(settings.validity.not_after.map(|time| time.to_string()));
    let has_two = account.credential.secrets().len() > 1;
    let used = account.second_secret_used();
    row["second_secret"] =
        json!(has_two.then(|| json!({ "last_used": used.map(|used| used.to_string()) })));
    row
}

/// Returns whether an account is usable, or why not.
fn state(account: &Account, now: Timestamp) -> &'static str {
    let validity = &account.settings.validity;
    if !account.credential.enabled() {
        "disabled-by-configuration"
    } else if account.is_disabled_by_order() {
        "disabled-by-order"
    } else if validity.not_before.is_some_and(|begin| now < begin) {
        "not-yet-valid"
    } else if validity.contains(now) {
        "usable"
    } else {
        "no-longer-valid"
    }
}

/// A secret that was not used for a week is not used by a job that runs weekly either.
const SECOND_SECRET_WINDOW: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How many access keys the status page has room for.
const TOP_KEYS: usize = 8;

/// Rows of one answer to the filter of the status page. Our choice: what one looks through.
const MAX_ROWS: usize = 50;
