//! Purges that the store has yet to be told of: none is lost while it is away.

use std::collections::VecDeque;
use std::sync::Mutex;

use tokio::sync::{Notify, watch};

use super::lock;
use super::purge_log::{MOST, Record};
use crate::message::Purge;

/// In the order in which they were ordered.
#[derive(Debug)]
pub(super) struct Pending {
    queue: Mutex<VecDeque<Record>>,
    more: Notify,
    left: watch::Sender<usize>,
}

impl Default for Pending {
    fn default() -> Self {
        Self {
            queue: Mutex::default(),
            more: Notify::new(),
            left: watch::Sender::new(0),
        }
    }
}

impl Pending {
    /// One more. Too many become one that covers all.
    pub(super) fn push(&self, record: Record) {
        let mut queue = lock(&self.queue);
        if record.purge.is_everything() {
            // Who is told of it need not be told of those before.
            queue.clear();
        }
        queue.push_back(record);
        if queue.len() > MOST {
            queue.clear();
            queue.push_back(Record::new(Purge::default()));
        }
        self.left.send_replace(queue.len());
        self.more.notify_one();
    }

    /// The oldest; stays until it is [`Pending::done`].
    pub(super) fn first(&self) -> Option<Record> {
        lock(&self.queue).front().cloned()
    }

    /// The store knows this one.
    pub(super) fn done(&self, record: &Record) {
        let mut queue = lock(&self.queue);
        // It may have become part of one that covers all.
        if queue.front() == Some(record) {
            queue.pop_front();
        }
        self.left.send_replace(queue.len());
    }

    /// Leaves all to another.
    pub(super) fn hand_over(&self, other: &Self) {
        let records = std::mem::take(&mut *lock(&self.queue));
        records.into_iter().for_each(|record| other.push(record));
    }

    /// Resolves when there may be more.
    pub(super) async fn more(&self) {
        self.more.notified().await;
    }

    /// Resolves when none is left.
    pub(super) async fn told(&self) {
        // The sender lives as long as this.
        let _ = self.left.subscribe().wait_for(|left| *left == 0).await;
    }

    /// How many are left.
    pub(super) fn len(&self) -> usize {
        *self.left.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_become_one() {
        let pending = Pending::default();
        let one = || {
            Record::new(Purge {
                call_id: Some("c".into()),
                ..Purge::default()
            })
        };
        let first = one();
        pending.push(first.clone());
        for _ in 0..MOST {
            pending.push(one());
        }
        assert_eq!(pending.len(), 1);
        assert!(pending.first().unwrap().purge.is_everything());
        pending.done(&first);
        assert_eq!(pending.len(), 1, "is another one");
        pending.done(&pending.first().unwrap());
        assert_eq!(pending.len(), 0);
    }
}
