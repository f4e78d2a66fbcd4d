//! Delivers: picks a node, signs for it, tries, judges, and tries another within deadline and budget.

use std::sync::Arc;
use std::time::Duration;

use crate::call::{Delivery, Failure, StreamReply, WholeReply};
use crate::metrics::Shard;

/// One worker's way to all nodes: its own connections, no lock shared with other workers on the way.
#[derive(Debug)]
pub struct Upstream {
    settings: UpstreamSettings,
    metrics: Arc<Shard>,
}

/// What holds for all deliveries.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamSettings {
    /// The largest JSON answer.
    pub max_answer: usize,
    /// Bytes a second, from a node that streams.
    pub min_receive_rate: u64,
}

impl Upstream {
    /// An upstream without connections yet.
    pub fn new(settings: UpstreamSettings, metrics: Arc<Shard>) -> Self {
        Self { settings, metrics }
    }

    /// Delivers and reads the JSON answer whole. `last_try` bounds everything: the per-try deadline
    /// ends a try only while another node is left.
    pub async fn whole(
        &self,
        delivery: &Delivery,
        last_try: Duration,
    ) -> Result<WholeReply, Failure> {
        let _ = (delivery, last_try, &self.settings, &self.metrics);
        todo!()
    }

    /// Delivers and hands the answer on as it comes. `last_try` ends at the first body byte.
    pub async fn stream(
        &self,
        delivery: &Delivery,
        last_try: Duration,
    ) -> Result<StreamReply, Failure> {
        let _ = (delivery, last_try);
        todo!()
    }
}
