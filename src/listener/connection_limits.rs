//! How many connections there may be: in all, of one address, in handshake. At a cap the connection
//! that has been idle longest makes room; if none is idle, the new one goes. A busy connection touches
//! only its own [`Pulse`]: the table is locked when connections come and go, and searched at a cap, once
//! for many that come.

mod activity;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

pub(super) use self::activity::Pulse;
use crate::metrics::{ConnectionEnded, Shard};

/// The caps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CapLimits {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once of one address; IPv6 counts by /64, mapped IPv4 as IPv4.
    pub per_address: usize,
    /// Handshakes at once.
    pub handshakes: usize,
}

/// All connections of the process.
#[derive(Debug)]
pub struct Caps {
    limits: Mutex<CapLimits>,
    table: Mutex<Table>,
    handshaking: AtomicUsize,
    epoch: Instant,
    metrics: Arc<Shard>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    connections: Connections,
    addresses: HashMap<AddressKey, Address, foldhash::fast::RandomState>,
    idle: Oldest,
    handshakes: Oldest,
}

type Connections = HashMap<u64, Entry, foldhash::fast::RandomState>;

#[derive(Debug, Default)]
struct Address {
    open: usize,
    idle: Oldest,
}

#[derive(Debug)]
struct Entry {
    pulse: Arc<Pulse>,
    address: Option<AddressKey>,
}

/// What counts as one address.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum AddressKey {
    V4(u32),
    V6(u64),
}

impl Caps {
    /// Nothing is connected yet.
    pub fn new(limits: CapLimits, metrics: Arc<Shard>) -> Arc<Self> {
        Arc::new(Self {
            limits: Mutex::new(limits),
            table: Mutex::default(),
            handshaking: AtomicUsize::new(0),
            epoch: Instant::now(),
            metrics,
        })
    }

    /// Other limits from now on; nobody is closed for them.
    pub fn set_limits(&self, limits: CapLimits) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    /// Connections that count at this moment.
    pub fn connections(&self) -> usize {
        self.table().connections.len()
    }

    /// Lets a connection in, at the cost of the longest idle one if need be. Without an address only
    /// the cap of all connections is asked: it is charged once its proxy has named it.
    pub fn admit(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Permit> {
        let limits = self.limits();
        let key = address.map(AddressKey::of);
        let mut table = self.table();
        if !self.has_room_for(&mut table, key, limits.per_address) {
            return None;
        }
        if table.connections.len() >= limits.connections && !table.evict_idle(None) {
            self.metrics.count(ConnectionEnded::Cap);
            return None;
        }
        let id = table.next;
        table.next += 1;
        let pulse = Arc::new(Pulse::new(self.epoch));
        table.insert(
            id,
            Entry {
                pulse: pulse.clone(),
                address: key,
            },
        );
        drop(table);
        Some(Permit {
            caps: self.clone(),
            id,
            pulse,
        })
    }

    /// Closes the connection that has been idle longest, for its descriptor.
    pub(super) fn evict_one(&self) -> bool {
        self.table().evict_idle(None)
    }

    fn has_room_for(&self, table: &mut Table, key: Option<AddressKey>, cap: usize) -> bool {
        let Some(key) = key else { return true };
        let open = table.addresses.get(&key).map_or(0, |address| address.open);
        let room = open < cap || table.evict_idle(Some(key));
        if !room {
            self.metrics.count(ConnectionEnded::AddressCap);
        }
        room
    }

    fn limits(&self) -> CapLimits {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn insert(&mut self, id: u64, entry: Entry) {
        if let Some(key) = entry.address {
            self.addresses.entry(key).or_default().open += 1;
        }
        self.connections.insert(id, entry);
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Pulse>> {
        let entry = self.connections.remove(&id)?;
        if let Some(key) = entry.address
            && let Some(address) = self.addresses.get_mut(&key)
        {
            address.open -= 1;
            if address.open == 0 {
                self.addresses.remove(&key);
            }
        }
        Some(entry.pulse)
    }

    /// Evicts the longest idle connection, of one address if one is given. It counts no more from
    /// now on; should a request have just come, it ends after the answer.
    fn evict_idle(&mut self, of: Option<AddressKey>) -> bool {
        let idle = match of {
            None => Some(&mut self.idle),
            Some(key) => self
                .addresses
                .get_mut(&key)
                .map(|address| &mut address.idle),
        };
        let oldest = idle.and_then(|idle| {
            idle.next(&self.connections, |entry| {
                let counts = of.is_none_or(|key| entry.address == Some(key));
                counts.then(|| entry.pulse.idle_since()).flatten()
            })
        });
        self.evict(oldest)
    }

    /// Evicts the oldest handshake.
    fn evict_handshake(&mut self) -> bool {
        let oldest = self
            .handshakes
            .next(&self.connections, |entry| entry.pulse.handshaking_since());
        self.evict(oldest)
    }

    fn evict(&mut self, id: Option<u64>) -> bool {
        let evicted = id.and_then(|id| self.remove(id));
        if let Some(pulse) = &evicted {
            pulse.evict();
        }
        evicted.is_some()
    }
}

/// Who is evicted next, as a search has found them: since when, and the id; the oldest is last. A
/// connection's time only ever moves on, so as long as one of them still has the time it was found
/// with, none of the others can be older.
#[derive(Debug, Default)]
struct Oldest(Vec<(u64, u64)>);

impl Oldest {
    /// The connection for which `since` is least.
    fn next(
        &mut self,
        connections: &Connections,
        since: impl Fn(&Entry) -> Option<u64>,
    ) -> Option<u64> {
        self.known(connections, &since).or_else(|| {
            self.0.extend(
                connections
                    .iter()
                    .filter_map(|(&id, entry)| Some((since(entry)?, id))),
            );
            if self.0.len() > FOUND {
                self.0.select_nth_unstable(FOUND);
                self.0.truncate(FOUND);
                self.0.shrink_to_fit();
            }
            self.0.sort_unstable_by_key(|&found| Reverse(found));
            self.known(connections, &since)
        })
    }

    fn known(
        &mut self,
        connections: &Connections,
        since: impl Fn(&Entry) -> Option<u64>,
    ) -> Option<u64> {
        while let Some((then, id)) = self.0.pop() {
            if connections.get(&id).and_then(&since) == Some(then) {
                return Some(id);
            }
        }
        None
    }
}

/// As many are kept of one search.
const FOUND: usize = 64;

impl AddressKey {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            // The upper half is the network a client was given.
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// The right of one connection to be; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    caps: Arc<Caps>,
    id: u64,
    pulse: Arc<Pulse>,
}

impl Permit {
    /// Counts the connection for the address that a proxy named; `false` if that is over its cap.
    pub(super) fn charge(&self, address: IpAddr) -> bool {
        let key = AddressKey::of(address);
        let limits = self.caps.limits();
        let mut table = self.caps.table();
        if !self
            .caps
            .has_room_for(&mut table, Some(key), limits.per_address)
        {
            return false;
        }
        let Some(pulse) = table.remove(self.id) else {
            return false;
        };
        table.insert(
            self.id,
            Entry {
                pulse,
                address: Some(key),
            },
        );
        true
    }

    /// Begins the handshake; over the cap the oldest handshake makes room, so that idle ones cannot
    /// keep others out.
    pub(super) fn handshake(&self) -> Handshaking<'_> {
        let running = self.caps.handshaking.fetch_add(1, Relaxed) + 1;
        if running > self.caps.limits().handshakes && self.caps.table().evict_handshake() {
            self.caps.metrics.count(ConnectionEnded::Cap);
        }
        Handshaking(&self.caps.handshaking)
    }

    /// The connection's sign of life.
    pub(super) fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.caps.table().remove(self.id);
    }
}

/// Counts as a handshake while it lives.
#[derive(Debug)]
pub(super) struct Handshaking<'a>(&'a AtomicUsize);

impl Drop for Handshaking<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests;
