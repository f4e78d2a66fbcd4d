//! The background task of each cluster: health checks, name resolution, idle connection cleanup.

use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::auth::Credential;
use crate::cluster::Cluster;
use crate::config::{Config, NodeHistograms};
use crate::gateway::Snapshot;
use crate::task::boxed;
use crate::upstream::watch_cluster;

/// The tasks of all clusters in the current snapshot.
#[derive(Debug, Default)]
pub(super) struct ClusterTasks(Vec<ClusterTask>);

/// The task of one cluster; aborted on drop.
#[derive(Debug)]
struct ClusterTask {
    cluster: Arc<Cluster>,
    /// What signs its health checks.
    credential: Option<Arc<Credential>>,
    task: JoinHandle<()>,
}

impl Drop for ClusterTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ClusterTasks {
    /// Starts a task for each new cluster and stops the tasks of removed ones.
    pub(super) fn reconcile(&mut self, snapshot: &Snapshot) {
        let current = snapshot.clusters();
        self.0.retain(|task| {
            let is_same = |cluster: &Arc<Cluster>| {
                Arc::ptr_eq(cluster, &task.cluster)
                    && health_check_credential(cluster, snapshot) == task.credential
            };
            current.values().any(is_same)
        });
        for cluster in current.values() {
            let belongs = |task: &ClusterTask| Arc::ptr_eq(&task.cluster, cluster);
            if !self.0.iter().any(belongs) {
                let credential = health_check_credential(cluster, snapshot);
                let watch = watch_cluster(cluster.clone(), credential.clone());
                #[expect(clippy::disallowed_methods, reason = "ends with its `ClusterTask`")]
                let task = tokio::spawn(boxed(watch));
                self.0.push(ClusterTask {
                    cluster: cluster.clone(),
                    credential,
                    task,
                });
            }
        }
    }

    /// Stops all tasks.
    pub(super) fn stop(&mut self) {
        self.0.clear();
    }
}

/// Returns the credential that signs the health checks of a cluster, if they are signed.
fn health_check_credential(cluster: &Cluster, snapshot: &Snapshot) -> Option<Arc<Credential>> {
    let check = cluster.settings().health_check.as_ref()?.signed.as_ref()?;
    Some(snapshot.account(&check.access_key)?.credential.clone())
}

/// Logs that the metrics have no histograms of single nodes, which nobody has written.
pub(super) fn log_node_histograms(config: &Config) {
    let is_auto = config.telemetry.node_histograms == NodeHistograms::Auto;
    if is_auto && !config.has_node_histograms() {
        tracing::info!(
            "more than 64 nodes: /metrics has no histograms of nodes; node_histograms = \"on\" adds them"
        );
    }
}
