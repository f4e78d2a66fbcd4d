//! The supervisor task of the shared store, one for all workers.

use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::cache::Purge;
use crate::config;
use crate::gateway::GatewayState;
use crate::metrics::Shard;
use crate::shared_store::{OrderRecord, Store};
use crate::task::boxed;

/// The running task; aborted on drop.
#[derive(Debug)]
pub(super) struct SharedStoreTask(JoinHandle<()>);

impl Drop for SharedStoreTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl SharedStoreTask {
    /// Replaces the current store by the configured one, which takes over its state, and starts its task.
    /// Returns `None` without `[shared]`.
    pub(super) fn start(
        shared: &Arc<GatewayState>,
        settings: Option<&config::SharedStore>,
        metrics: &Arc<Shard>,
    ) -> Option<Self> {
        let before = shared.store.load_full();
        let store = settings.map(|settings| {
            let store = Store::after_reload(settings.clone(), before.as_deref());
            Arc::new(store)
        });
        shared.store.store(store.clone());
        let (store, shared, metrics) = (store?, shared.clone(), metrics.clone());
        #[expect(clippy::disallowed_methods, reason = "ends with its `SharedStoreTask`")]
        let task = tokio::spawn(boxed(async move {
            let on_purge = |purges: Vec<Purge>| {
                shared.begin_purge(purges.into_iter().collect());
                let shared = shared.clone();
                tokio::task::spawn_blocking(move || shared.cache.sweep());
            };
            let on_order = |order: &OrderRecord, origin| shared.apply_order(order, origin);
            store.supervise(&metrics, on_purge, on_order).await;
        }));
        Some(Self(task))
    }
}
