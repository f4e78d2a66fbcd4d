//! The background task of each cluster: health checks, names, connections to look after.

use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::auth::Credential;
use crate::cluster::Cluster;
use crate::gateway::Snapshot;
use crate::upstream::watch_cluster;

/// The tasks of all clusters in force.
#[derive(Debug, Default)]
pub(super) struct ClusterTasks(Vec<ClusterTask>);

/// Ends when dropped.
#[derive(Debug)]
struct ClusterTask {
    cluster: Arc<Cluster>,
    task: JoinHandle<()>,
}

impl Drop for ClusterTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ClusterTasks {
    /// Starts the tasks of clusters that have none, and ends those of clusters that are gone.
    pub(super) fn reconcile(&mut self, snapshot: &Snapshot) {
        let current = snapshot.clusters();
        self.0.retain(|probe| {
            current
                .values()
                .any(|cluster| Arc::ptr_eq(cluster, &probe.cluster))
        });
        for cluster in current.values() {
            let has_one = |probe: &ClusterTask| Arc::ptr_eq(&probe.cluster, cluster);
            if !self.0.iter().any(has_one) {
                let watch =
                    watch_cluster(cluster.clone(), health_check_credential(cluster, snapshot));
                #[expect(clippy::disallowed_methods, reason = "ends with its `Probe`")]
                let task = tokio::spawn(watch);
                self.0.push(ClusterTask {
                    cluster: cluster.clone(),
                    task,
                });
            }
        }
    }

    /// Ends all.
    pub(super) fn stop(&mut self) {
        self.0.clear();
    }
}

/// Who signs the health checks of a cluster, where they are signed.
fn health_check_credential(cluster: &Cluster, snapshot: &Snapshot) -> Option<Arc<Credential>> {
    let check = cluster.settings().health_check.as_ref()?.signed.as_ref()?;
    Some(snapshot.account(&check.access_key)?.credential.clone())
}
