//! Purges: effective at once, carried out later. A purge first marks what it covers, which costs the
//! same for any number of entries, and hits of marked entries are misses from then on. A sweep then
//! removes these entries in one pass over the cache, on a thread that serves no requests.
//!
//! ```text
//! begin ---> next ---(sweep begins)---> sweeping ---(sweep ends)---> gone
//!             ^ purges that come meanwhile are merged
//! ```
//!
//! At most two batches exist at any time, so that a hit compares with two sets at most, however many
//! purges come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};

use super::purge_set::PurgeSet;
use super::recent_purges::RecentPurges;
use crate::auth::AccessKey;

/// The purges of a cache that are not carried out yet.
#[derive(Debug, Default)]
pub(super) struct PendingPurges {
    /// Advanced by each purge. An entry carries the epoch in which its fetch began.
    epoch: AtomicU64,
    /// Whether a hit has to look into `batches`.
    is_pending: AtomicBool,
    batches: RwLock<Batches>,
    /// Held by the running sweep.
    sweep: Mutex<()>,
}

#[derive(Debug, Default)]
struct Batches {
    sweeping: Option<Arc<Batch>>,
    next: Option<Batch>,
    /// Those of the batches and earlier ones.
    recent: RecentPurges,
}

/// Purges that are carried out in one pass.
#[derive(Debug, Default)]
struct Batch {
    set: PurgeSet,
    /// Entries of this epoch or a later one are newer than all purges of the batch.
    epoch: u64,
    removed: Arc<AtomicUsize>,
}

impl Batch {
    fn covers(&self, access_key: &AccessKey, call_id: Option<&str>, epoch: u64) -> bool {
        epoch < self.epoch && self.set.matches(access_key, call_id)
    }
}

/// A purge in effect, with the number of entries that its sweep removed.
#[derive(Debug)]
pub struct PurgeHandle(Arc<AtomicUsize>);

impl PurgeHandle {
    /// Returns the number of entries that were removed, once the sweep has ended. Purges that came
    /// while another sweep was running are counted together.
    pub fn removed(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl PendingPurges {
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Makes a purge effective.
    pub(super) fn begin(&self, set: PurgeSet) -> PurgeHandle {
        let mut batches = self.batches.write();
        let epoch = self.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        batches.recent.add(&set, epoch);
        let batch = batches.next.get_or_insert_default();
        batch.set.merge(set);
        batch.epoch = epoch;
        let removed = batch.removed.clone();
        self.is_pending.store(true, Ordering::Release);
        PurgeHandle(removed)
    }

    /// Whether a purge covers the response of a fetch that began in `epoch`, or may do so. Takes no lock
    /// unless there was any purge since.
    pub(super) fn covers_fetch(
        &self,
        access_key: &AccessKey,
        call_id: Option<&str>,
        epoch: u64,
    ) -> bool {
        epoch != self.epoch()
            && self
                .batches
                .read()
                .recent
                .covers(access_key, call_id, epoch)
    }

    /// Whether a pending purge covers an entry.
    pub(super) fn covers(&self, access_key: &AccessKey, call_id: Option<&str>, epoch: u64) -> bool {
        if !self.is_pending.load(Ordering::Acquire) {
            return false;
        }
        let batches = self.batches.read();
        let sweeping = batches.sweeping.as_deref();
        let mut batches = sweeping.into_iter().chain(batches.next.as_ref());
        batches.any(|batch| batch.covers(access_key, call_id, epoch))
    }

    /// Carries out all purges that have begun: calls `remove` with a predicate, and expects it to
    /// return the number of entries that it has removed. One sweep runs at a time; a purge that began
    /// before the call is carried out when this returns.
    pub(super) fn sweep(
        &self,
        remove: impl FnOnce(&dyn Fn(&AccessKey, Option<&str>, u64) -> bool) -> usize,
    ) {
        let _running = self.sweep.lock();
        let batch = {
            let mut batches = self.batches.write();
            let Some(batch) = batches.next.take().map(Arc::new) else {
                return;
            };
            batches.sweeping = Some(batch.clone());
            batch
        };
        let removed =
            remove(&|access_key, call_id, epoch| batch.covers(access_key, call_id, epoch));
        batch.removed.store(removed, Ordering::Release);
        let mut batches = self.batches.write();
        batches.sweeping = None;
        self.is_pending
            .store(batches.next.is_some(), Ordering::Release);
    }
}
