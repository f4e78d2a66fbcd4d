//! Carries spans from the queues of the workers to a collector, in batches, on the runtime of control.
//! A collector that is away or slow costs spans, which are counted, and nothing else.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::otlp::{Collector, CollectorError};
use super::span::{Span, SpanQueue};
use super::trace::SampleRatio;
use crate::metrics::{Shard, TraceSpans};

/// The way to one collector. Dropped, it ends at once; [`Exporter::finish`] ends it in order.
#[derive(Debug)]
pub struct TraceExporter {
    queues: Queues,
    sample_ratio: SampleRatio,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

type Queues = Arc<Mutex<Vec<Arc<SpanQueue>>>>;

impl TraceExporter {
    /// Begins to carry spans to the collector at `endpoint` (`http://host:port`, `https://host:port`),
    /// which need not be there yet. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// The endpoint is none, or there is no certificate authority to trust for `https://`.
    pub fn start(
        endpoint: &str,
        share: SampleRatio,
        metrics: Arc<Shard>,
    ) -> Result<Self, CollectorError> {
        let queues = Queues::default();
        let (ending, ended) = oneshot::channel();
        let carrier = FlushTask {
            collector: Collector::new(endpoint)?,
            queues: queues.clone(),
            metrics,
            is_losing: false,
        };
        #[expect(clippy::disallowed_methods, reason = "ends with its `Exporter`")]
        let task = tokio::spawn(carrier.run(ended));
        Ok(Self {
            queues,
            sample_ratio: share,
            stop: Some(ending),
            task,
        })
    }

    /// A further queue, for the worker with these counters.
    pub fn new_queue(&self, metrics: Arc<Shard>) -> Arc<SpanQueue> {
        let spans = Arc::new(SpanQueue::new(self.sample_ratio, metrics));
        lock(&self.queues).push(spans.clone());
        spans
    }

    /// Carries what is there, and ends; what is not taken `within` that time is lost.
    pub async fn shutdown(mut self, within: Duration) {
        self.stop = None;
        if tokio::time::timeout(within, &mut self.task).await.is_err() {
            tracing::warn!("the collector did not take the last spans in time: they are lost");
        }
    }
}

impl Drop for TraceExporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct FlushTask {
    collector: Collector,
    queues: Queues,
    metrics: Arc<Shard>,
    /// Has it been told that spans are lost?
    is_losing: bool,
}

impl FlushTask {
    /// Carries until `ending` resolves, and then once more.
    async fn run(mut self, mut ending: oneshot::Receiver<()>) {
        loop {
            let over = tokio::select! {
                _ = &mut ending => true,
                () = tokio::time::sleep(FLUSH_INTERVAL) => false,
            };
            loop {
                let batch = self.batch();
                if batch.is_empty() {
                    break;
                }
                self.export(batch).await;
            }
            if over {
                return;
            }
        }
    }

    /// What waits, from each queue its part.
    fn batch(&self) -> Vec<Span> {
        let queues = lock(&self.queues);
        let each = BATCH_SIZE.div_ceil(queues.len().max(1));
        queues.iter().flat_map(|spans| spans.take(each)).collect()
    }

    async fn export(&mut self, batch: Vec<Span>) {
        let count = batch.len() as u64;
        let delivered = tokio::time::timeout(EXPORT_TIMEOUT, self.collector.export(batch)).await;
        let dropped: u64 = lock(&self.queues).iter().map(|it| it.take_dropped()).sum();
        match delivered.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
            Ok(()) => {
                self.metrics.count_many(TraceSpans::Exported, count);
                if dropped == 0 && std::mem::take(&mut self.is_losing) {
                    tracing::info!("the collector takes all spans again");
                } else if dropped > 0 {
                    self.warn_loss("too many spans for the collector");
                }
            }
            Err(error) => {
                self.metrics.count_many(TraceSpans::Failed, count);
                self.warn_loss(&error);
            }
        }
    }

    /// Tells it once, until all is well again.
    fn warn_loss(&mut self, error: &str) {
        if !std::mem::replace(&mut self.is_losing, true) {
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
const FLUSH_INTERVAL: Duration = Duration::from_millis(200);

/// Spans of one message, about: some hundred kilobytes.
const BATCH_SIZE: usize = 512;

/// For one message, with all its repetitions.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
