//! The store that replicas share: one task keeps it at hand for all workers.

use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::cache::Purge;
use crate::config;
use crate::gateway::GatewayState;
use crate::metrics::Shard;
use crate::shared_store::Store;

/// The task; ends when dropped.
#[derive(Debug)]
pub(super) struct SharedStoreTask(JoinHandle<()>);

impl Drop for SharedStoreTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl SharedStoreTask {
    /// Puts the store that is configured in place of the one before, which it succeeds.
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
        #[expect(clippy::disallowed_methods, reason = "ends with its `Keeper`")]
        let task = tokio::spawn(async move {
            let on_purge = |purges: Vec<Purge>| {
                shared.begin_purge(purges.into_iter().collect());
                let shared = shared.clone();
                tokio::task::spawn_blocking(move || shared.cache.sweep());
            };
            store.supervise(&metrics, on_purge).await;
        });
        Some(Self(task))
    }
}
