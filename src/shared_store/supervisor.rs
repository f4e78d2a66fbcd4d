//! The supervisor task of the shared store: connects, reads missed purges, publishes local ones, and
//! applies those of other replicas. While disconnected, the store is not queried, since this replica
//! may have missed a purge.
//!
//! ```text
//! connecting -> subscribed -> purges read -> local purges published -> connected
//!     ^                                                                   |
//!     +------ delay <- unavailable (any error, a failed check, lost messages) <-+
//! ```

use std::sync::LazyLock;
use std::time::Duration;

use redis::{PushInfo, PushKind, RedisResult, Script, Value};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::connection::{self, CONNECT_TIMEOUT, Connection, OpenedConnection, PUSH_QUEUE_SIZE};
use super::encryption::KEY_PREFIX;
use super::order_log::{OrderOrigin, OrderRecord};
use super::orders::{self, Written};
use super::purge_log::{MAX_PURGES, PurgeRecord};
use super::session_error::SessionError;
use super::{MAX_TTL, ORDER_KIND, Store};
use crate::message::Purge;
use crate::metrics::{Shard, SharedStoreDisconnect};

impl Store {
    /// Keeps the store connected until dropped. `on_purge` is called with the purges of other
    /// replicas, all that have arrived at once, and `on_order` with each order of theirs that prevails;
    /// neither may block.
    pub async fn supervise(
        &self,
        metrics: &Shard,
        on_purge: impl Fn(Vec<Purge>),
        on_order: impl Fn(&OrderRecord, OrderOrigin),
    ) {
        let listeners = Listeners { on_purge, on_order };
        let mut delay = MIN_RECONNECT_DELAY;
        let mut is_known_unavailable = false;
        loop {
            let started = Instant::now();
            let (SessionError { kind, reason }, was_connected) = match self
                .run_session(&listeners, &mut is_known_unavailable)
                .await
            {
                Ok(end) => (end, true),
                Err(error) => (error, false),
            };
            self.session.set_unavailable(&reason);
            metrics.count(kind);
            if !is_known_unavailable {
                tracing::warn!(store = %self.settings.url(), %reason, "the shared store is unavailable; continuing without it");
                is_known_unavailable = true;
            }
            if was_connected && started.elapsed() > STABLE_SESSION {
                delay = MIN_RECONNECT_DELAY;
            }
            // Jitter: all replicas lose the store at the same moment.
            sleep(delay.mul_f64(rand::random_range(0.75..1.25))).await;
            delay = (delay * 2).min(MAX_RECONNECT_DELAY);
        }
    }

    /// Runs one session. Returns the reason why it ended.
    ///
    /// # Errors
    /// The reason why it did not begin.
    async fn run_session(
        &self,
        listeners: &Listeners<impl Fn(Vec<Purge>), impl Fn(&OrderRecord, OrderOrigin)>,
        is_known_unavailable: &mut bool,
    ) -> Result<SessionError, SessionError> {
        let opened = timeout(CONNECT_TIMEOUT, connection::connect(&self.settings));
        let OpenedConnection {
            connection,
            driver,
            mut pushes,
            push_overflow,
        } = opened.await.map_err(|_| SessionError::timeout())??;
        let serve = async {
            self.synchronize(&connection, listeners).await?;
            if *is_known_unavailable {
                tracing::info!(store = %self.settings.url(), "the shared store is available again");
            }
            *is_known_unavailable = false;
            self.session.set_connected(&connection);
            Ok(self
                .serve_session(&connection, &mut pushes, listeners)
                .await)
        };
        tokio::select! {
            biased;
            result = serve => result,
            () = driver => Ok(SessionError::closed()),
            () = push_overflow.notified() => Ok(SessionError::new(
                SharedStoreDisconnect::Overflow,
                "purges arrived faster than they could be applied",
            )),
        }
    }

    /// Exchanges purges with the store. Subscribes before it reads, so that no purge is missed between
    /// the two.
    async fn synchronize(
        &self,
        connection: &Connection,
        listeners: &Listeners<impl Fn(Vec<Purge>), impl Fn(&OrderRecord, OrderOrigin)>,
    ) -> Result<(), SessionError> {
        let mut store = connection.clone();
        with_timeout(CONNECT_TIMEOUT, store.subscribe(PURGE_CHANNEL)).await?;
        let mut read = READ_PURGES.key(purge_list_key());
        let read = read.arg(2 * MAX_PURGES).arg(MAX_RECORD_SIZE);
        let records: Vec<Vec<u8>> =
            with_timeout(CONNECT_TIMEOUT, read.invoke_async(&mut store)).await?;
        self.apply(records.iter().map(Vec::as_slice), listeners);
        let orders = with_timeout(CONNECT_TIMEOUT, orders::read(connection.clone())).await?;
        for order in orders.iter().filter_map(|sealed| self.open_order(sealed)) {
            (listeners.on_order)(&order, OrderOrigin::Stored);
        }
        self.publish(connection).await?;
        self.publish_orders(connection, listeners).await?;
        // A store that responds slower than requests may wait counts as unavailable.
        with_timeout(self.settings.timeout, connection.check()).await
    }

    /// Serves the session until something fails; returns the reason.
    async fn serve_session(
        &self,
        connection: &Connection,
        pushes: &mut mpsc::Receiver<PushInfo>,
        listeners: &Listeners<impl Fn(Vec<Purge>), impl Fn(&OrderRecord, OrderOrigin)>,
    ) -> SessionError {
        let mut messages = Vec::new();
        let mut checks = interval(CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let result = tokio::select! {
                biased;
                count = pushes.recv_many(&mut messages, PUSH_QUEUE_SIZE) => match count {
                    0 => Err(SessionError::closed()),
                    _ => self.on_messages(messages.drain(..).as_slice(), listeners),
                },
                () = self.purge_queue.wait_for_push() => self.publish(connection).await,
                () = self.orders_given.notified() => {
                    self.publish_orders(connection, listeners).await
                }
                () = self.session.session_failed() => {
                    let result = with_timeout(self.settings.timeout, connection.check()).await;
                    // Only one query was slow, or the server accepts writes again.
                    result.map(|()| self.session.set_connected(connection))
                }
                _ = checks.tick() => with_timeout(CONNECT_TIMEOUT, connection.check()).await,
            };
            if let Err(error) = result {
                return error;
            }
        }
    }

    fn on_messages(
        &self,
        messages: &[PushInfo],
        listeners: &Listeners<impl Fn(Vec<Purge>), impl Fn(&OrderRecord, OrderOrigin)>,
    ) -> Result<(), SessionError> {
        let records = messages.iter().filter_map(|message| match message {
            PushInfo {
                kind: PushKind::Message,
                data,
            } => match data.as_slice() {
                [_channel, Value::BulkString(record)] => Some(record.as_slice()),
                _ => None,
            },
            _ => None,
        });
        self.apply(records, listeners);
        let is_end = |message: &PushInfo| {
            matches!(
                message.kind,
                PushKind::Disconnection | PushKind::Unsubscribe
            )
        };
        if messages.iter().any(is_end) {
            return Err(SessionError::closed());
        }
        Ok(())
    }

    /// Applies purges once, from whichever replica they came, and all of them together: the caller goes
    /// through its cache once for any number. Records that none of the seal keys opens are ignored.
    fn apply<'a>(
        &self,
        sealed: impl Iterator<Item = &'a [u8]>,
        listeners: &Listeners<impl Fn(Vec<Purge>), impl Fn(&OrderRecord, OrderOrigin)>,
    ) {
        let mut purges = Vec::new();
        let mut is_full = false;
        for sealed in sealed {
            let text = self.sealer.open(PURGE_SUBJECT, sealed);
            let Some(record) = text.and_then(|text| PurgeRecord::from_bytes(&text)) else {
                if let Some(order) = self.open_order(sealed) {
                    (listeners.on_order)(&order, OrderOrigin::Live);
                    continue;
                }
                tracing::debug!("ignored a purge that was not sealed with one of the seal keys");
                continue;
            };
            let purge = record.purge.clone();
            let mut purge_log = self.purge_log.lock();
            if purge_log.add(record) {
                purges.push(purge);
            }
            is_full = purge_log.is_full();
        }
        if !purges.is_empty() {
            (listeners.on_purge)(purges);
        }
        if is_full {
            self.purge([Purge::default()]);
        }
    }

    /// Publishes all orders of this replica; takes those of the store that prevail over them.
    async fn publish_orders(
        &self,
        connection: &Connection,
        listeners: &Listeners<impl Fn(Vec<Purge>), impl Fn(&OrderRecord, OrderOrigin)>,
    ) -> Result<(), SessionError> {
        loop {
            let Some(record) = self.order_log.lock().next_unpublished() else {
                return Ok(());
            };
            let sealed = self.seal_order(&record).ok_or_else(|| {
                SessionError::new(
                    SharedStoreDisconnect::Rejected,
                    "no randomness to seal an order",
                )
            })?;
            let name = record.access_key.as_str().as_bytes();
            let field = self.sealer.storage_key(ORDER_KIND, name, false);
            let write = orders::write(
                connection.clone(),
                (&field, &record),
                (&sealed, PURGE_CHANNEL),
            );
            let written = with_timeout(CONNECT_TIMEOUT, write).await?;
            if let Written::Forbidden = written {
                tracing::warn!("the user of the shared store may not write orders (HGET, HSET)");
                return Ok(());
            }
            self.order_log.lock().acknowledge(&record);
            if let Written::Other(sealed) = written
                && let Some(order) = self.open_order(&sealed)
            {
                (listeners.on_order)(&order, OrderOrigin::Live);
            }
            self.orders_published.notify_waiters();
        }
    }

    /// Publishes all purges of this replica; each stays queued until the store has acknowledged it.
    async fn publish(&self, connection: &Connection) -> Result<(), SessionError> {
        while let Some(record) = self.purge_queue.first() {
            let sealed = self.sealer.seal(PURGE_SUBJECT, &record.to_bytes());
            let sealed = sealed.ok_or_else(|| {
                SessionError::new(
                    SharedStoreDisconnect::Rejected,
                    "no randomness to seal a purge",
                )
            })?;
            let is_everything = record.purge.is_everything();
            let subscribers = with_timeout(
                CONNECT_TIMEOUT,
                publish_record(connection, &sealed, is_everything),
            )
            .await?;
            // This replica is one of them.
            self.purge_queue
                .acknowledge(&record, subscribers.saturating_sub(1));
        }
        Ok(())
    }
}

/// What is called with the purges and orders of other replicas.
struct Listeners<P, O> {
    on_purge: P,
    on_order: O,
}

/// Appends a record to the list in one transaction, then notifies the other replicas. A purge of
/// everything replaces all records before it. Returns the number of subscribers, of a Redis cluster those
/// of one server.
async fn publish_record(
    connection: &Connection,
    sealed: &[u8],
    is_everything: bool,
) -> RedisResult<u64> {
    let mut store = connection.clone();
    let mut pipe = redis::pipe();
    pipe.atomic();
    if is_everything {
        pipe.cmd("DEL").arg(purge_list_key()).ignore();
    }
    pipe.cmd("RPUSH").arg(purge_list_key()).arg(sealed).ignore();
    // Twice the longest lifetime of any value that the purge covers.
    let ttl = 2 * MAX_TTL.as_secs();
    pipe.cmd("EXPIRE").arg(purge_list_key()).arg(ttl).ignore();
    pipe.exec_async(&mut store).await?;
    redis::cmd("PUBLISH")
        .arg(PURGE_CHANNEL)
        .arg(sealed)
        .query_async(&mut store)
        .await
}

async fn with_timeout<T>(
    limit: Duration,
    response: impl Future<Output = RedisResult<T>>,
) -> Result<T, SessionError> {
    match timeout(limit, response).await {
        Ok(response) => response.map_err(|error| SessionError::from(&error)),
        Err(_elapsed) => Err(SessionError::timeout()),
    }
}

fn purge_list_key() -> String {
    format!("{KEY_PREFIX}purges")
}

/// Reads the newest records, without those that are longer than any record of ours.
static READ_PURGES: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local records = {}
for _, record in ipairs(redis.call('LRANGE', KEYS[1], -ARGV[1], -1)) do
  if #record <= tonumber(ARGV[2]) then records[#records + 1] = record end
end
return records
",
    )
});

/// Many times the length of a sealed access key and callId.
const MAX_RECORD_SIZE: usize = 4096;

const PURGE_CHANNEL: &str = "ccfs-gateway:purged";

/// The subject for which purges are sealed.
const PURGE_SUBJECT: &[u8] = b"purge";

/// The interval of checks. They detect a silently lost connection, and a server that was demoted, where
/// no queries are sent.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The delay between two connection attempts doubles from the first to the second: a restarted server
/// is found quickly, and a missing one is not flooded by its replicas.
const MIN_RECONNECT_DELAY: Duration = Duration::from_millis(250);
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(2);

/// A session of this length resets the reconnect delay.
const STABLE_SESSION: Duration = Duration::from_secs(10);
