//! Orders that disable and enable access keys.

use http::StatusCode;
use serde_json::json;

use super::respond::{self, AdminResponse};
use super::{Admin, PURGE_PUBLISH_TIMEOUT, Purge};
use crate::gateway::Account;

/// Without a shared store, or while it is unavailable.
const UNTIL_RESTART: &str = "until restart";

impl Admin {
    /// Handles `/access_keys/{ak}/disable` and `…/enable`.
    pub(super) async fn access_key_command(&self, path: &str) -> AdminResponse {
        if !self.guard.has_token() {
            return respond::problem(
                StatusCode::FORBIDDEN,
                "orders to access keys need a token, on loopback too: set [admin] token_file",
            );
        }
        let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
        let order = decoded
            .strip_prefix("/access_keys/")
            .and_then(|it| it.rsplit_once('/'));
        let (access_key, is_disabled) = match order {
            Some((access_key, "disable")) => (access_key, true),
            Some((access_key, "enable")) => (access_key, false),
            _ => {
                return respond::problem(
                    StatusCode::NOT_FOUND,
                    "expected /access_keys/{ak}/disable or /access_keys/{ak}/enable",
                );
            }
        };
        let account = self
            .state
            .shared
            .snapshot
            .load()
            .account(access_key)
            .cloned();
        let Some(account) = account else {
            return respond::problem(StatusCode::NOT_FOUND, "no such access key");
        };
        if !account.credential.enabled() {
            return respond::problem(
                StatusCode::CONFLICT,
                "the configuration says enabled = false for this access key",
            );
        }
        account.order(is_disabled);
        if is_disabled {
            self.state.shared.end_waits(access_key);
        }
        let kept = self.keep_order(&account, is_disabled).await;
        let mut urls_live_until = None;
        if is_disabled {
            urls_live_until = self.end_of(access_key).await;
        }
        tracing::info!(access_key, is_disabled, "access key is ordered");
        respond::json(
            StatusCode::OK,
            &json!({
                "ak": access_key,
                "enabled": !is_disabled,
                "kept": kept,
                "urls_live_until": urls_live_until.map(|end| end.to_string()),
            }),
        )
    }

    /// Writes an order to the shared store, which tells the other replicas. Returns where it is kept: one
    /// that was given while the store is unavailable is written once it is back.
    async fn keep_order(&self, account: &Account, is_disabled: bool) -> &'static str {
        let Some(store) = self.state.shared.store.load_full() else {
            return UNTIL_RESTART;
        };
        let access_key = account.credential.access_key();
        store.order(access_key, is_disabled, account.settings.own_table);
        match store
            .wait_until_ordered(access_key, PURGE_PUBLISH_TIMEOUT)
            .await
        {
            true => "store",
            false => UNTIL_RESTART,
        }
    }

    /// Removes the cached responses of an access key. Returns when the last of the recording URLs in these
    /// expires.
    async fn end_of(&self, access_key: &str) -> Option<jiff::Timestamp> {
        let shared = self.state.shared.clone();
        let of_key = access_key.to_owned();
        let find = move || shared.cache.latest_expiry(&of_key);
        // Fails only by panic.
        let latest = tokio::task::spawn_blocking(find).await.ok().flatten();
        let purge = Purge {
            access_key: Some(access_key.into()),
            call_id: None,
        };
        if let Some(store) = self.state.shared.store.load_full() {
            store.purge([purge.clone()]);
        }
        self.purge_cache(purge).await;
        latest
    }
}
