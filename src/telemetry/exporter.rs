//! Carries spans from the queues of the workers to a collector, in batches, on the runtime of control.
//! A collector that is away or slow costs spans, which are counted, and nothing else.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::otlp::{Collector, CollectorError};
use super::span::{Span, Spans};
use super::trace::Share;
use crate::metrics::{Shard, TraceSpans};

/// The way to one collector. Dropped, it ends at once; [`Exporter::finish`] ends it in order.
#[derive(Debug)]
pub struct Exporter {
    queues: Queues,
    share: Share,
    ending: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

type Queues = Arc<Mutex<Vec<Arc<Spans>>>>;

impl Exporter {
    /// Begins to carry spans to the collector at `endpoint` (`http://host:port`, `https://host:port`),
    /// which need not be there yet. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// The endpoint is none, or there is no certificate authority to trust for `https://`.
    pub fn start(
        endpoint: &str,
        share: Share,
        metrics: Arc<Shard>,
    ) -> Result<Self, CollectorError> {
        let queues = Queues::default();
        let (ending, ended) = oneshot::channel();
        let carrier = Carrier {
            collector: Collector::new(endpoint)?,
            queues: queues.clone(),
            metrics,
            losing: false,
        };
        #[expect(clippy::disallowed_methods, reason = "ends with its `Exporter`")]
        let task = tokio::spawn(carrier.carry(ended));
        Ok(Self {
            queues,
            share,
            ending: Some(ending),
            task,
        })
    }

    /// A further queue, for the worker with these counters.
    pub fn spans(&self, metrics: Arc<Shard>) -> Arc<Spans> {
        let spans = Arc::new(Spans::new(self.share, metrics));
        lock(&self.queues).push(spans.clone());
        spans
    }

    /// Carries what is there, and ends; what is not taken `within` that time is lost.
    pub async fn finish(mut self, within: Duration) {
        self.ending = None;
        if tokio::time::timeout(within, &mut self.task).await.is_err() {
            tracing::warn!("the collector did not take the last spans in time: they are lost");
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Carrier {
    collector: Collector,
    queues: Queues,
    metrics: Arc<Shard>,
    /// Has it been told that spans are lost?
    losing: bool,
}

impl Carrier {
    /// Carries until `ending` resolves, and then once more.
    async fn carry(mut self, mut ending: oneshot::Receiver<()>) {
        loop {
            let over = tokio::select! {
                _ = &mut ending => true,
                () = tokio::time::sleep(PERIOD) => false,
            };
            loop {
                let batch = self.batch();
                if batch.is_empty() {
                    break;
                }
                self.deliver(batch).await;
            }
            if over {
                return;
            }
        }
    }

    /// What waits, from each queue its part.
    fn batch(&self) -> Vec<Span> {
        let queues = lock(&self.queues);
        let each = BATCH.div_ceil(queues.len().max(1));
        queues.iter().flat_map(|spans| spans.take(each)).collect()
    }

    async fn deliver(&mut self, batch: Vec<Span>) {
        let count = batch.len() as u64;
        let delivered = tokio::time::timeout(PATIENCE, self.collector.take(batch)).await;
        let dropped: u64 = lock(&self.queues).iter().map(|it| it.take_dropped()).sum();
        match delivered.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
            Ok(()) => {
                self.metrics.count_many(TraceSpans::Exported, count);
                if dropped == 0 && std::mem::take(&mut self.losing) {
                    tracing::info!("the collector takes all spans again");
                } else if dropped > 0 {
                    self.lose("too many spans for the collector");
                }
            }
            Err(error) => {
                self.metrics.count_many(TraceSpans::Failed, count);
                self.lose(&error);
            }
        }
    }

    /// Tells it once, until all is well again.
    fn lose(&mut self, error: &str) {
        if !std::mem::replace(&mut self.losing, true) {
            tracing::warn!(
                error,
                "spans are lost on their way to the collector; requests are not touched"
            );
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How late a span may set out.
const PERIOD: Duration = Duration::from_millis(200);

/// Spans of one message, about: some hundred kilobytes.
const BATCH: usize = 512;

/// For one message, with all its repetitions.
const PATIENCE: Duration = Duration::from_secs(10);
