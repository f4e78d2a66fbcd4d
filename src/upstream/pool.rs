//! The connection pool of one worker: a stack of idle connections for each node. The most recently used
//! one is taken first, so that no more stay open than are needed. Those that were returned just now come
//! last: a node that sends a second response to one request does so within that time, and it must not be
//! taken for the response to the next request.
//!
//! A node that was seen to do so gets no second request on any connection for a minute.
//!
//! While there are idle connections, one sweeper task closes those that are aged, that their node has
//! closed, or whose slot another worker needs. The first two are checked every second; closing a slot
//! wakes the sweeper at once.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::exchange::Connection;
use super::reactor::Turn;
use crate::cluster::{ClusterSettings, ConnectionSlot, NodeId, PoolLimits};
use crate::task::boxed;

/// Idle connections by node. Only one worker uses it, so the lock is never contended.
#[derive(Debug)]
pub(super) struct Pool {
    idle: Mutex<IdleConnections>,
    /// Wakes the sweeper; set in the slot of every pooled connection.
    waker: Waker,
    wakeup: Arc<Wakeup>,
}

#[derive(Debug, Default)]
struct IdleConnections {
    by_node: HashMap<NodeId, Vec<Idle>>,
    /// Nodes that sent what no request asked for, and until when their connections are used once only.
    distrusted: HashMap<NodeId, Instant>,
    /// Whether the sweeper runs.
    is_swept: bool,
}

#[derive(Debug)]
struct Idle {
    connection: Box<OpenConnection>,
    since: Instant,
    /// The turn of the reactor in which it was returned.
    turn: Turn,
    /// When it is closed, if it is not used before.
    until: Instant,
}

/// A connection with its state in the pool.
#[derive(Debug)]
struct OpenConnection {
    connection: Connection,
    slot: SlotGuard,
    opened: Instant,
    /// The TLS configuration that it was opened with. After a change of TLS it is not used again.
    tls: Arc<ClientConfig>,
}

/// A connection in use. Dropped without [`PooledConnection::release`], it is closed, because whatever
/// is under way on it must not become the response to another request.
#[derive(Debug)]
pub(super) struct PooledConnection {
    open: Box<OpenConnection>,
    pool: Arc<Pool>,
    node: NodeId,
    limits: PoolLimits,
    /// Since when it was idle; `None` for a new connection.
    idle_since: Option<Turn>,
}

/// Closes the slot of a connection that ends, or that is never established.
#[derive(Debug)]
pub(super) struct SlotGuard(pub(super) Arc<ConnectionSlot>);

/// Wakes the sweeper from any thread.
#[derive(Debug, Default)]
struct Wakeup(Notify);

impl Pool {
    /// Returns a connection that is open, and not idle since before `used_since`, see [`choose`].
    pub(super) fn take(
        self: &Arc<Self>,
        node: NodeId,
        settings: &ClusterSettings,
        now: Instant,
        used_since: Option<Instant>,
    ) -> Option<PooledConnection> {
        let mut idle = self.idle.lock();
        let stack = idle.by_node.get_mut(&node)?;
        while let Some(index) = choose(stack, now, used_since) {
            let mut chosen = stack.remove(index);
            let is_current = Arc::ptr_eq(&chosen.connection.tls, &settings.tls);
            if !is_current || chosen.is_over(now) || !chosen.connection.slot.0.acquire() {
                if chosen.is_unsolicited(now) {
                    chosen.close();
                    idle.distrust(node, now);
                    return None;
                }
                chosen.close();
                continue;
            }
            return Some(PooledConnection {
                open: chosen.connection,
                pool: self.clone(),
                node,
                limits: settings.pool,
                idle_since: Some(chosen.turn),
            });
        }
        None
    }

    /// Wraps a new connection, so that it returns to the pool after use.
    pub(super) fn add_new(
        self: &Arc<Self>,
        node: NodeId,
        settings: &ClusterSettings,
        connection: Connection,
        slot: SlotGuard,
    ) -> PooledConnection {
        slot.0.set_driver(&self.waker);
        PooledConnection {
            open: Box::new(OpenConnection {
                connection,
                slot,
                opened: Instant::now(),
                tls: settings.tls.clone(),
            }),
            pool: self.clone(),
            node,
            limits: settings.pool,
            idle_since: None,
        }
    }

    /// Parks a connection whose exchange is complete.
    fn put(self: &Arc<Self>, node: NodeId, idle: Idle, max_idle: usize) {
        let mut guard = self.idle.lock();
        if guard.is_distrusted(node, idle.since) {
            drop(guard);
            idle.close();
            return;
        }
        let stack = guard.by_node.entry(node).or_default();
        stack.push(idle);
        let surplus = (stack.len() > max_idle).then(|| stack.remove(0));
        let start_sweeper = !std::mem::replace(&mut guard.is_swept, true);
        drop(guard);
        if let Some(oldest) = surplus {
            oldest.close();
        }
        if start_sweeper {
            #[expect(
                clippy::disallowed_methods,
                reason = "one sweeper a pool; it ends when the pool is empty or dropped"
            )]
            tokio::spawn(boxed(sweep(Arc::downgrade(self), self.wakeup.clone())));
        }
    }

    /// Closes the idle connections that have to be closed; returns whether others remain.
    fn sweep(&self, now: Instant) -> bool {
        let mut guard = self.idle.lock();
        let idle = &mut *guard;
        let mut over = Vec::new();
        let mut unsolicited = Vec::new();
        idle.by_node.retain(|&node, stack| {
            for ended in stack.extract_if(.., |idle| idle.is_over(now)) {
                if ended.is_unsolicited(now) {
                    unsolicited.push(node);
                }
                over.push(ended);
            }
            !stack.is_empty()
        });
        for node in unsolicited {
            idle.distrust(node, now);
        }
        idle.is_swept = !idle.by_node.is_empty();
        let goes_on = idle.is_swept;
        drop(guard);
        over.into_iter().for_each(Idle::close);
        goes_on
    }

    /// Closes all idle connections.
    #[cfg(test)]
    pub(super) fn clear(&self) {
        let all = std::mem::take(&mut self.idle.lock().by_node);
        all.into_values().flatten().for_each(Idle::close);
    }

    /// Returns the number of nodes with idle connections.
    #[cfg(test)]
    pub(super) fn node_count(&self) -> usize {
        self.idle.lock().by_node.len()
    }
}

impl Default for Pool {
    fn default() -> Self {
        let wakeup = Arc::<Wakeup>::default();
        Self {
            idle: Mutex::default(),
            waker: Waker::from(wakeup.clone()),
            wakeup,
        }
    }
}

/// Returns the position of the idle connection that is used next, in a stack whose last one was used most
/// recently: the last one that has rested for [`REST`], else the last one whose socket the reactor has polled
/// since, else the last one. None that is idle since before `used_since`.
fn choose<T: Resting>(stack: &[T], now: Instant, used_since: Option<Instant>) -> Option<usize> {
    let last = |is_chosen: &dyn Fn(&T) -> bool| {
        let index = stack.iter().rposition(is_chosen)?;
        let since = stack.get(index)?.since();
        used_since
            .is_none_or(|used_since| since >= used_since)
            .then_some(index)
    };
    last(&|idle| idle.since() + REST <= now)
        .or_else(|| last(&Resting::was_polled))
        .or_else(|| last(&|_| true))
}

/// An idle connection, as [`choose`] sees it.
trait Resting {
    /// When it was returned.
    fn since(&self) -> Instant;

    /// Whether the reactor has polled its socket since.
    fn was_polled(&self) -> bool;
}

impl Resting for Idle {
    fn since(&self) -> Instant {
        self.since
    }

    fn was_polled(&self) -> bool {
        self.turn.is_over()
    }
}

/// The sweeper of a pool.
async fn sweep(pool: Weak<Pool>, wakeup: Arc<Wakeup>) {
    loop {
        tokio::select! {
            () = sleep(SWEEP_INTERVAL) => {}
            () = wakeup.0.notified() => {}
        }
        let Some(pool) = pool.upgrade() else { return };
        if !pool.sweep(Instant::now()) {
            return;
        }
    }
}

impl IdleConnections {
    /// Uses each connection to the node once only, for [`DISTRUST`], and closes those that are idle.
    fn distrust(&mut self, node: NodeId, now: Instant) {
        self.distrusted.retain(|_, until| *until > now);
        self.distrusted.insert(node, now + DISTRUST);
        let idle = self.by_node.remove(&node);
        idle.into_iter().flatten().for_each(Idle::close);
    }

    fn is_distrusted(&self, node: NodeId, now: Instant) -> bool {
        // Nearly always empty.
        !self.distrusted.is_empty() && self.distrusted.get(&node).is_some_and(|until| now < *until)
    }
}

impl Idle {
    /// Whether the node sent something on it soon after a response. A 408 that ends an idle connection
    /// comes later.
    fn is_unsolicited(&self, now: Instant) -> bool {
        let connection = &self.connection.connection;
        connection.has_unsolicited_data() && now < self.since + UNSOLICITED_WITHIN
    }

    /// Whether it has to be closed: aged, ended by its node, or its slot was closed.
    fn is_over(&mut self, now: Instant) -> bool {
        self.connection.slot.0.is_closed()
            || now >= self.until
            || !self.connection.connection.is_quiet()
    }

    fn close(self) {
        self.connection.connection.close();
    }
}

impl PooledConnection {
    /// Whether it has served a request before.
    pub(super) fn is_reused(&self) -> bool {
        self.idle_since.is_some()
    }

    /// Whether the reactor has polled its socket since it was returned to the pool.
    pub(super) fn was_polled_while_idle(&self) -> bool {
        self.idle_since.is_none_or(Turn::is_over)
    }

    /// Whether the connection is still open, and the node has sent nothing that no request asked for.
    pub(super) fn is_still_quiet(&mut self) -> bool {
        let is_quiet = self.open.connection.is_quiet();
        if self.open.connection.has_unsolicited_data() {
            self.pool.idle.lock().distrust(self.node, Instant::now());
        }
        is_quiet
    }

    /// Ends the exchange. The connection returns to the pool if it can serve another request.
    pub(super) fn release(mut self) {
        let is_reusable = self.open.connection.finish();
        let now = Instant::now();
        if self.open.connection.has_unsolicited_data() {
            self.pool.idle.lock().distrust(self.node, now);
        }
        let Self {
            open,
            pool,
            node,
            limits,
            ..
        } = self;
        let until = (open.opened + limits.max_age).min(now + limits.idle_timeout);
        if is_reusable && now < until && limits.max_idle > 0 && open.slot.0.release() {
            let idle = Idle {
                connection: open,
                since: now,
                turn: Turn::now(),
                until,
            };
            pool.put(node, idle, limits.max_idle);
        } else if is_reusable {
            open.connection.close();
        }
    }
}

impl Deref for PooledConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.open.connection
    }
}

impl DerefMut for PooledConnection {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.open.connection
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// How long a connection rests before it is preferred to others. Nodes that were tried sent a second
/// response within 1 ms.
const REST: Duration = Duration::from_millis(2);

/// For how long each connection to a node that sent unsolicited data is used once only. Our choice: requests go
/// on, at the cost of a handshake each, and a node that was mended is soon trusted again.
const DISTRUST: Duration = Duration::from_secs(60);

/// Data within this time after a response is unsolicited. Servers that end idle connections with a 408 wait
/// longer (Apache httpd 5 s, Tomcat 20 s, HAProxy and nginx more); the sweeper looks every second.
const UNSOLICITED_WITHIN: Duration = Duration::from_secs(3);

/// The longest time that a connection which its node has closed, or which is aged, stays in the pool.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    impl Resting for (Instant, bool) {
        fn since(&self) -> Instant {
            self.0
        }

        fn was_polled(&self) -> bool {
            self.1
        }
    }

    #[test]
    fn the_last_connection_that_has_rested_is_used_next() {
        let now = Instant::now();
        let ago = |micros: u64| now - Duration::from_micros(micros);
        // Microseconds since it was returned; negative if the reactor has not polled since.
        let next = |stack: &[i64], used_since: Option<u64>| {
            let idle = |&micros: &i64| (ago(micros.unsigned_abs()), micros > 0);
            let stack: Vec<_> = stack.iter().map(idle).collect();
            choose(&stack, now, used_since.map(ago))
        };
        assert_eq!(next(&[], None), None);
        assert_eq!(next(&[9000, 5000, 3000], None), Some(2));
        assert_eq!(next(&[9000, 5000, 2000, 1999, -10], None), Some(2));
        assert_eq!(next(&[-1500, -10], None), Some(1), "none has rested");
        assert_eq!(next(&[1500, 900, -10], None), Some(1), "one was polled");
        assert_eq!(next(&[9000, 5000, -10], Some(6000)), Some(1));
        assert_eq!(
            next(&[9000, -10], Some(6000)),
            Some(1),
            "the other is too old"
        );
        assert_eq!(next(&[9000, 8000], Some(6000)), None);
    }
}
