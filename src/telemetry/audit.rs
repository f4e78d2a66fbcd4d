//! The audit log: who asked for which recording, and who ordered what. Its lines form a chain of hashes, so
//! that a changed, missing or moved line shows; with a key nobody without it can make such a chain.
//!
//! One thread writes. A request never waits for it: entries go into a bounded queue, under a lock that is held
//! for a moment. What a full queue or a full disk loses is a line of its own.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::writer_thread::WriterThread;
use crate::metrics::Shard;

mod chain;
mod entry;
mod file;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

pub use chain::AuditKey;
pub use entry::OrderEntry;
pub(super) use entry::RequestEntry;
pub use verify::{AuditVerifier, BadLine, Verified};

use entry::Entry;
use writer::Writer;

/// Where and how an audit log is written.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditSettings {
    /// The file, appended to, created with mode 0600 if missing.
    pub path: PathBuf,
    /// With a key the hashes are HMACs.
    pub key: Option<AuditKey>,
    /// The name of the instance.
    pub instance: String,
}

/// The handle of the writer thread. Dropping it writes the remaining lines and stops the thread; an output
/// that does not accept them within two seconds loses them.
#[derive(Debug)]
pub struct AuditLog {
    queue: Arc<AuditQueue>,
    commands: Option<SyncSender<Reopen>>,
    thread: WriterThread,
}

/// The entries that wait for the writer, and the head of the chain.
#[derive(Debug)]
pub struct AuditQueue {
    waiting: Mutex<Waiting>,
    head: Mutex<(u64, String)>,
}

#[derive(Debug)]
struct Waiting {
    entries: Vec<(u64, Timestamp, Entry)>,
    /// The number of the next entry.
    next_seq: u64,
}

struct Reopen;

impl AuditQueue {
    pub(super) fn request(&self, entry: RequestEntry) {
        self.push(Entry::Request(entry));
    }

    /// Adds an order to the admin interface.
    pub fn order(&self, entry: OrderEntry) {
        self.push(Entry::Order(Box::new(entry)));
    }

    /// Returns the number and the hash of the last line that was written.
    pub fn head(&self) -> (u64, String) {
        self.head.lock().clone()
    }

    /// Gives the entry its number. One that does not fit keeps the number and is lost; the writer sees the gap.
    fn push(&self, entry: Entry) {
        let mut waiting = self.waiting.lock();
        let seq = waiting.next_seq;
        waiting.next_seq += 1;
        if waiting.entries.len() < QUEUE_LIMIT {
            waiting.entries.push((seq, now(), entry));
        }
    }

    /// Takes all entries, and the number of the last one that was given out.
    fn take(&self) -> (Vec<(u64, Timestamp, Entry)>, u64) {
        let mut waiting = self.waiting.lock();
        (std::mem::take(&mut waiting.entries), waiting.next_seq - 1)
    }
}

impl AuditLog {
    /// Opens the file and writes the first line of a chain. `metrics` counts the lines.
    ///
    /// # Errors
    /// The file cannot be opened or written, or not within five seconds, or no thread can be started.
    pub fn open(settings: AuditSettings, metrics: Arc<Shard>) -> io::Result<Self> {
        let queue = Arc::new(AuditQueue {
            waiting: Mutex::new(Waiting {
                entries: Vec::new(),
                next_seq: 2,
            }),
            head: Mutex::default(),
        });
        let (commands, inbox) = sync_channel(8);
        let shared = queue.clone();
        let open = move || Writer::begin(settings, shared, metrics);
        let write = move |writer: Writer| writer.run(&inbox);
        let thread = WriterThread::start("audit-log", open, write)?;
        Ok(Self {
            queue,
            commands: Some(commands),
            thread,
        })
    }

    /// Returns the queue, for workers and the admin interface.
    pub fn queue(&self) -> Arc<AuditQueue> {
        self.queue.clone()
    }

    /// Reopens the file, after a rotation. The chain goes on.
    pub fn reopen(&self) {
        // A full channel already holds the same command.
        let _ = self
            .commands
            .as_ref()
            .map(|commands| commands.try_send(Reopen));
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.commands = None;
        if !self.thread.ends_in_time() {
            tracing::error!("the audit log does not accept its last lines: they are lost");
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "when an audited request or order ended"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

/// Waiting entries: 100,000 a second for a flush interval, in at most 4 MiB.
const QUEUE_LIMIT: usize = 10_000;
