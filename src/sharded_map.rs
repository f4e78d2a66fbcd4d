//! A hash map in immutable shards. A copy shares all of them; a change copies one. So the next generation
//! of a hundred thousand access keys costs what changed, and a reader sees one consistent generation.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, LazyLock};

use foldhash::fast::RandomState;

/// A map whose copies share what they have in common.
#[derive(Debug)]
pub struct ShardedMap<K, V> {
    shards: Arc<[Arc<Shard<K, V>>]>,
    len: usize,
}

type Shard<K, V> = HashMap<K, V, RandomState>;

impl<K, V> Clone for ShardedMap<K, V> {
    fn clone(&self) -> Self {
        Self {
            shards: self.shards.clone(),
            len: self.len,
        }
    }
}

impl<K, V> Default for ShardedMap<K, V> {
    fn default() -> Self {
        let empty = Arc::new(Shard::with_hasher(HASHER.clone()));
        Self {
            shards: std::iter::repeat_n(empty, SHARDS).collect(),
            len: 0,
        }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> ShardedMap<K, V> {
    /// Returns the value of a key.
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.shards.get(shard_of(key))?.get(key)
    }

    /// Whether the map has a key.
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.get(key).is_some()
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns all keys and values, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// Returns all keys, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// Returns all values, in no particular order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// Inserts a value and returns the one that it replaces. Copies one shard if it is shared.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let shard = Arc::make_mut(&mut self.shards).get_mut(shard_of(&key))?;
        let before = Arc::make_mut(shard).insert(key, value);
        self.len += usize::from(before.is_none());
        before
    }

    /// Removes a key and returns its value. Copies one shard if it is shared.
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if !self.contains_key(key) {
            return None;
        }
        let shard = Arc::make_mut(&mut self.shards).get_mut(shard_of(key))?;
        let before = Arc::make_mut(shard).remove(key);
        self.len -= usize::from(before.is_some());
        before
    }

    /// Makes the map of values derived from these. `previous` is a map of this kind and what was derived
    /// from it: where a shard is the same, so is the derived one; `make` gets the derived value of the
    /// same key. Many values are made on all CPUs.
    pub fn derive<W>(
        &self,
        previous: Option<(&Self, &ShardedMap<K, W>)>,
        make: impl Fn(&K, &V, Option<&W>) -> W + Sync,
    ) -> ShardedMap<K, W>
    where
        K: Send + Sync,
        V: Send + Sync,
        W: Clone + Send + Sync,
    {
        let make_shard = |index: usize| -> Arc<Shard<K, W>> {
            let Some(shard) = self.shards.get(index) else {
                return Arc::new(Shard::with_hasher(HASHER.clone()));
            };
            let before = previous.and_then(|(source, derived)| {
                Some((source.shards.get(index)?, derived.shards.get(index)?))
            });
            if let Some((source, derived)) = before
                && Arc::ptr_eq(source, shard)
            {
                return derived.clone();
            }
            let values = shard.iter().map(|(key, value)| {
                let before = before.and_then(|(_, derived)| derived.get(key));
                (key.clone(), make(key, value, before))
            });
            let mut made = Shard::with_capacity_and_hasher(shard.len(), HASHER.clone());
            made.extend(values);
            Arc::new(made)
        };
        let is_large = self.len >= PARALLEL_LEN && previous.is_none();
        ShardedMap {
            shards: if is_large {
                on_all_cpus(&make_shard)
            } else {
                (0..SHARDS).map(make_shard).collect()
            },
            len: self.len,
        }
    }

    /// Returns the keys and values whose shards differ from those of `other`.
    pub fn unshared<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a K, &'a V)> {
        let shards = self.shards.iter().zip(other.shards.iter());
        let unshared = shards.filter(|(own, other)| !Arc::ptr_eq(own, other));
        unshared.flat_map(|(own, _)| own.iter())
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Extend<(K, V)> for ShardedMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, values: I) {
        for (key, value) in values {
            self.insert(key, value);
        }
    }
}

/// Makes all shards, each CPU a part of them.
fn on_all_cpus<S: Send>(make_shard: &(impl Fn(usize) -> S + Sync)) -> Arc<[S]> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let part = SHARDS.div_ceil(cpus);
    let make_part = |start: usize| -> Vec<S> {
        let end = SHARDS.min(start + part);
        (start..end).map(make_shard).collect()
    };
    std::thread::scope(|scope| {
        let starts = (part..SHARDS).step_by(part);
        let helpers = starts.map(|start| (start, scope.spawn(move || make_part(start))));
        let helpers: Vec<_> = helpers.collect();
        let mut shards = make_part(0);
        for (start, helper) in helpers {
            // A panic is repeated here.
            shards.extend(helper.join().unwrap_or_else(|_| make_part(start)));
        }
        shards.into()
    })
}

/// Equal keys are in the same shard of every map.
fn shard_of<Q: Hash + ?Sized>(key: &Q) -> usize {
    // Neither the upper bits, which `HashMap` compares first, nor the lower ones, which select its
    // bucket: all keys of a shard have these in common.
    let bits = (HASHER.hash_one(key) >> 40) as usize;
    bits % SHARDS
}

/// One for the process, so that the shards of different maps correspond.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// Fewer values are made sooner than threads are started.
const PARALLEL_LEN: usize = 1 << 12;

/// A hundred thousand keys are about a hundred in each, which are copied in a few microseconds.
const SHARDS: usize = 1 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(range: std::ops::Range<u32>) -> ShardedMap<String, u32> {
        let mut map = ShardedMap::default();
        map.extend(range.map(|number| (number.to_string(), number)));
        map
    }

    #[test]
    fn a_copy_shares_all_shards_but_the_changed_one() {
        let first = numbers(0..10_000);
        let mut second = first.clone();
        assert_eq!(second.insert("17".to_owned(), 18), Some(17));
        assert_eq!(second.remove("no such key"), None);
        assert_eq!((first.get("17"), second.get("17")), (Some(&17), Some(&18)));
        assert!((1..100).contains(&second.unshared(&first).count()));
        assert!(second.unshared(&first).any(|(key, _)| key == "17"));
        assert_eq!(second.remove("17"), Some(18));
        assert_eq!((second.len(), second.get("17")), (9_999, None));
        assert_eq!(second.iter().count(), 9_999);
    }

    #[test]
    fn what_is_derived_from_the_same_shard_stays_the_same() {
        let first = numbers(0..10_000);
        let derived = first.derive(None, |_, number, _| Arc::new(*number));
        let mut second = first.clone();
        second.insert("17".to_owned(), 18);
        let next = second.derive(Some((&first, &derived)), |_, number, before| {
            let kept = before.filter(|before| ***before == *number).cloned();
            kept.unwrap_or_else(|| Arc::new(*number))
        });
        assert_eq!((next.len(), **next.get("17").unwrap()), (10_000, 18));
        for number in (0..10_000).filter(|number| *number != 17) {
            let key = number.to_string();
            let [before, after] = [&derived, &next].map(|map| map.get(&key).unwrap());
            assert!(Arc::ptr_eq(before, after));
        }
    }
}
