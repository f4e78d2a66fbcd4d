//! Worker threads with one single-threaded runtime each. A connection stays on its worker, whose
//! connection pool, counters and log buffer are not shared. No module below `app` depends on this.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use super::handler::GatewayHandler;
use crate::config::Config;
use crate::gateway::{Gateway, GatewayState};
use crate::gauge::{Gauge, GaugeGuard};
use crate::metrics::{Metrics, Shard};
use crate::telemetry::{self, Sink};
use crate::upstream::{Upstream, UpstreamSettings, count_reactor_turn};

/// All workers.
#[derive(Debug)]
pub(super) struct Workers {
    all: Arc<[Worker]>,
    threads: Vec<WorkerThread>,
}

/// Where the workers' telemetry goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Destinations<'a> {
    pub(super) access_log: Option<&'a telemetry::AccessLog>,
    pub(super) audit: Option<&'a telemetry::AuditLog>,
    pub(super) traces: Option<&'a telemetry::TraceExporter>,
    pub(super) tail: &'a Arc<telemetry::Tail>,
}

/// A worker as the accept loops see it.
#[derive(Debug)]
pub(super) struct Worker {
    /// Its runtime.
    pub(super) runtime: Handle,
    /// Its gateway.
    pub(super) handler: Arc<GatewayHandler>,
    /// Its counters.
    pub(super) metrics: Arc<Shard>,
    connections: Gauge,
}

#[derive(Debug)]
struct WorkerThread {
    stop: oneshot::Sender<()>,
    handle: JoinHandle<()>,
}

impl Workers {
    /// Starts the configured number of workers.
    ///
    /// # Errors
    /// A runtime or a thread could not be started.
    pub(super) fn start(
        config: &Config,
        shared: &Arc<GatewayState>,
        metrics: &Metrics,
        telemetry: Destinations<'_>,
    ) -> io::Result<Self> {
        let settings = UpstreamSettings {
            max_answer: config.limits.max_answer,
            min_receive_rate: config.limits.min_receive_rate,
        };
        let (mut all, mut threads) = (Vec::new(), Vec::new());
        for index in 0..config.server.workers {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .on_thread_unpark(count_reactor_turn)
                .build()?;
            let shard = metrics.add_shard();
            let spans = telemetry
                .traces
                .map(|traces| traces.new_queue(shard.clone()));
            let upstream = Arc::new(Upstream::new(settings, shard.clone(), spans.clone()));
            let sink = Sink {
                access_log: telemetry.access_log.map(telemetry::AccessLog::new_buffer),
                audit: telemetry.audit.map(telemetry::AuditLog::queue),
                spans,
                metrics: shard.clone(),
                tail: telemetry.tail.clone(),
            };
            all.push(Worker {
                runtime: runtime.handle().clone(),
                handler: Arc::new(GatewayHandler(Arc::new(Gateway::new(
                    shared.clone(),
                    upstream,
                    sink,
                )))),
                metrics: shard,
                connections: Gauge::default(),
            });
            threads.push(WorkerThread::start(index, runtime)?);
        }
        Ok(Self {
            all: all.into(),
            threads,
        })
    }

    /// Returns all workers.
    pub(super) fn all(&self) -> Arc<[Worker]> {
        self.all.clone()
    }

    /// Returns the number of open connections over all workers.
    pub(super) fn connections(&self) -> usize {
        let counts = self.all.iter().map(|worker| worker.connections.count());
        counts.sum()
    }

    /// Stops all threads and drops their remaining tasks.
    pub(super) fn stop(self) {
        for thread in self.threads {
            // The receiver is gone if the thread ended with a panic.
            let _ = thread.stop.send(());
            let _ = thread.handle.join();
        }
    }
}

impl WorkerThread {
    fn start(index: usize, runtime: Runtime) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let handle = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                // A dropped sender stops the worker as well.
                let _ = runtime.block_on(stopped);
                runtime.shutdown_timeout(Duration::from_millis(100));
            })?;
        Ok(Self { stop, handle })
    }
}

impl Worker {
    /// Counts a connection here, until the guard is dropped.
    pub(super) fn track_connection(&self) -> GaugeGuard {
        self.connections.enter()
    }

    /// Returns the worker with the fewest connections, and its index.
    pub(super) fn least_loaded(all: &[Self]) -> Option<(usize, &Self)> {
        let connections = |worker: &Self| worker.connections.count();
        all.iter()
            .enumerate()
            .min_by_key(|(_, worker)| connections(worker))
    }
}
