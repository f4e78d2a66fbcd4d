//! What is remembered of the last 15 minutes.

use super::history::{History, Sample};
use super::key_rates::KeyRates;
use super::node_history::NodeHistory;
use super::{AdminState, status};

/// The histories of the gateway, its nodes and its access keys.
#[derive(Debug, Default)]
pub(super) struct Histories {
    pub(super) charts: History,
    pub(super) nodes: NodeHistory,
    pub(super) keys: KeyRates,
}

impl Histories {
    /// Takes a sample of everything. Called every [`super::history::PERIOD`] by one task, since it takes the
    /// longest durations.
    pub(super) fn take_sample(&self, state: &AdminState) {
        let (now, snapshot) = (status::instant(), state.shared.snapshot.load());
        let clusters = snapshot.clusters().values();
        let nodes: Vec<_> = clusters.flat_map(|cluster| cluster.nodes()).collect();
        let codes = self.nodes.observe(&nodes, now);
        let sample = Sample::take(&state.metrics.sum(), codes, now);
        self.charts
            .push(sample.with_longest(&state.metrics.take_longest()));
        let keys = snapshot
            .accounts()
            .map(|account| (account.credential.access_key().shared(), account.admitted()));
        self.keys.observe(now, keys);
    }
}
