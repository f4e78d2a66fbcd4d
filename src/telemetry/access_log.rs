//! The access log. Each worker appends lines to its own buffer, and one thread writes the buffers to the
//! file. A request never waits for the disk and never wakes a thread; if the disk cannot keep up, lines
//! are dropped and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use crate::metrics::AccessLogLines;

mod format;

use format::CachedTimestamp;
pub(super) use format::{version, write};

/// The access log's destination.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Destination {
    /// A file, appended to, created if missing.
    File(PathBuf),
    /// Standard error.
    Stderr,
}

/// The handle of the writer thread. Dropping it writes the remaining lines and stops the thread.
#[derive(Debug)]
pub struct AccessLog {
    buffers: Arc<Mutex<Vec<Arc<LogBuffer>>>>,
    commands: Option<SyncSender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl AccessLog {
    /// Opens the destination and starts the writer.
    ///
    /// # Errors
    /// The file cannot be opened, or no thread can be started.
    pub fn open(destination: Destination) -> io::Result<Self> {
        let target = Target::open(&destination)?;
        let shared = Arc::<Mutex<Vec<Arc<LogBuffer>>>>::default();
        let (orders, inbox) = sync_channel(8);
        let buffers = shared.clone();
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || flush_loop(target, &destination, &buffers, &inbox))?;
        Ok(Self {
            buffers: shared,
            commands: Some(orders),
            thread: Some(thread),
        })
    }

    /// Returns a new buffer, for one worker.
    pub fn new_buffer(&self) -> Arc<LogBuffer> {
        let lines = Arc::new(LogBuffer::default());
        self.buffers.lock().push(lines.clone());
        lines
    }

    /// Reopens the file, after a rotation.
    pub fn reopen(&self) {
        self.send(Command::Reopen);
    }

    fn send(&self, order: Command) {
        // A full channel already holds the same command.
        let _ = self.commands.as_ref().map(|orders| orders.try_send(order));
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
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
}

impl LogBuffer {
    /// Appends the line that `write` writes, or drops it if the buffer is full.
    pub(super) fn write(
        &self,
        write: impl FnOnce(&mut Vec<u8>, &mut CachedTimestamp),
    ) -> AccessLogLines {
        let mut buffer = self.0.lock();
        let Buffer { bytes, timestamp } = &mut *buffer;
        if bytes.len() >= BUFFER_LIMIT {
            return AccessLogLines::Dropped;
        }
        write(bytes, timestamp);
        AccessLogLines::Written
    }
}

enum Command {
    Reopen,
}

enum Target {
    File(File),
    Stderr,
}

impl Target {
    fn open(destination: &Destination) -> io::Result<Self> {
        Ok(match destination {
            Destination::File(path) => {
                Self::File(OpenOptions::new().create(true).append(true).open(path)?)
            }
            Destination::Stderr => Self::Stderr,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all(bytes),
            Self::Stderr => io::stderr().lock().write_all(bytes),
        }
    }
}

fn flush_loop(
    mut target: Target,
    destination: &Destination,
    buffers: &Mutex<Vec<Arc<LogBuffer>>>,
    inbox: &Receiver<Command>,
) {
    let mut batch = Vec::new();
    loop {
        let command = inbox.recv_timeout(FLUSH_INTERVAL);
        let all: Vec<_> = buffers.lock().clone();
        for lines in all {
            std::mem::swap(&mut batch, &mut lines.0.lock().bytes);
            if let Err(error) = target.write(&batch) {
                tracing::error!(%error, "the access log cannot be written");
            }
            batch.clear();
        }
        match command {
            Ok(Command::Reopen) => match Target::open(destination) {
                Ok(opened) => target = opened,
                Err(error) => tracing::error!(%error, "the access log cannot be reopened"),
            },
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
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
    use super::*;

    #[test]
    fn every_line_is_in_the_file_when_the_log_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let log = AccessLog::open(Destination::File(path.clone())).unwrap();
        let lines = log.new_buffer();
        for n in 0..1000 {
            lines.write(|buffer, _| writeln!(buffer, "line {n}").unwrap());
        }
        drop(log);
        assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 1000);
    }

    #[test]
    fn a_full_buffer_drops_lines() {
        let lines = LogBuffer::default();
        lines.write(|buffer, _| buffer.resize(BUFFER_LIMIT, b'x'));
        assert_eq!(
            lines.write(|buffer, _| buffer.push(b'y')),
            AccessLogLines::Dropped
        );
    }
}
