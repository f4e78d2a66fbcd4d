//! The background task of each cluster: health checks, names, connections to look after.

use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::auth::Credential;
use crate::cluster::Cluster;
use crate::gateway::Snapshot;
use crate::upstream::watch_cluster;

/// The tasks of all clusters in force.
#[derive(Debug, Default)]
pub(super) struct Probes(Vec<Probe>);

/// Ends when dropped.
#[derive(Debug)]
struct Probe {
    cluster: Arc<Cluster>,
    task: JoinHandle<()>,
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Probes {
    /// Starts the tasks of clusters that have none, and ends those of clusters that are gone.
    pub(super) fn follow(&mut self, snapshot: &Snapshot) {
        let current = snapshot.clusters();
        self.0.retain(|probe| {
            current
                .values()
                .any(|cluster| Arc::ptr_eq(cluster, &probe.cluster))
        });
        for cluster in current.values() {
            let has_one = |probe: &Probe| Arc::ptr_eq(&probe.cluster, cluster);
            if !self.0.iter().any(has_one) {
                let watch = watch_cluster(cluster.clone(), signer(cluster, snapshot));
                #[expect(clippy::disallowed_methods, reason = "ends with its `Probe`")]
                let task = tokio::spawn(watch);
                self.0.push(Probe {
                    cluster: cluster.clone(),
                    task,
                });
            }
        }
    }

    /// Ends all.
    pub(super) fn end(&mut self) {
        self.0.clear();
    }
}

/// Who signs the health checks of a cluster, where they are signed.
fn signer(cluster: &Cluster, snapshot: &Snapshot) -> Option<Arc<Credential>> {
    let check = cluster.settings().health_check.as_ref()?.signed.as_ref()?;
    Some(snapshot.account(&check.access_key)?.credential.clone())
}
