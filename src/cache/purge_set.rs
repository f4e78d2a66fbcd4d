//! Any number of purges as one value.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

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

    /// Returns the number of purges.
    pub(super) fn len(&self) -> usize {
        let calls = self.calls.values().map(HashSet::len).sum::<usize>();
        usize::from(self.everything) + self.access_keys.len() + self.call_ids.len() + calls
    }

    /// Returns the purges one by one.
    pub(super) fn purges(&self) -> impl Iterator<Item = Purge> {
        let purge = |access_key: Option<&AccessKey>, call_id: Option<&Box<str>>| Purge {
            access_key: access_key.cloned(),
            call_id: call_id.cloned(),
        };
        let everything = self.everything.then(Purge::default);
        let access_keys = self.access_keys.iter().map(move |ak| purge(Some(ak), None));
        let call_ids = self.call_ids.iter().map(move |id| purge(None, Some(id)));
        let calls = self.calls.iter().flat_map(move |(ak, call_ids)| {
            call_ids.iter().map(move |id| purge(Some(ak), Some(id)))
        });
        everything
            .into_iter()
            .chain(access_keys)
            .chain(call_ids)
            .chain(calls)
    }

    /// Returns the access keys whose responses may be covered.
    pub fn access_keys(&self) -> PurgedKeys {
        if self.everything || !self.call_ids.is_empty() {
            return PurgedKeys::All;
        }
        let named = self.access_keys.iter().chain(self.calls.keys());
        PurgedKeys::Some(named.cloned().collect())
    }

    pub(super) fn merge(&mut self, other: Self) {
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
