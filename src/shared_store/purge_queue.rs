//! Purges that the store has not acknowledged yet. None is lost while the store is unavailable.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::purge_log::{MAX_PURGES, PurgeRecord};
use crate::message::Purge;

/// The purges of this replica that are not published yet, oldest first.
#[derive(Debug)]
pub(super) struct PurgeQueue {
    queue: Mutex<VecDeque<PurgeRecord>>,
    pushed: Notify,
    length: watch::Sender<usize>,
    /// Other replicas that received the last acknowledged purge.
    receivers: AtomicU64,
}

impl Default for PurgeQueue {
    fn default() -> Self {
        Self {
            queue: Mutex::default(),
            pushed: Notify::new(),
            length: watch::Sender::new(0),
            receivers: AtomicU64::new(0),
        }
    }
}

impl PurgeQueue {
    /// Appends a purge. More than [`MAX_PURGES`] are replaced by one purge of everything.
    pub(super) fn push(&self, record: PurgeRecord) {
        let mut queue = self.queue.lock();
        if record.purge.is_everything() {
            // It covers all purges before it.
            queue.clear();
        }
        queue.push_back(record);
        if queue.len() > MAX_PURGES {
            queue.clear();
            queue.push_back(PurgeRecord::new(Purge::default()));
        }
        self.length.send_replace(queue.len());
        self.pushed.notify_one();
    }

    /// Returns the oldest purge, which stays queued until [`PurgeQueue::acknowledge`].
    pub(super) fn first(&self) -> Option<PurgeRecord> {
        self.queue.lock().front().cloned()
    }

    /// Removes a purge that the store has taken, and that `receivers` other replicas have received.
    pub(super) fn acknowledge(&self, record: &PurgeRecord, receivers: u64) {
        self.receivers.store(receivers, Ordering::Relaxed);
        let mut queue = self.queue.lock();
        // It may have been replaced by a purge of everything meanwhile.
        if queue.front() == Some(record) {
            queue.pop_front();
        }
        self.length.send_replace(queue.len());
    }

    /// Moves all purges to the queue of the store that replaces this one after a reload.
    pub(super) fn move_to(&self, other: &Self) {
        let records = std::mem::take(&mut *self.queue.lock());
        records.into_iter().for_each(|record| other.push(record));
    }

    /// Resolves after a purge was pushed; may resolve once without one.
    pub(super) async fn wait_for_push(&self) {
        self.pushed.notified().await;
    }

    /// Resolves when the queue is empty, with the number of other replicas that received the last purge.
    pub(super) async fn wait_until_empty(&self) -> u64 {
        // Cannot fail: the sender lives as long as `self`.
        let _ = self
            .length
            .subscribe()
            .wait_for(|&length| length == 0)
            .await;
        self.receivers.load(Ordering::Relaxed)
    }

    /// Returns the number of queued purges.
    pub(super) fn len(&self) -> usize {
        *self.length.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_maximum_become_one() {
        let queue = PurgeQueue::default();
        let one = || {
            PurgeRecord::new(Purge {
                call_id: Some("c".into()),
                ..Purge::default()
            })
        };
        let first = one();
        queue.push(first.clone());
        for _ in 0..MAX_PURGES {
            queue.push(one());
        }
        assert_eq!(queue.len(), 1);
        assert!(queue.first().unwrap().purge.is_everything());
        queue.acknowledge(&first, 1);
        assert_eq!(queue.len(), 1, "the purge of everything stays queued");
        queue.acknowledge(&queue.first().unwrap(), 1);
        assert_eq!(queue.len(), 0);
    }
}
