//! Purges that the store has yet to be told of: none is lost while it is away.

use std::collections::VecDeque;
use std::sync::Mutex;

use tokio::sync::{Notify, watch};

use super::lock;
use super::purge_log::{MAX_PURGES, PurgeRecord};
use crate::message::Purge;

/// In the order in which they were ordered.
#[derive(Debug)]
pub(super) struct PurgeQueue {
    queue: Mutex<VecDeque<PurgeRecord>>,
    pushed: Notify,
    length: watch::Sender<usize>,
}

impl Default for PurgeQueue {
    fn default() -> Self {
        Self {
            queue: Mutex::default(),
            pushed: Notify::new(),
            length: watch::Sender::new(0),
        }
    }
}

impl PurgeQueue {
    /// One more. Too many become one that covers all.
    pub(super) fn push(&self, record: PurgeRecord) {
        let mut queue = lock(&self.queue);
        if record.purge.is_everything() {
            // Who is told of it need not be told of those before.
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

    /// The oldest; stays until it is [`Pending::done`].
    pub(super) fn first(&self) -> Option<PurgeRecord> {
        lock(&self.queue).front().cloned()
    }

    /// The store knows this one.
    pub(super) fn acknowledge(&self, record: &PurgeRecord) {
        let mut queue = lock(&self.queue);
        // It may have become part of one that covers all.
        if queue.front() == Some(record) {
            queue.pop_front();
        }
        self.length.send_replace(queue.len());
    }

    /// Leaves all to another.
    pub(super) fn move_to(&self, other: &Self) {
        let records = std::mem::take(&mut *lock(&self.queue));
        records.into_iter().for_each(|record| other.push(record));
    }

    /// Resolves when there may be more.
    pub(super) async fn wait_for_push(&self) {
        self.pushed.notified().await;
    }

    /// Resolves when none is left.
    pub(super) async fn wait_until_empty(&self) {
        // The sender lives as long as this.
        let _ = self.length.subscribe().wait_for(|left| *left == 0).await;
    }

    /// How many are left.
    pub(super) fn len(&self) -> usize {
        *self.length.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_become_one() {
        let pending = PurgeQueue::default();
        let one = || {
            PurgeRecord::new(Purge {
                call_id: Some("c".into()),
                ..Purge::default()
            })
        };
        let first = one();
        pending.push(first.clone());
        for _ in 0..MAX_PURGES {
            pending.push(one());
        }
        assert_eq!(pending.len(), 1);
        assert!(pending.first().unwrap().purge.is_everything());
        pending.acknowledge(&first);
        assert_eq!(pending.len(), 1, "is another one");
        pending.acknowledge(&pending.first().unwrap());
        assert_eq!(pending.len(), 0);
    }
}
