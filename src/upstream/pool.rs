//! The idle connections of one worker, a stack for each node: the one used last is taken first, so
//! that no more stay open than are needed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::SendRequest;
use rustls::ClientConfig;
use tokio::time::Instant;

use crate::cluster::{ClusterSettings, ConnectionSlot, NodeId};

/// Idle connections by node. Only its own worker uses it, so the lock is never waited for.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<HashMap<NodeId, Vec<IdleConnection>>>);

#[derive(Debug)]
struct IdleConnection {
    connection: Connection,
    idle_since: Instant,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    slot: Arc<ConnectionSlot>,
    opened: Instant,
    /// How it was opened: not one to use when TLS was configured anew since.
    tls: Arc<ClientConfig>,
}

impl Pool {
    /// The connection used last, if it is still good at `now`, and not idle since before `fresh`.
    pub(super) fn take(
        self: &Arc<Self>,
        node: NodeId,
        settings: &ClusterSettings,
        now: Instant,
        fresh: Option<Instant>,
    ) -> Option<PooledConnection> {
        let limits = settings.pool;
        let mut stacks = self.lock();
        let stack = stacks.get_mut(&node)?;
        while let Some(idle) = stack.pop() {
            if fresh.is_some_and(|fresh| idle.idle_since < fresh) {
                stack.push(idle);
                return None;
            }
            let Connection {
                sender,
                slot,
                opened,
                tls,
            } = &idle.connection;
            let aged = now.saturating_duration_since(*opened) >= limits.max_age
                || now.saturating_duration_since(idle.idle_since) >= limits.idle_timeout
                || !Arc::ptr_eq(tls, &settings.tls);
            // Not ready though its answer is complete: it ended, or the node answered before it had
            // read the whole request. Either way not one to rely on.
            if aged || !sender.is_ready() || !slot.acquire() {
                slot.close();
                continue;
            }
            return Some(PooledConnection {
                connection: Some(idle.connection),
                pool: self.clone(),
                node,
                max_idle: limits.max_idle,
                reused: true,
            });
        }
        None
    }

    /// A lease on a new connection.
    pub(super) fn add_new(
        self: &Arc<Self>,
        node: NodeId,
        settings: &ClusterSettings,
        sender: SendRequest<Full<Bytes>>,
        slot: Arc<ConnectionSlot>,
    ) -> PooledConnection {
        PooledConnection {
            connection: Some(Connection {
                sender,
                slot,
                opened: Instant::now(),
                tls: settings.tls.clone(),
            }),
            pool: self.clone(),
            node,
            max_idle: settings.pool.max_idle,
            reused: false,
        }
    }

    fn put(&self, node: NodeId, connection: Connection, max_idle: usize) {
        if max_idle == 0 || !connection.slot.release() {
            connection.slot.close();
            return;
        }
        let mut stacks = self.lock();
        if !stacks.contains_key(&node) {
            // A good moment to forget the nodes that are gone: their slots are closed with them.
            stacks.retain(|_, stack| {
                stack.retain(|idle| !idle.connection.slot.is_closed());
                !stack.is_empty()
            });
        }
        let stack = stacks.entry(node).or_default();
        if stack.len() >= max_idle {
            stack.retain(|idle| !idle.connection.slot.is_closed());
        }
        if stack.len() >= max_idle {
            let oldest = stack.remove(0);
            oldest.connection.slot.close();
        }
        stack.push(IdleConnection {
            connection,
            idle_since: Instant::now(),
        });
    }

    /// Nodes that it knows connections of.
    #[cfg(test)]
    pub(super) fn node_count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Vec<IdleConnection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in use. Dropped before [`Lease::give_back`], it is closed: whatever was under way
/// on it must not become the answer to something else.
#[derive(Debug)]
pub(super) struct PooledConnection {
    connection: Option<Connection>,
    pool: Arc<Pool>,
    node: NodeId,
    max_idle: usize,
    reused: bool,
}

impl PooledConnection {
    /// Was it used before?
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Has the node answered anything yet?
    pub(super) fn has_response_started(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|connection| connection.slot.has_response_started())
    }

    /// Has the node, or somebody who needed its place, closed it?
    pub(super) fn is_closed(&self) -> bool {
        self.connection
            .as_ref()
            .is_none_or(|connection| connection.sender.is_closed())
    }

    /// Sends a request; its head comes back. The error holds the request if nothing was written.
    pub(super) fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>>> + use<>
    {
        let Some(connection) = &mut self.connection else {
            unreachable!("a lease has its connection until it is given back, which consumes it");
        };
        connection.sender.try_send_request(request)
    }

    /// The answer is complete: the connection may serve another request.
    pub(super) fn release(mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.put(self.node, connection, self.max_idle);
        }
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.slot.close();
        }
    }
}
