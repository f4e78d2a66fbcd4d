//! The one task that keeps the store at hand: connects, learns what was purged meanwhile, tells what
//! was purged here, and listens. While it has no session, nobody asks the store anything, so that a
//! replica which may have missed a purge reads no answers.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{PushInfo, PushKind, RedisResult, Script, Value};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::connection::{self, Connection, OPENING, Opened};
use super::encryption::PREFIX;
use super::purge_log::{MOST, Record};
use super::{LONGEST_LIFE, Store, lock};
use crate::message::Purge;

impl Store {
    /// Keeps the store at hand until dropped. `forget` is told what other replicas purged.
    pub async fn watch(&self, forget: impl Fn(Purge)) {
        let mut pause = SHORTEST_PAUSE;
        let mut known_to_be_away = false;
        loop {
            let begun = Instant::now();
            let (why, was_open) = match self.session(&forget, &mut known_to_be_away).await {
                Ok(why) => (why, true),
                Err(why) => (why, false),
            };
            self.link.close(&why);
            if !known_to_be_away {
                tracing::warn!(store = %self.settings.url(), %why, "the shared store is away: working on without it");
                known_to_be_away = true;
            }
            if was_open && begun.elapsed() > STEADY {
                pause = SHORTEST_PAUSE;
            }
            // All replicas lose it at once and shall not come back at once.
            sleep(pause.mul_f64(rand::random_range(0.75..1.25))).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One connection from its beginning to its end: says why it ended, or (`Err`) why it never was.
    async fn session(
        &self,
        forget: &impl Fn(Purge),
        known_to_be_away: &mut bool,
    ) -> Result<String, String> {
        let opened = timeout(OPENING, connection::open(&self.settings));
        let Opened {
            connection,
            driver,
            mut pushes,
            lost,
        } = opened.await.map_err(|_| SILENT.to_owned())??;
        let attend = async {
            self.begin(&connection, forget).await?;
            if *known_to_be_away {
                tracing::info!(store = %self.settings.url(), "the shared store is back");
            }
            *known_to_be_away = false;
            self.link.open(&connection);
            Ok(self.attend(&connection, &mut pushes, forget).await)
        };
        tokio::select! {
            biased;
            result = attend => result,
            () = driver => Ok("it closed the connection".to_owned()),
            () = lost.notified() => Ok("more purges came than could be carried out".to_owned()),
        }
    }

    /// Listens first and reads then, so that no purge falls in between.
    async fn begin(&self, connection: &Connection, forget: &impl Fn(Purge)) -> Result<(), String> {
        let mut store = connection.clone();
        within(OPENING, store.subscribe(CHANNEL)).await?;
        let mut all = LIST.key(list());
        let all = all.arg(2 * MOST).arg(LONGEST_RECORD);
        let records: Vec<Vec<u8>> = within(OPENING, all.invoke_async(&mut store)).await?;
        for record in &records {
            self.learn(record, forget);
        }
        self.tell(connection).await?;
        // One that is slower than requests may wait for is no help.
        within(self.settings.timeout, ping(connection)).await
    }

    /// Until something is wrong; says what.
    async fn attend(
        &self,
        connection: &Connection,
        pushes: &mut mpsc::Receiver<PushInfo>,
        forget: &impl Fn(Purge),
    ) -> String {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let fault = tokio::select! {
                biased;
                push = pushes.recv() => match push {
                    Some(push) => self.heard(&push, forget),
                    None => Err("it closed the connection".to_owned()),
                },
                () = self.pending.more() => self.tell(connection).await,
                () = self.link.trouble() => {
                    let well = within(self.settings.timeout, ping(connection)).await;
                    // It was a hiccup, here or there.
                    well.map(|()| self.link.open(connection))
                }
                _ = looks.tick() => within(OPENING, ping(connection)).await,
            };
            if let Err(why) = fault {
                return why;
            }
        }
    }

    fn heard(&self, push: &PushInfo, forget: &impl Fn(Purge)) -> Result<(), String> {
        match (&push.kind, push.data.as_slice()) {
            (PushKind::Message, [_channel, Value::BulkString(record)]) => {
                self.learn(record, forget);
                Ok(())
            }
            (PushKind::Disconnection | PushKind::Unsubscribe, _) => {
                Err("it closed the connection".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Takes in a purge, wherever it came from, once. What none of us sealed says nothing.
    fn learn(&self, sealed: &[u8], forget: &impl Fn(Purge)) {
        let text = self.seals.open(SUBJECT, sealed);
        let Some(record) = text.and_then(|text| Record::from_bytes(&text)) else {
            tracing::debug!("a purge that none of our keys has sealed");
            return;
        };
        let purge = record.purge.clone();
        let mut purges = lock(&self.purges);
        let new = purges.learn(record);
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
    async fn tell(&self, connection: &Connection) -> Result<(), String> {
        while let Some(record) = self.pending.first() {
            let sealed = self.seals.seal(SUBJECT, &record.to_bytes());
            let sealed = sealed.ok_or_else(|| "no randomness".to_owned())?;
            let everything = record.purge.is_everything();
            within(OPENING, publish(connection, &sealed, everything)).await?;
            self.pending.done(&record);
        }
        Ok(())
    }
}

/// All of it or nothing: a purge of everything stands for all before it.
async fn publish(connection: &Connection, sealed: &[u8], everything: bool) -> RedisResult<()> {
    let mut store = connection.clone();
    let mut pipe = redis::pipe();
    pipe.atomic();
    if everything {
        pipe.cmd("DEL").arg(list()).ignore();
    }
    pipe.cmd("RPUSH").arg(list()).arg(sealed).ignore();
    // Twice as long as any answer lives that it covers.
    let life = 2 * LONGEST_LIFE.as_secs();
    pipe.cmd("EXPIRE").arg(list()).arg(life).ignore();
    pipe.exec_async(&mut store).await?;
    redis::cmd("PUBLISH")
        .arg(CHANNEL)
        .arg(sealed)
        .exec_async(&mut store)
        .await
}

async fn ping(connection: &Connection) -> RedisResult<()> {
    let mut store = connection.clone();
    redis::cmd("PING").exec_async(&mut store).await
}

async fn within<T>(
    longest: Duration,
    answer: impl Future<Output = RedisResult<T>>,
) -> Result<T, String> {
    match timeout(longest, answer).await {
        Ok(answer) => answer.map_err(|error| connection::told(&error)),
        Err(_elapsed) => Err(SILENT.to_owned()),
    }
}

fn list() -> String {
    format!("{PREFIX}purges")
}

/// The newest records, none of them longer than ours are.
static LIST: LazyLock<Script> = LazyLock::new(|| {
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
const LONGEST_RECORD: usize = 4096;

const CHANNEL: &str = "ccfs-gateway:purged";

/// What purges are sealed for.
const SUBJECT: &[u8] = b"purge";

const SILENT: &str = "it does not answer in time";

/// A connection that dies without a word is found out so soon, also where nobody asks.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Between two attempts to reach it.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A session of this length was a good one: the next attempt follows soon.
const STEADY: Duration = Duration::from_secs(10);
