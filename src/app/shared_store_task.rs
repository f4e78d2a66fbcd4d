//! The store that replicas share: one task keeps it at hand for all workers.

use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::config;
use crate::gateway::Shared;
use crate::shared_store::Store;

/// The task; ends when dropped.
#[derive(Debug)]
pub(super) struct Keeper(JoinHandle<()>);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Keeper {
    /// Puts the store that is configured in place of the one before, which it succeeds.
    pub(super) fn start(shared: &Arc<Shared>, settings: Option<&config::Shared>) -> Option<Self> {
        let before = shared.store.load_full();
        let store = settings.map(|settings| {
            let store = Store::next(settings.clone(), before.as_deref());
            Arc::new(store)
        });
        shared.store.store(store.clone());
        let (store, shared) = (store?, shared.clone());
        #[expect(clippy::disallowed_methods, reason = "ends with its `Keeper`")]
        let task = tokio::spawn(async move {
            let forget = |purge| {
                shared.cache.purge(purge);
            };
            store.watch(forget).await;
        });
        Some(Self(task))
    }
}
