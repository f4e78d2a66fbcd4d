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

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use parking_lot::{Mutex, RwLock};

use crate::auth::AccessKey;
use crate::message::Purge;

/// Any number of purges, to be carried out together.
#[derive(Clone, Debug, Default)]
pub struct PurgeSet {
    everything: bool,
    access_keys: HashSet<AccessKey, RandomState>,
    call_ids: HashSet<Box<str>, RandomState>,
    /// The purges that name both: call ids by access key.
    calls: HashMap<AccessKey, HashSet<Box<str>, RandomState>, RandomState>,
}

impl PurgeSet {
    /// Whether any of the purges covers a response to this access key for this call. Takes the same
    /// time for any number of purges.
    pub fn matches(&self, access_key: &AccessKey, call_id: Option<&str>) -> bool {
        let has_call = |call_ids: &HashSet<_, _>| call_id.is_some_and(|id| call_ids.contains(id));
        self.everything
            || self.access_keys.contains(access_key)
            || has_call(&self.call_ids)
            || self.calls.get(access_key).is_some_and(has_call)
    }

    /// Whether there is no purge.
    pub fn is_empty(&self) -> bool {
        !self.everything
            && self.access_keys.is_empty()
            && self.call_ids.is_empty()
            && self.calls.is_empty()
    }

    /// Returns the access keys whose responses may be covered.
    pub fn access_keys(&self) -> PurgedKeys {
        if self.everything || !self.call_ids.is_empty() {
            return PurgedKeys::All;
        }
        let named = self.access_keys.iter().chain(self.calls.keys());
        PurgedKeys::Some(named.cloned().collect())
    }

    fn merge(&mut self, other: Self) {
        self.everything |= other.everything;
        self.access_keys.extend(other.access_keys);
        self.call_ids.extend(other.call_ids);
        for (access_key, call_ids) in other.calls {
            self.calls.entry(access_key).or_default().extend(call_ids);
        }
    }
}

/// The access keys that purges may concern.
#[derive(Debug)]
pub enum PurgedKeys {
    /// All of them.
    All,
    /// Only these.
    Some(HashSet<AccessKey, RandomState>),
}

impl PurgedKeys {
    /// Whether an access key is one of them.
    pub fn contains(&self, access_key: &AccessKey) -> bool {
        match self {
            Self::All => true,
            Self::Some(access_keys) => access_keys.contains(access_key),
        }
    }
}

impl Extend<Purge> for PurgeSet {
    fn extend<I: IntoIterator<Item = Purge>>(&mut self, purges: I) {
        for purge in purges {
            match (purge.access_key, purge.call_id) {
                (None, None) => self.everything = true,
                (Some(access_key), None) => {
                    self.access_keys.insert(access_key);
                }
                (None, Some(call_id)) => {
                    self.call_ids.insert(call_id);
                }
                (Some(access_key), Some(call_id)) => {
                    self.calls.entry(access_key).or_default().insert(call_id);
                }
            }
        }
    }
}

impl FromIterator<Purge> for PurgeSet {
    fn from_iter<I: IntoIterator<Item = Purge>>(purges: I) -> Self {
        let mut set = Self::default();
        set.extend(purges);
        set
    }
}

impl From<Purge> for PurgeSet {
    fn from(purge: Purge) -> Self {
        Self::from_iter([purge])
    }
}

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
        let batch = batches.next.get_or_insert_default();
        batch.set.merge(set);
        batch.epoch = epoch;
        let removed = batch.removed.clone();
        self.is_pending.store(true, Ordering::Release);
        PurgeHandle(removed)
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
