//! The supervisor task of the shared store: connects, reads missed purges, publishes local ones, and
//! applies those of other replicas. While disconnected, the store is not queried, since this replica
//! may have missed a purge.
//!
//! ```text
//! connecting -> subscribed -> purges read -> local purges published -> connected
//!     ^                                                                   |
//!     +------ delay <- unavailable (any error, a failed ping, lost messages) <-+
//! ```

use std::sync::LazyLock;
use std::time::Duration;

use redis::{PushInfo, PushKind, RedisResult, Script, Value};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::connection::{self, CLOSED, CONNECT_TIMEOUT, Connection, OpenedConnection};
use super::encryption::KEY_PREFIX;
use super::purge_log::{MAX_PURGES, PurgeRecord};
use super::{MAX_TTL, Store};
use crate::message::Purge;

impl Store {
    /// Keeps the store connected until dropped. `on_purge` is called with the purges of other
    /// replicas.
    pub async fn supervise(&self, on_purge: impl Fn(Purge)) {
        let mut delay = MIN_RECONNECT_DELAY;
        let mut is_known_unavailable = false;
        loop {
            let started = Instant::now();
            let (reason, was_connected) =
                match self.run_session(&on_purge, &mut is_known_unavailable).await {
                    Ok(reason) => (reason, true),
                    Err(reason) => (reason, false),
                };
            self.session.set_unavailable(&reason);
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
        on_purge: &impl Fn(Purge),
        is_known_unavailable: &mut bool,
    ) -> Result<String, String> {
        let opened = timeout(CONNECT_TIMEOUT, connection::connect(&self.settings));
        let OpenedConnection {
            connection,
            driver,
            mut pushes,
            push_overflow,
        } = opened.await.map_err(|_| TIMED_OUT.to_owned())??;
        let serve = async {
            self.synchronize(&connection, on_purge).await?;
            if *is_known_unavailable {
                tracing::info!(store = %self.settings.url(), "the shared store is available again");
            }
            *is_known_unavailable = false;
            self.session.set_connected(&connection);
            Ok(self.serve_session(&connection, &mut pushes, on_purge).await)
        };
        tokio::select! {
            biased;
            result = serve => result,
            () = driver => Ok(CLOSED.to_owned()),
            () = push_overflow.notified() => Ok("purges arrived faster than they could be applied".to_owned()),
        }
    }

    /// Exchanges purges with the store. Subscribes before it reads, so that no purge is missed between
    /// the two.
    async fn synchronize(
        &self,
        connection: &Connection,
        on_purge: &impl Fn(Purge),
    ) -> Result<(), String> {
        let mut store = connection.clone();
        with_timeout(CONNECT_TIMEOUT, store.subscribe(PURGE_CHANNEL)).await?;
        let mut read = READ_PURGES.key(purge_list_key());
        let read = read.arg(2 * MAX_PURGES).arg(MAX_RECORD_SIZE);
        let records: Vec<Vec<u8>> =
            with_timeout(CONNECT_TIMEOUT, read.invoke_async(&mut store)).await?;
        for record in &records {
            self.apply(record, on_purge);
        }
        self.publish(connection).await?;
        // A store that responds slower than requests may wait is of no use.
        with_timeout(self.settings.timeout, ping(connection)).await
    }

    /// Serves the session until something fails; returns the reason.
    async fn serve_session(
        &self,
        connection: &Connection,
        pushes: &mut mpsc::Receiver<PushInfo>,
        on_purge: &impl Fn(Purge),
    ) -> String {
        let mut pings = interval(PING_INTERVAL);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let result = tokio::select! {
                biased;
                push = pushes.recv() => match push {
                    Some(push) => self.on_message(&push, on_purge),
                    None => Err(CLOSED.to_owned()),
                },
                () = self.purge_queue.wait_for_push() => self.publish(connection).await,
                () = self.session.session_failed() => {
                    let result = with_timeout(self.settings.timeout, ping(connection)).await;
                    // A successful ping: only one query was slow.
                    result.map(|()| self.session.set_connected(connection))
                }
                _ = pings.tick() => with_timeout(CONNECT_TIMEOUT, ping(connection)).await,
            };
            if let Err(reason) = result {
                return reason;
            }
        }
    }

    fn on_message(&self, push: &PushInfo, on_purge: &impl Fn(Purge)) -> Result<(), String> {
        match (&push.kind, push.data.as_slice()) {
            (PushKind::Message, [_channel, Value::BulkString(record)]) => {
                self.apply(record, on_purge);
                Ok(())
            }
            (PushKind::Disconnection | PushKind::Unsubscribe, _) => Err(CLOSED.to_owned()),
            _ => Ok(()),
        }
    }

    /// Applies a purge once, from whichever replica it came. Records that none of the seal keys opens
    /// are ignored.
    fn apply(&self, sealed: &[u8], on_purge: &impl Fn(Purge)) {
        let text = self.sealer.open(PURGE_SUBJECT, sealed);
        let Some(record) = text.and_then(|text| PurgeRecord::from_bytes(&text)) else {
            tracing::debug!("ignored a purge that was not sealed with one of the seal keys");
            return;
        };
        let purge = record.purge.clone();
        let mut purge_log = self.purge_log.lock();
        let is_new = purge_log.add(record);
        let is_full = purge_log.is_full();
        drop(purge_log);
        if is_new {
            on_purge(purge);
        }
        if is_full {
            self.purge(Purge::default());
        }
    }

    /// Publishes all purges of this replica; each stays queued until the store has acknowledged it.
    async fn publish(&self, connection: &Connection) -> Result<(), String> {
        while let Some(record) = self.purge_queue.first() {
            let sealed = self.sealer.seal(PURGE_SUBJECT, &record.to_bytes());
            let sealed = sealed.ok_or_else(|| "no randomness".to_owned())?;
            let is_everything = record.purge.is_everything();
            with_timeout(
                CONNECT_TIMEOUT,
                publish_record(connection, &sealed, is_everything),
            )
            .await?;
            self.purge_queue.acknowledge(&record);
        }
        Ok(())
    }
}

/// Appends a record to the list in one transaction, then notifies the other replicas. A purge of
/// everything replaces all records before it.
async fn publish_record(
    connection: &Connection,
    sealed: &[u8],
    is_everything: bool,
) -> RedisResult<()> {
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
        .exec_async(&mut store)
        .await
}

async fn ping(connection: &Connection) -> RedisResult<()> {
    let mut store = connection.clone();
    redis::cmd("PING").exec_async(&mut store).await
}

async fn with_timeout<T>(
    limit: Duration,
    response: impl Future<Output = RedisResult<T>>,
) -> Result<T, String> {
    match timeout(limit, response).await {
        Ok(response) => response.map_err(|error| connection::describe_error(&error)),
        Err(_elapsed) => Err(TIMED_OUT.to_owned()),
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

const TIMED_OUT: &str = "it did not respond in time";

/// The interval of pings, which detect a silently lost connection where no queries are sent.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// The delay between two connection attempts doubles from the first to the second: a restarted server
/// is found quickly, and a missing one is not flooded by its replicas.
const MIN_RECONNECT_DELAY: Duration = Duration::from_millis(250);
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(2);

/// A session of this length resets the reconnect delay.
const STABLE_SESSION: Duration = Duration::from_secs(10);
