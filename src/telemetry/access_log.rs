//! The access log: workers write lines into buffers of their own, one thread carries the buffers to
//! the file. A request never waits for the disk and never wakes a thread; when the disk cannot keep
//! up, lines are dropped and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::metrics::AccessLogLines;

mod format;

use format::CachedTimestamp;
pub(super) use format::{version, write};

/// Where the log goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Destination {
    /// Appended to a file, made if it is not there.
    File(PathBuf),
    /// Standard error.
    Stderr,
}

/// The writing end: ends its thread, after everything is written, when dropped.
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

    /// A further buffer, for one worker.
    pub fn new_buffer(&self) -> Arc<LogBuffer> {
        let lines = Arc::new(LogBuffer::default());
        lock(&self.buffers).push(lines.clone());
        lines
    }

    /// Opens the file anew, after a rotation.
    pub fn reopen(&self) {
        self.send(Command::Reopen);
    }

    fn send(&self, order: Command) {
        // A full inbox holds the same order already.
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
    /// Appends what `write` writes; drops it if the buffer is full.
    pub(super) fn write(
        &self,
        write: impl FnOnce(&mut Vec<u8>, &mut CachedTimestamp),
    ) -> AccessLogLines {
        let mut buffer = lock(&self.0);
        let Buffer {
            bytes,
            timestamp: second,
        } = &mut *buffer;
        if bytes.len() >= BUFFER_LIMIT {
            return AccessLogLines::Dropped;
        }
        write(bytes, second);
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
                // Opening a pipe without a reader fails with ENXIO instead of waiting for one.
                let file = OpenOptions::new()
                    .create(true)
                    .append(true)
                    .custom_flags(OFlags::NONBLOCK.bits() as i32)
                    .open(path)
                    .map_err(|error| match Errno::from_io_error(&error) {
                        Some(Errno::NXIO) => io::Error::other("no process reads this pipe"),
                        _ => error,
                    })?;
                rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
                Self::File(file)
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
        let order = inbox.recv_timeout(FLUSH_INTERVAL);
        let all: Vec<_> = lock(buffers).clone();
        for lines in all {
            std::mem::swap(&mut batch, &mut lock(&lines.0).bytes);
            if let Err(error) = target.write(&batch) {
                tracing::error!(%error, "the access log cannot be written");
            }
            batch.clear();
        }
        match order {
            Ok(Command::Reopen) => match Target::open(destination) {
                Ok(opened) => target = opened,
                Err(error) => tracing::error!(%error, "the access log cannot be reopened"),
            },
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How late a line may stand in the file. Longer only makes buffers larger; shorter wakes more often.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// Per worker: a tenth of a second at 30,000 lines a second of 400 bytes fits well.
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
    fn a_full_buffer_drops_and_says_so() {
        let lines = LogBuffer::default();
        lines.write(|buffer, _| buffer.resize(BUFFER_LIMIT, b'x'));
        assert_eq!(
            lines.write(|buffer, _| buffer.push(b'y')),
            AccessLogLines::Dropped
        );
    }
}
