//! The requests as they end, for followers (`GET /tail`): the lines of the access log, also where that is off.
//!
//! Without followers a request costs one relaxed load. With followers, the worker formats the line once and
//! appends it to the bounded buffer of each follower that asked for it. A follower that reads slowly loses
//! lines and is told how many; no worker waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::RequestRecord;
use super::access_log::{self, CachedTimestamp};
use crate::metrics::RequestOutcome;

#[cfg(test)]
mod tests;

/// The followers of all workers' requests.
#[derive(Debug, Default)]
pub struct Tail {
    /// Whether there is a follower; read at the end of every request.
    is_followed: AtomicBool,
    followers: RwLock<Followers>,
}

#[derive(Debug, Default)]
struct Followers {
    all: Vec<Arc<Follower>>,
    is_closed: bool,
}

/// Which requests a follower asks for; those for which every given member is equal.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TailFilter {
    /// The access key of a verified request.
    pub access_key: Option<String>,
    /// The callId.
    pub call_id: Option<String>,
    /// The outcome.
    pub outcome: Option<RequestOutcome>,
}

#[derive(Debug)]
struct Follower {
    filter: TailFilter,
    buffer: Mutex<Buffer>,
}

/// The lines that a follower has not read yet.
#[derive(Debug, Default)]
struct Buffer {
    lines: Vec<u8>,
    /// The lines lost behind the last one in `lines`.
    lost: u64,
    is_closed: bool,
    waker: Option<Waker>,
}

/// Why nothing can be followed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CannotFollow {
    /// There are [`MAX_FOLLOWERS`] already.
    TooMany,
    /// The gateway is shutting down.
    Closed,
}

impl Tail {
    /// Adds a follower; it ends when its stream is dropped.
    ///
    /// # Errors
    /// There are too many already, or the gateway is shutting down.
    pub fn follow(self: &Arc<Self>, filter: TailFilter) -> Result<TailStream, CannotFollow> {
        let follower = Arc::new(Follower {
            filter,
            buffer: Mutex::default(),
        });
        let mut followers = self.followers.write();
        if followers.is_closed {
            return Err(CannotFollow::Closed);
        }
        if followers.all.len() >= MAX_FOLLOWERS {
            return Err(CannotFollow::TooMany);
        }
        followers.all.push(follower.clone());
        self.is_followed.store(true, Ordering::Relaxed);
        drop(followers);
        Ok(TailStream {
            tail: self.clone(),
            follower,
        })
    }

    /// Ends all streams, after what is in their buffers; there can be no further one.
    pub fn close(&self) {
        let mut followers = self.followers.write();
        followers.is_closed = true;
        followers.all.iter().for_each(|follower| follower.close());
    }

    /// Whether anyone follows.
    pub(super) fn is_followed(&self) -> bool {
        self.is_followed.load(Ordering::Relaxed)
    }

    /// Passes a request that has ended to the followers that ask for it.
    #[cold]
    pub(super) fn write(&self, record: &RequestRecord, elapsed: Duration) {
        let mut line = None;
        for follower in &self.followers.read().all {
            if follower.filter.matches(record) {
                let line = line.get_or_insert_with(|| {
                    let mut line = Vec::new();
                    access_log::write(&mut line, &mut CachedTimestamp::default(), record, elapsed);
                    line
                });
                follower.push(line);
            }
        }
    }

    fn remove(&self, follower: &Arc<Follower>) {
        let mut followers = self.followers.write();
        followers.all.retain(|it| !Arc::ptr_eq(it, follower));
        let is_followed = !followers.all.is_empty();
        self.is_followed.store(is_followed, Ordering::Relaxed);
    }
}

impl TailFilter {
    fn matches(&self, record: &RequestRecord) -> bool {
        let is_access_key = |asked: &String| record.access_key.as_deref() == Some(asked);
        let is_call_id = |asked: &String| record.call_id.as_deref() == Some(asked);
        self.access_key.as_ref().is_none_or(is_access_key)
            && self.call_id.as_ref().is_none_or(is_call_id)
            && self.outcome.is_none_or(|asked| asked == record.outcome)
    }
}

impl Follower {
    fn push(&self, line: &[u8]) {
        let waker = {
            let mut buffer = self.buffer.lock();
            buffer.push(line);
            buffer.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    fn close(&self) {
        let waker = {
            let mut buffer = self.buffer.lock();
            buffer.is_closed = true;
            buffer.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Buffer {
    /// Appends a line, or counts it as lost if the buffer is full.
    fn push(&mut self, line: &[u8]) {
        if self.lines.len() < BUFFER_LIMIT {
            self.write_lost();
            self.lines.extend_from_slice(line);
        } else {
            self.lost += 1;
        }
    }

    /// Appends `{"lost":N}`, if lines are lost.
    fn write_lost(&mut self) {
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            let line = format!("{{\"lost\":{lost}}}\n");
            self.lines.extend_from_slice(line.as_bytes());
        }
    }
}

/// The lines of one follower.
#[derive(Debug)]
pub struct TailStream {
    tail: Arc<Tail>,
    follower: Arc<Follower>,
}

impl TailStream {
    /// Waits for lines: whole ones, each with its line feed. `None` once the gateway is shutting down.
    pub fn poll_lines(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut buffer = self.follower.buffer.lock();
        buffer.write_lost();
        if !buffer.lines.is_empty() {
            return Poll::Ready(Some(std::mem::take(&mut buffer.lines).into()));
        }
        if buffer.is_closed {
            return Poll::Ready(None);
        }
        buffer.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for TailStream {
    fn drop(&mut self) {
        self.tail.remove(&self.follower);
    }
}

/// How many can follow at once. Part of the contract: people at terminals, not a way to ship logs.
pub const MAX_FOLLOWERS: usize = 8;

/// Bytes of the lines that a follower has not read, besides what its connection holds. Our choice: some
/// hundred lines, and 4 MiB for all followers.
const BUFFER_LIMIT: usize = 512 << 10;
