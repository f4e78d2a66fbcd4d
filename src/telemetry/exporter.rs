//! Exports spans from the workers' queues to a collector, in batches, on the control runtime. If the
//! collector is unavailable or slow, spans are dropped and counted; requests are not affected.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::otlp::{Collector, CollectorError};
use super::span::{Span, SpanQueue};
use super::trace::SampleRatio;
use crate::metrics::{Shard, TraceSpans};

/// The export task of one collector. Dropping it aborts the task; [`TraceExporter::shutdown`] flushes.
#[derive(Debug)]
pub struct TraceExporter {
    queues: Queues,
    sample_ratio: SampleRatio,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

type Queues = Arc<Mutex<Vec<Arc<SpanQueue>>>>;

impl TraceExporter {
    /// Starts to export to the collector at `endpoint` (`http://host:port` or `https://host:port`),
    /// which need not be reachable yet. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The endpoint is invalid, or no trusted certificate authority was found for `https://`.
    pub fn start(
        endpoint: &str,
        sample_ratio: SampleRatio,
        metrics: Arc<Shard>,
    ) -> Result<Self, CollectorError> {
        let queues = Queues::default();
        let (stop, stopped) = oneshot::channel();
        let task = FlushTask {
            collector: Collector::new(endpoint)?,
            queues: queues.clone(),
            metrics,
            has_logged_loss: false,
        };
        #[expect(clippy::disallowed_methods, reason = "ends with its `TraceExporter`")]
        let task = tokio::spawn(task.run(stopped));
        Ok(Self {
            queues,
            sample_ratio,
            stop: Some(stop),
            task,
        })
    }

    /// Returns a new queue, for the worker with these counters.
    pub fn new_queue(&self, metrics: Arc<Shard>) -> Arc<SpanQueue> {
        let queue = Arc::new(SpanQueue::new(self.sample_ratio, metrics));
        self.queues.lock().push(queue.clone());
        queue
    }

    /// Exports the queued spans and stops. Spans that the collector does not accept within `limit` are lost.
    pub async fn shutdown(mut self, limit: Duration) {
        self.stop = None;
        if tokio::time::timeout(limit, &mut self.task).await.is_err() {
            tracing::warn!("the collector did not accept the last spans in time: they are lost");
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
    /// Whether the current loss of spans has been logged.
    has_logged_loss: bool,
}

impl FlushTask {
    /// Exports periodically until `stop` resolves, and then once more.
    async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        loop {
            let stopping = tokio::select! {
                _ = &mut stop => true,
                () = tokio::time::sleep(FLUSH_INTERVAL) => false,
            };
            loop {
                let batch = self.batch();
                if batch.is_empty() {
                    break;
                }
                self.export(batch).await;
            }
            if stopping {
                return;
            }
        }
    }

    /// Takes a batch, an equal part from each queue.
    fn batch(&self) -> Vec<Span> {
        let queues = self.queues.lock();
        let per_queue = BATCH_SIZE.div_ceil(queues.len().max(1));
        queues
            .iter()
            .flat_map(|queue| queue.take(per_queue))
            .collect()
    }

    async fn export(&mut self, batch: Vec<Span>) {
        let count = batch.len() as u64;
        let result = tokio::time::timeout(EXPORT_TIMEOUT, self.collector.export(batch)).await;
        let dropped: u64 = self.queues.lock().iter().map(|it| it.take_dropped()).sum();
        match result.unwrap_or_else(|_| Err("no response in time".to_owned())) {
            Ok(()) => {
                self.metrics.count_many(TraceSpans::Exported, count);
                if dropped == 0 && std::mem::take(&mut self.has_logged_loss) {
                    tracing::info!("the collector accepts all spans again");
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

    /// Logs a loss once, until exporting works again.
    fn warn_loss(&mut self, error: &str) {
        if !std::mem::replace(&mut self.has_logged_loss, true) {
            tracing::warn!(error, "spans are lost; requests are not affected");
        }
    }
}

/// How often the queues are exported. Our choice, bounded by the queues: 20,000 spans per second and
/// worker fill one in this time.
const FLUSH_INTERVAL: Duration = Duration::from_millis(200);

/// Spans per export request, some hundred kilobytes; the default of OpenTelemetry's
/// `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`.
const BATCH_SIZE: usize = 512;

/// Deadline of one export, retries included; the default of `OTEL_EXPORTER_OTLP_TIMEOUT`.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
