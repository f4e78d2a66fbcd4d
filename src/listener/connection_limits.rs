//! Limits on concurrent connections: in total, per address, in handshake. At a limit the connection
//! that has been idle longest is evicted; if none is idle, the new connection is closed. A busy
//! connection touches only its own [`Activity`]: the table is locked when connections are opened and
//! closed, and searched at a limit, one search serving many evictions.

mod activity;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

pub(super) use self::activity::Activity;
use crate::gauge::{Gauge, GaugeGuard};
use crate::metrics::{ConnectionEndReason, Shard};

/// The configured limits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConnectionLimitSettings {
    /// Concurrent connections.
    pub connections: usize,
    /// Concurrent connections of one address. IPv6 counts by /64, IPv4-mapped IPv6 as IPv4.
    pub per_address: usize,
    /// Concurrent handshakes.
    pub handshakes: usize,
}

/// Tracks all connections of the process and enforces the limits.
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

/// The unit that `per_address` counts.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum AddressKey {
    V4(u32),
    V6(u64),
}

impl ConnectionLimits {
    /// Creates a tracker without connections.
    pub fn new(limits: ConnectionLimitSettings, metrics: Arc<Shard>) -> Arc<Self> {
        Arc::new(Self {
            settings: Mutex::new(limits),
            table: Mutex::default(),
            active_handshakes: Gauge::default(),
            epoch: Instant::now(),
            metrics,
        })
    }

    /// Replaces the limits. Existing connections are not closed.
    pub fn set_settings(&self, limits: ConnectionLimitSettings) {
        *self.settings.lock() = limits;
    }

    /// Returns the number of connections; evicted ones no longer count.
    pub fn connection_count(&self) -> usize {
        self.table().connections.len()
    }

    /// Admits a connection, and evicts the longest idle one if necessary. Without an address only the
    /// total applies: the connection is counted for its address once the PROXY header names it.
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
        let activity = Arc::new(Activity::new(self.epoch));
        table.insert(
            id,
            ConnectionEntry {
                activity: activity.clone(),
                address: key,
            },
        );
        drop(table);
        Some(ConnectionPermit {
            limits: self.clone(),
            id,
            activity,
        })
    }

    /// Evicts the connection that has been idle longest, to free its file descriptor. Returns false if
    /// none is idle.
    pub(super) fn evict_longest_idle(&self) -> bool {
        self.table().evict_idle(None)
    }

    fn make_room_for_address(
        &self,
        table: &mut ConnectionTable,
        key: Option<AddressKey>,
        limit: usize,
    ) -> bool {
        let Some(key) = key else { return true };
        let open = table.addresses.get(&key).map_or(0, |address| address.open);
        let room = open < limit || table.evict_idle(Some(key));
        if !room {
            self.metrics.count(ConnectionEndReason::AddressLimit);
        }
        room
    }

    fn settings(&self) -> ConnectionLimitSettings {
        *self.settings.lock()
    }

    fn table(&self) -> MutexGuard<'_, ConnectionTable> {
        self.table.lock()
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

    /// Evicts the longest idle connection, of one address if one is given. It stops counting at once;
    /// if a request has just arrived, it closes after the response.
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
        if let Some(activity) = &evicted {
            activity.evict();
        }
        evicted.is_some()
    }
}

/// Candidates for eviction, as one search found them: the start of their idle period, and the id; the
/// oldest is last. The times of a connection only increase, so that a candidate whose time is
/// unchanged is still the oldest of all.
#[derive(Debug, Default)]
struct EvictionQueue(Vec<(u64, u64)>);

impl EvictionQueue {
    /// Returns the connection for which `since` is least; searches the table if the queue is empty.
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

/// Candidates kept of one search: 1 KiB per address at its limit.
const QUEUE_CAPACITY: usize = 64;

impl AddressKey {
    fn from_ip(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            // The upper half is the network assigned to a client (RFC 6177).
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// Counts one connection; released on drop.
#[derive(Debug)]
pub struct ConnectionPermit {
    limits: Arc<ConnectionLimits>,
    id: u64,
    activity: Arc<Activity>,
}

impl ConnectionPermit {
    /// Counts the connection for the address that the PROXY header names. Returns false if that address
    /// is at its limit.
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
        let Some(activity) = table.remove(self.id) else {
            return false;
        };
        table.insert(
            self.id,
            ConnectionEntry {
                activity,
                address: Some(key),
            },
        );
        true
    }

    /// Begins the handshake. Over the limit the oldest handshake is evicted, so that stalled handshakes
    /// cannot lock out others.
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

    /// Returns the connection's activity.
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
