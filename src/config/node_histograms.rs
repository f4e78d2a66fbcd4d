//! Whether `/metrics` has histograms of each node.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Config;

/// Histograms of each node in `/metrics`: twenty lines a node.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeHistograms {
    /// On up to 64 nodes.
    #[default]
    Auto,
    /// None; of a node only the series that are not zero.
    Off,
    /// For each node.
    On,
}

impl Config {
    /// Whether `/metrics` has histograms of each node.
    pub fn has_node_histograms(&self) -> bool {
        match self.telemetry.node_histograms {
            NodeHistograms::On => true,
            NodeHistograms::Off => false,
            NodeHistograms::Auto => {
                let clusters = self.clusters.values();
                let nodes: usize = clusters.map(|cluster| cluster.nodes.len()).sum();
                nodes <= MAX_NODES_WITH_HISTOGRAMS
            }
        }
    }
}

/// With more nodes a scrape would have more than a megabyte. Our choice.
const MAX_NODES_WITH_HISTOGRAMS: usize = 64;
