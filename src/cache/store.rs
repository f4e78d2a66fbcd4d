//! A map bounded by weight that evicts what was not used for longest. Keys are spread over shards by their
//! hash; each shard has a lock and an order of use of its own, so that a hit holds no lock for longer than
//! the look-up. The bound is one for all shards: they are evicted from in turn.
//!
//! ```text
//! hash ──► shard ──► index ──► slots [ key value ⇄ ][ key value ⇄ ]…   ⇄ order of use, newest to oldest
//! ```

use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use parking_lot::Mutex;

/// A map bounded by the weight of its entries, for many threads.
#[derive(Debug)]
pub(super) struct Store<K, V> {
    shards: Box<[Mutex<Shard<K, V>>]>,
    hasher: RandomState,
    max_weight: u64,
    weight: AtomicU64,
    /// The shard that is evicted from next.
    hand: AtomicUsize,
}

impl<K: Hash + Eq, V: Clone> Store<K, V> {
    /// Creates an empty store of at most `max_weight`.
    pub(super) fn new(max_weight: u64) -> Self {
        let count = usize::try_from(max_weight / WEIGHT_PER_SHARD).unwrap_or(usize::MAX);
        let count = count.clamp(1, MAX_SHARDS).next_power_of_two();
        Self {
            shards: (0..count).map(|_| Mutex::default()).collect(),
            hasher: RandomState::default(),
            max_weight,
            weight: AtomicU64::new(0),
            hand: AtomicUsize::new(0),
        }
    }

    /// Returns the value of a key, which is now the one used last.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash).lock();
        let place = shard.find(hash, key)?;
        shard.touch(place);
        Some(shard.slots[place].value.clone())
    }

    /// Stores a value, in place of one of the same key, and evicts others until all fit. Returns whether it
    /// is stored: not if it is heavier than the bound.
    pub(super) fn insert(&self, key: K, value: V, weight: u32) -> bool {
        let hash = self.hasher.hash_one(&key);
        if u64::from(weight) > self.max_weight {
            self.remove(&key);
            return false;
        }
        self.weight.fetch_add(weight.into(), Ordering::Relaxed);
        let replaced = self.shard(hash).lock().put(hash, key, value, weight);
        self.subtract(replaced.as_ref());
        while self.weight.load(Ordering::Relaxed) > self.max_weight && self.evict(hash) {}
        true
    }

    /// Removes the value of a key.
    pub(super) fn remove(&self, key: &K) {
        let hash = self.hasher.hash_one(key);
        let removed = {
            let mut shard = self.shard(hash).lock();
            shard.find(hash, key).map(|place| shard.remove(place))
        };
        self.subtract(removed.as_ref());
    }

    /// Removes all entries for which `is_dead` holds, and returns their number. Holds each lock for some
    /// hundred entries at a time; what is inserted meanwhile may be missed.
    pub(super) fn remove_if(&self, is_dead: impl Fn(&K, &V) -> bool) -> usize {
        let mut count = 0;
        self.for_each_piece(|shard, place| {
            let mut removed = Vec::new();
            // Removing moves the last slot into the place, so that the pass runs from the end.
            let start = place.saturating_sub(PIECE);
            for place in (start..place).rev() {
                let slot = &shard.slots[place];
                if is_dead(&slot.key, &slot.value) {
                    removed.push(shard.remove(place));
                }
            }
            count += removed.len();
            removed
        });
        count
    }

    /// Calls `visit` with all entries, like [`Store::remove_if`].
    pub(super) fn for_each(&self, mut visit: impl FnMut(&K, &V)) {
        self.for_each_piece(|shard, place| {
            let start = place.saturating_sub(PIECE);
            for slot in &shard.slots[start..place] {
                visit(&slot.key, &slot.value);
            }
            Vec::new()
        });
    }

    /// Returns the number of entries and their weight.
    pub(super) fn size(&self) -> (u64, u64) {
        let count: usize = self.shards.iter().map(|it| it.lock().slots.len()).sum();
        (count as u64, self.weight.load(Ordering::Relaxed))
    }

    /// Calls `pass` for pieces of each shard, from its end to its beginning, with the end of the piece.
    /// What it removes is dropped after the lock is released.
    fn for_each_piece(&self, mut pass: impl FnMut(&mut Shard<K, V>, usize) -> Vec<Slot<K, V>>) {
        for shard in &self.shards {
            let mut place = usize::MAX;
            while place > 0 {
                let removed = {
                    let mut shard = shard.lock();
                    place = place.min(shard.slots.len());
                    pass(&mut shard, place)
                };
                place = place.saturating_sub(PIECE);
                for slot in &removed {
                    self.subtract(Some(slot));
                }
            }
        }
    }

    /// Evicts the oldest entry of the next shard that has one, except the entry with this hash. Returns
    /// false if there is no other.
    fn evict(&self, except: u64) -> bool {
        for _ in 0..self.shards.len() {
            let hand = self.hand.fetch_add(1, Ordering::Relaxed) & (self.shards.len() - 1);
            let evicted = self.shards[hand].lock().evict(except);
            if evicted.is_some() {
                self.subtract(evicted.as_ref());
                return true;
            }
        }
        false
    }

    fn subtract(&self, slot: Option<&Slot<K, V>>) {
        if let Some(slot) = slot {
            self.weight.fetch_sub(slot.weight.into(), Ordering::Relaxed);
        }
    }

    fn shard(&self, hash: u64) -> &Mutex<Shard<K, V>> {
        // Bits that the index does not use: it takes the lowest for the place and the highest for the tag.
        &self.shards[(hash >> 32) as usize & (self.shards.len() - 1)]
    }
}

/// One part of the entries, with their order of use. Slots are dense: a removal moves the last one.
#[derive(Debug)]
struct Shard<K, V> {
    index: HashTable<u32>,
    slots: Vec<Slot<K, V>>,
    newest: u32,
    oldest: u32,
}

#[derive(Debug)]
struct Slot<K, V> {
    key: K,
    value: V,
    hash: u64,
    weight: u32,
    /// The slot that was used next after this one.
    newer: u32,
    /// The slot that was used last before this one.
    older: u32,
}

impl<K, V> Default for Shard<K, V> {
    fn default() -> Self {
        Self {
            index: HashTable::new(),
            slots: Vec::new(),
            newest: NONE,
            oldest: NONE,
        }
    }
}

impl<K: Eq, V> Shard<K, V> {
    fn find(&self, hash: u64, key: &K) -> Option<usize> {
        let is_it = |place: &u32| self.slots[*place as usize].key == *key;
        self.index.find(hash, is_it).map(|place| *place as usize)
    }

    /// Stores an entry as the newest; returns the one that it replaces.
    fn put(&mut self, hash: u64, key: K, value: V, weight: u32) -> Option<Slot<K, V>> {
        let replaced = self.find(hash, &key).map(|place| self.remove(place));
        let place = u32::try_from(self.slots.len()).unwrap_or(NONE);
        let slots = &self.slots;
        let hash_of = |place: &u32| slots[*place as usize].hash;
        self.index.insert_unique(hash, place, hash_of);
        self.slots.push(Slot {
            key,
            value,
            hash,
            weight,
            newer: NONE,
            older: NONE,
        });
        self.link(place);
        replaced
    }

    fn evict(&mut self, except: u64) -> Option<Slot<K, V>> {
        let oldest = self.slots.get(self.oldest as usize)?;
        let place = match oldest.hash == except {
            true => oldest.newer,
            false => self.oldest,
        };
        (place != NONE).then(|| self.remove(place as usize))
    }

    fn remove(&mut self, place: usize) -> Slot<K, V> {
        self.unlink(place);
        let last = self.slots.len() - 1;
        self.reindex(place, None);
        if place != last {
            self.reindex(last, Some(place as u32));
        }
        let removed = self.slots.swap_remove(place);
        if self.slots.len() * 8 < self.slots.capacity() {
            self.slots.shrink_to(self.slots.len() * 2);
        }
        removed
    }

    /// Lets the index and the neighbours of a slot know its new place; without one, removes it from the index.
    fn reindex(&mut self, place: usize, new: Option<u32>) {
        let Slot {
            hash, newer, older, ..
        } = self.slots[place];
        let is_it = |it: &u32| *it as usize == place;
        let Ok(mut entry) = self.index.find_entry(hash, is_it) else {
            return;
        };
        let Some(new) = new else {
            entry.remove();
            return;
        };
        *entry.get_mut() = new;
        self.set_older_of(newer, new);
        self.set_newer_of(older, new);
    }

    /// Makes an entry the newest.
    fn touch(&mut self, place: usize) {
        let place_u32 = place as u32;
        if self.newest != place_u32 {
            self.unlink(place);
            self.link(place_u32);
        }
    }

    fn link(&mut self, place: u32) {
        let slot = &mut self.slots[place as usize];
        slot.newer = NONE;
        slot.older = self.newest;
        self.set_newer_of(self.newest, place);
        self.newest = place;
    }

    fn unlink(&mut self, place: usize) {
        let Slot { newer, older, .. } = self.slots[place];
        self.set_older_of(newer, older);
        self.set_newer_of(older, newer);
    }

    /// Sets what follows a slot toward the oldest; of no slot, the newest itself.
    fn set_older_of(&mut self, place: u32, older: u32) {
        match self.slots.get_mut(place as usize) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
    }

    /// Sets what follows a slot toward the newest; of no slot, the oldest itself.
    fn set_newer_of(&mut self, place: u32, newer: u32) {
        match self.slots.get_mut(place as usize) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
    }
}

/// No slot. A shard never has so many.
const NONE: u32 = u32::MAX;

/// A shard is worth its lock for about a thousand responses of usual size.
const WEIGHT_PER_SHARD: u64 = 1 << 20;

const MAX_SHARDS: usize = 256;

/// Entries that are looked at under one lock.
const PIECE: usize = 512;

#[cfg(test)]
mod tests;
