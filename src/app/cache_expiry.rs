//! Frees what the cache holds of responses whose URLs have expired. Whether a response may be served is
//! judged at each hit; this only returns its memory.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use crate::gateway::GatewayState;
use crate::task::boxed;

/// Starts the task, which ends when the handle is dropped.
pub(super) fn start(shared: &Arc<GatewayState>) -> AbortOnDropHandle<()> {
    let shared = shared.clone();
    #[expect(clippy::disallowed_methods, reason = "ends with its handle")]
    let task = tokio::spawn(boxed(async move {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let shared = shared.clone();
            let pass =
                tokio::task::spawn_blocking(move || shared.cache.remove_expired(super::now()));
            if pass.await.is_err() {
                return;
            }
        }
    }));
    AbortOnDropHandle::new(task)
}

const INTERVAL: Duration = Duration::from_secs(30);
