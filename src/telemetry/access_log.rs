//! The access log. Each worker appends lines to its own buffer, and one thread writes the buffers to the
//! output. A request never waits for the output and never wakes a thread; if the output cannot keep up or
//! refuses lines, they are dropped and counted. Opening and closing wait for a bounded time.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;

use super::loss_report::LossReport;
use super::output::LineOutput;
use super::writer_thread::{WriterThread, now};
use crate::metrics::{AccessLogLines, Shard};

mod format;

pub(super) use format::{CachedTimestamp, version, write};

/// The access log's destination.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Destination {
    /// A file, appended to, created if missing.
    File(PathBuf),
    /// Standard error.
    Stderr,
}

/// The handle of the writer thread. Dropping it writes the remaining lines and stops the thread; an output
/// that does not accept them within two seconds loses them.
#[derive(Debug)]
pub struct AccessLog {
    buffers: Buffers,
    commands: Option<SyncSender<Command>>,
    thread: WriterThread,
}

type Buffers = Arc<Mutex<Vec<Arc<LogBuffer>>>>;

impl AccessLog {
    /// Opens the destination and starts the writer. `metrics` counts the lines.
    ///
    /// # Errors
    /// The file cannot be opened, or not within five seconds, or no thread can be started.
    pub fn open(destination: Destination, metrics: Arc<Shard>) -> io::Result<Self> {
        let buffers = Buffers::default();
        let (commands, inbox) = sync_channel(8);
        let task = WriterTask {
            destination,
            buffers: buffers.clone(),
            metrics,
            losses: LossReport::default(),
        };
        let open = move || {
            let output = task.open_output()?;
            Ok((task, output))
        };
        let write = move |(task, output): (WriterTask, _)| task.run(output, &inbox);
        let thread = WriterThread::start("access-log", open, write)?;
        Ok(Self {
            buffers,
            commands: Some(commands),
            thread,
        })
    }

    /// Returns a new buffer, for one worker.
    pub fn new_buffer(&self) -> Arc<LogBuffer> {
        let buffer = Arc::new(LogBuffer::default());
        self.buffers.lock().push(buffer.clone());
        buffer
    }

    /// Reopens the file, after a rotation.
    pub fn reopen(&self) {
        // A full channel already holds the same command.
        let _ = self
            .commands
            .as_ref()
            .map(|commands| commands.try_send(Command::Reopen));
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.commands = None;
        if !self.thread.ends_in_time() {
            tracing::error!("the access log does not accept its last lines: they are lost");
        }
    }
}

/// The buffer of one worker.
#[derive(Debug, Default)]
pub struct LogBuffer(Mutex<Buffer>);

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    timestamp: CachedTimestamp,
    losses: LossReport,
}

impl LogBuffer {
    /// Appends the line that `write` writes. Returns false and drops it if the buffer is full.
    pub(super) fn write(&self, write: impl FnOnce(&mut Vec<u8>, &mut CachedTimestamp)) -> bool {
        let mut buffer = self.0.lock();
        let Buffer {
            bytes,
            timestamp,
            losses,
        } = &mut *buffer;
        if bytes.len() < BUFFER_LIMIT {
            write(bytes, timestamp);
            return true;
        }
        if let Some(lines) = losses.add(1, now()) {
            tracing::error!(
                lines,
                "access-log lines are dropped: the output does not keep up"
            );
        }
        false
    }

    /// Exchanges the buffered lines for an empty buffer.
    fn swap(&self, bytes: &mut Vec<u8>) {
        std::mem::swap(bytes, &mut self.0.lock().bytes);
    }
}

enum Command {
    Reopen,
}

/// The state of the writer thread.
struct WriterTask {
    destination: Destination,
    buffers: Buffers,
    metrics: Arc<Shard>,
    losses: LossReport,
}

impl WriterTask {
    fn open_output(&self) -> io::Result<LineOutput> {
        match &self.destination {
            Destination::File(path) => LineOutput::append_to(path),
            Destination::Stderr => Ok(LineOutput::Stderr),
        }
    }

    fn run(mut self, mut output: LineOutput, inbox: &Receiver<Command>) {
        let mut batch = Vec::new();
        loop {
            let command = inbox.recv_timeout(FLUSH_INTERVAL);
            let buffers: Vec<_> = self.buffers.lock().clone();
            for buffer in buffers {
                buffer.swap(&mut batch);
                self.write(&mut output, &batch);
                batch.clear();
            }
            match command {
                Ok(Command::Reopen) => match self.open_output() {
                    Ok(opened) => output = opened,
                    Err(error) => tracing::error!(%error, "the access log cannot be reopened"),
                },
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn write(&mut self, output: &mut LineOutput, batch: &[u8]) {
        let outcome = output.write(batch);
        let metrics = &self.metrics;
        metrics.count_many(AccessLogLines::Written, outcome.written);
        metrics.count_many(AccessLogLines::Dropped, outcome.lost);
        if let Some(lines) = self.losses.add(outcome.lost, now()) {
            let error = outcome.error.as_ref().map(tracing::field::display);
            tracing::error!(
                error,
                lines,
                "the access log cannot be written: lines are lost"
            );
        }
    }
}

/// How often the buffers are written: the largest delay of a line. Our choice: a longer interval only
/// needs larger buffers, a shorter one wakes the thread more often.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// Bytes per worker. 30,000 lines per second of 400 bytes fill 1.2 MB in one flush interval.
const BUFFER_LIMIT: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;

    use super::*;
    use crate::metrics::Metrics;

    fn open(path: &Path) -> (io::Result<AccessLog>, Metrics) {
        let metrics = Metrics::default();
        let log = AccessLog::open(Destination::File(path.to_owned()), metrics.add_shard());
        (log, metrics)
    }

    #[test]
    fn every_line_is_in_the_file_when_the_log_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let (log, metrics) = open(&path);
        let log = log.unwrap();
        let lines = log.new_buffer();
        for n in 0..1000 {
            lines.write(|buffer, _| writeln!(buffer, "line {n}").unwrap());
        }
        drop(log);
        assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 1000);
        assert_eq!(metrics.sum().get(AccessLogLines::Written), 1000);
    }

    #[test]
    fn lines_that_the_disk_refuses_count_as_dropped() {
        let (log, metrics) = open(Path::new("/dev/full"));
        let log = log.unwrap();
        log.new_buffer()
            .write(|buffer, _| buffer.extend_from_slice(b"one\ntwo\n"));
        drop(log);
        let totals = metrics.sum();
        assert_eq!(totals.get(AccessLogLines::Written), 0);
        assert_eq!(totals.get(AccessLogLines::Dropped), 2);
    }

    #[test]
    fn a_full_buffer_drops_lines() {
        let lines = LogBuffer::default();
        assert!(lines.write(|buffer, _| buffer.resize(BUFFER_LIMIT, b'x')));
        assert!(!lines.write(|buffer, _| buffer.push(b'y')));
    }
}
