//! A cluster and its nodes: who is there, who is well, who is next. Pure decisions over shared
//! counters; connections are `upstream`'s business.

mod settings;

pub use settings::{
    Ejection, HealthCheck, HostPolicy, NodeAddress, NodeSettings, Policy, PoolLimits, Retries,
    Settings, SignedCheck, Timeouts,
};

/// The nodes behind one service, with their live state.
#[derive(Debug)]
pub struct Cluster {
    settings: Settings,
}

impl Cluster {
    /// What the configuration says of it.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
