//! How many connections there may be: in all, of one address, in handshake. At a cap the connection
//! that has been idle longest makes room; if none is idle, the new one goes. A busy connection touches
//! only its own [`Pulse`]: the table is locked when connections come and go, and searched at a cap, once
//! for many that come.

mod activity;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

pub(super) use self::activity::Activity;
use crate::gauge::{Gauge, GaugeGuard};
use crate::metrics::{ConnectionEndReason, Shard};

/// The caps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConnectionLimitSettings {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once of one address; IPv6 counts by /64, mapped IPv4 as IPv4.
    pub per_address: usize,
    /// Handshakes at once.
    pub handshakes: usize,
}

/// All connections of the process.
#[derive(Debug)]
pub struct ConnectionLimits {
    settings: Mutex<ConnectionLimitSettings>,
    table: Mutex<ConnectionTable>,
    active_handshakes: Gauge,
    epoch: Instant,
    metrics: Arc<Shard>,
}

#[derive(Debug, Default)]
struct ConnectionTable {
    next_id: u64,
    connections: ConnectionMap,
    addresses: HashMap<AddressKey, AddressEntry, foldhash::fast::RandomState>,
    idle: EvictionQueue,
    handshakes: EvictionQueue,
}

type ConnectionMap = HashMap<u64, ConnectionEntry, foldhash::fast::RandomState>;

#[derive(Debug, Default)]
struct AddressEntry {
    open: usize,
    idle: EvictionQueue,
}

#[derive(Debug)]
struct ConnectionEntry {
    activity: Arc<Activity>,
    address: Option<AddressKey>,
}

/// What counts as one address.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum AddressKey {
    V4(u32),
    V6(u64),
}

impl ConnectionLimits {
    /// Nothing is connected yet.
    pub fn new(limits: ConnectionLimitSettings, metrics: Arc<Shard>) -> Arc<Self> {
        Arc::new(Self {
            settings: Mutex::new(limits),
            table: Mutex::default(),
            active_handshakes: Gauge::default(),
            epoch: Instant::now(),
            metrics,
        })
    }

    /// Other limits from now on; nobody is closed for them.
    pub fn set_settings(&self, limits: ConnectionLimitSettings) {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    /// Connections that count at this moment.
    pub fn connection_count(&self) -> usize {
        self.table().connections.len()
    }

    /// Lets a connection in, at the cost of the longest idle one if need be. Without an address only
    /// the cap of all connections is asked: it is charged once its proxy has named it.
    pub fn admit(self: &Arc<Self>, address: Option<IpAddr>) -> Option<ConnectionPermit> {
        let limits = self.settings();
        let key = address.map(AddressKey::from_ip);
        let mut table = self.table();
        if !self.make_room_for_address(&mut table, key, limits.per_address) {
            return None;
        }
        if table.connections.len() >= limits.connections && !table.evict_idle(None) {
            self.metrics.count(ConnectionEndReason::ConnectionLimit);
            return None;
        }
        let id = table.next_id;
        table.next_id += 1;
        let pulse = Arc::new(Activity::new(self.epoch));
        table.insert(
            id,
            ConnectionEntry {
                activity: pulse.clone(),
                address: key,
            },
        );
        drop(table);
        Some(ConnectionPermit {
            limits: self.clone(),
            id,
            activity: pulse,
        })
    }

    /// Closes the connection that has been idle longest, for its descriptor.
    pub(super) fn evict_longest_idle(&self) -> bool {
        self.table().evict_idle(None)
    }

    fn make_room_for_address(
        &self,
        table: &mut ConnectionTable,
        key: Option<AddressKey>,
        cap: usize,
    ) -> bool {
        let Some(key) = key else { return true };
        let open = table.addresses.get(&key).map_or(0, |address| address.open);
        let room = open < cap || table.evict_idle(Some(key));
        if !room {
            self.metrics.count(ConnectionEndReason::AddressLimit);
        }
        room
    }

    fn settings(&self) -> ConnectionLimitSettings {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn table(&self) -> MutexGuard<'_, ConnectionTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionTable {
    fn insert(&mut self, id: u64, entry: ConnectionEntry) {
        if let Some(key) = entry.address {
            self.addresses.entry(key).or_default().open += 1;
        }
        self.connections.insert(id, entry);
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Activity>> {
        let entry = self.connections.remove(&id)?;
        if let Some(key) = entry.address
            && let Some(address) = self.addresses.get_mut(&key)
        {
            address.open -= 1;
            if address.open == 0 {
                self.addresses.remove(&key);
            }
        }
        Some(entry.activity)
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
            idle.pop_oldest(&self.connections, |entry| {
                let counts = of.is_none_or(|key| entry.address == Some(key));
                counts.then(|| entry.activity.idle_since()).flatten()
            })
        });
        self.evict(oldest)
    }

    /// Evicts the oldest handshake.
    fn evict_handshake(&mut self) -> bool {
        let oldest = self.handshakes.pop_oldest(&self.connections, |entry| {
            entry.activity.handshaking_since()
        });
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
struct EvictionQueue(Vec<(u64, u64)>);

impl EvictionQueue {
    /// The connection for which `since` is least.
    fn pop_oldest(
        &mut self,
        connections: &ConnectionMap,
        since: impl Fn(&ConnectionEntry) -> Option<u64>,
    ) -> Option<u64> {
        self.pop_queued(connections, &since).or_else(|| {
            self.0.extend(
                connections
                    .iter()
                    .filter_map(|(&id, entry)| Some((since(entry)?, id))),
            );
            if self.0.len() > QUEUE_CAPACITY {
                self.0.select_nth_unstable(QUEUE_CAPACITY);
                self.0.truncate(QUEUE_CAPACITY);
                self.0.shrink_to_fit();
            }
            self.0.sort_unstable_by_key(|&found| Reverse(found));
            self.pop_queued(connections, &since)
        })
    }

    fn pop_queued(
        &mut self,
        connections: &ConnectionMap,
        since: impl Fn(&ConnectionEntry) -> Option<u64>,
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
const QUEUE_CAPACITY: usize = 64;

impl AddressKey {
    fn from_ip(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            // The upper half is the network a client was given.
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// The right of one connection to be; given back when dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    limits: Arc<ConnectionLimits>,
    id: u64,
    activity: Arc<Activity>,
}

impl ConnectionPermit {
    /// Counts the connection for the address that a proxy named; `false` if that is over its cap.
    pub(super) fn count_for_address(&self, address: IpAddr) -> bool {
        let key = AddressKey::from_ip(address);
        let limits = self.limits.settings();
        let mut table = self.limits.table();
        if !self
            .limits
            .make_room_for_address(&mut table, Some(key), limits.per_address)
        {
            return false;
        }
        let Some(pulse) = table.remove(self.id) else {
            return false;
        };
        table.insert(
            self.id,
            ConnectionEntry {
                activity: pulse,
                address: Some(key),
            },
        );
        true
    }

    /// Begins the handshake; over the cap the oldest handshake makes room, so that idle ones cannot
    /// keep others out.
    pub(super) fn begin_handshake(&self) -> GaugeGuard {
        let guard = self.limits.active_handshakes.enter();
        let running = self.limits.active_handshakes.count();
        if running > self.limits.settings().handshakes && self.limits.table().evict_handshake() {
            self.limits
                .metrics
                .count(ConnectionEndReason::ConnectionLimit);
        }
        guard
    }

    /// The connection's sign of life.
    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.limits.table().remove(self.id);
    }
}

#[cfg(test)]
mod tests;
