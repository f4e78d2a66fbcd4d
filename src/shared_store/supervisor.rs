//! The one task that keeps the store at hand: connects, learns what was purged meanwhile, tells what
//! was purged here, and listens. While it has no session, nobody asks the store anything, so that a
//! replica which may have missed a purge reads no answers.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{PushInfo, PushKind, RedisResult, Script, Value};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::connection::{self, CONNECT_TIMEOUT, Connection, OpenedConnection};
use super::encryption::KEY_PREFIX;
use super::purge_log::{MAX_PURGES, PurgeRecord};
use super::{MAX_TTL, Store, lock};
use crate::message::Purge;

impl Store {
    /// Keeps the store at hand until dropped. `forget` is told what other replicas purged.
    pub async fn supervise(&self, forget: impl Fn(Purge)) {
        let mut pause = MIN_RECONNECT_DELAY;
        let mut known_to_be_away = false;
        loop {
            let begun = Instant::now();
            let (why, was_open) = match self.run_session(&forget, &mut known_to_be_away).await {
                Ok(why) => (why, true),
                Err(why) => (why, false),
            };
            self.session.set_unavailable(&why);
            if !known_to_be_away {
                tracing::warn!(store = %self.settings.url(), %why, "the shared store is away: working on without it");
                known_to_be_away = true;
            }
            if was_open && begun.elapsed() > STABLE_SESSION {
                pause = MIN_RECONNECT_DELAY;
            }
            // All replicas lose it at once and shall not come back at once.
            sleep(pause.mul_f64(rand::random_range(0.75..1.25))).await;
            pause = (pause * 2).min(MAX_RECONNECT_DELAY);
        }
    }

    /// One connection from its beginning to its end: says why it ended, or (`Err`) why it never was.
    async fn run_session(
        &self,
        forget: &impl Fn(Purge),
        known_to_be_away: &mut bool,
    ) -> Result<String, String> {
        let opened = timeout(CONNECT_TIMEOUT, connection::connect(&self.settings));
        let OpenedConnection {
            connection,
            driver,
            mut pushes,
            push_overflow: lost,
        } = opened.await.map_err(|_| TIMED_OUT.to_owned())??;
        let attend = async {
            self.synchronize(&connection, forget).await?;
            if *known_to_be_away {
                tracing::info!(store = %self.settings.url(), "the shared store is back");
            }
            *known_to_be_away = false;
            self.session.set_connected(&connection);
            Ok(self.serve_session(&connection, &mut pushes, forget).await)
        };
        tokio::select! {
            biased;
            result = attend => result,
            () = driver => Ok("it closed the connection".to_owned()),
            () = lost.notified() => Ok("more purges came than could be carried out".to_owned()),
        }
    }

    /// Listens first and reads then, so that no purge falls in between.
    async fn synchronize(
        &self,
        connection: &Connection,
        forget: &impl Fn(Purge),
    ) -> Result<(), String> {
        let mut store = connection.clone();
        with_timeout(CONNECT_TIMEOUT, store.subscribe(PURGE_CHANNEL)).await?;
        let mut all = READ_PURGES.key(purge_list_key());
        let all = all.arg(2 * MAX_PURGES).arg(MAX_RECORD_SIZE);
        let records: Vec<Vec<u8>> =
            with_timeout(CONNECT_TIMEOUT, all.invoke_async(&mut store)).await?;
        for record in &records {
            self.apply(record, forget);
        }
        self.publish(connection).await?;
        // One that is slower than requests may wait for is no help.
        with_timeout(self.settings.timeout, ping(connection)).await
    }

    /// Until something is wrong; says what.
    async fn serve_session(
        &self,
        connection: &Connection,
        pushes: &mut mpsc::Receiver<PushInfo>,
        forget: &impl Fn(Purge),
    ) -> String {
        let mut looks = interval(PING_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let fault = tokio::select! {
                biased;
                push = pushes.recv() => match push {
                    Some(push) => self.on_message(&push, forget),
                    None => Err("it closed the connection".to_owned()),
                },
                () = self.purge_queue.wait_for_push() => self.publish(connection).await,
                () = self.session.session_failed() => {
                    let well = with_timeout(self.settings.timeout, ping(connection)).await;
                    // It was a hiccup, here or there.
                    well.map(|()| self.session.set_connected(connection))
                }
                _ = looks.tick() => with_timeout(CONNECT_TIMEOUT, ping(connection)).await,
            };
            if let Err(why) = fault {
                return why;
            }
        }
    }

    fn on_message(&self, push: &PushInfo, forget: &impl Fn(Purge)) -> Result<(), String> {
        match (&push.kind, push.data.as_slice()) {
            (PushKind::Message, [_channel, Value::BulkString(record)]) => {
                self.apply(record, forget);
                Ok(())
            }
            (PushKind::Disconnection | PushKind::Unsubscribe, _) => {
                Err("it closed the connection".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Takes in a purge, wherever it came from, once. What none of us sealed says nothing.
    fn apply(&self, sealed: &[u8], forget: &impl Fn(Purge)) {
        let text = self.sealer.open(PURGE_SUBJECT, sealed);
        let Some(record) = text.and_then(|text| PurgeRecord::from_bytes(&text)) else {
            tracing::debug!("a purge that none of our keys has sealed");
            return;
        };
        let purge = record.purge.clone();
        let mut purges = lock(&self.purge_log);
        let new = purges.add(record);
        let full = purges.is_full();
        drop(purges);
        if new {
            forget(purge);
        }
        if full {
            self.purge(Purge::default());
        }
    }

    /// Tells the store of all purges that were ordered here; each stays until it is told.
    async fn publish(&self, connection: &Connection) -> Result<(), String> {
        while let Some(record) = self.purge_queue.first() {
            let sealed = self.sealer.seal(PURGE_SUBJECT, &record.to_bytes());
            let sealed = sealed.ok_or_else(|| "no randomness".to_owned())?;
            let everything = record.purge.is_everything();
            with_timeout(
                CONNECT_TIMEOUT,
                publish_record(connection, &sealed, everything),
            )
            .await?;
            self.purge_queue.acknowledge(&record);
        }
        Ok(())
    }
}

/// All of it or nothing: a purge of everything stands for all before it.
async fn publish_record(
    connection: &Connection,
    sealed: &[u8],
    everything: bool,
) -> RedisResult<()> {
    let mut store = connection.clone();
    let mut pipe = redis::pipe();
    pipe.atomic();
    if everything {
        pipe.cmd("DEL").arg(purge_list_key()).ignore();
    }
    pipe.cmd("RPUSH").arg(purge_list_key()).arg(sealed).ignore();
    // Twice as long as any answer lives that it covers.
    let life = 2 * MAX_TTL.as_secs();
    pipe.cmd("EXPIRE").arg(purge_list_key()).arg(life).ignore();
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
    longest: Duration,
    answer: impl Future<Output = RedisResult<T>>,
) -> Result<T, String> {
    match timeout(longest, answer).await {
        Ok(answer) => answer.map_err(|error| connection::describe_error(&error)),
        Err(_elapsed) => Err(TIMED_OUT.to_owned()),
    }
}

fn purge_list_key() -> String {
    format!("{KEY_PREFIX}purges")
}

/// The newest records, none of them longer than ours are.
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

/// An ak and a callId have room in it many times over.
const MAX_RECORD_SIZE: usize = 4096;

const PURGE_CHANNEL: &str = "ccfs-gateway:purged";

/// What purges are sealed for.
const PURGE_SUBJECT: &[u8] = b"purge";

const TIMED_OUT: &str = "it does not answer in time";

/// A connection that dies without a word is found out so soon, also where nobody asks.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Between two attempts to reach it.
const MIN_RECONNECT_DELAY: Duration = Duration::from_millis(250);
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(2);

/// A session of this length was a good one: the next attempt follows soon.
const STABLE_SESSION: Duration = Duration::from_secs(10);
