//! Orders for access keys in the store: one sealed record for each access key, told to all replicas.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{RedisResult, Script};
use tokio::time::timeout;

use super::connection::Connection;
use super::encryption::KEY_PREFIX;
use super::order_log::OrderRecord;
use super::{Store, TableDigest};
use crate::auth::AccessKey;

impl Store {
    /// Gives an order: effective in all replicas, at once or when the store is available again. The caller
    /// applies it here.
    pub fn order(
        &self,
        access_key: &AccessKey,
        is_disabled: bool,
        table: TableDigest,
    ) -> OrderRecord {
        let record = self.order_log.lock().give(access_key, is_disabled, table);
        self.orders_given.notify_one();
        record
    }

    /// Returns the last order of each access key that has any.
    pub fn orders(&self) -> Vec<OrderRecord> {
        self.order_log.lock().all()
    }

    /// Waits until the store has the order of an access key, at most `longest`; returns whether it has.
    pub async fn wait_until_ordered(&self, access_key: &AccessKey, longest: Duration) -> bool {
        let wait = async {
            loop {
                let published = self.orders_published.notified();
                if !self.order_log.lock().is_unpublished(access_key) {
                    return;
                }
                published.await;
            }
        };
        timeout(longest, wait).await.is_ok()
    }

    /// Takes a record that was sealed with one of the seal keys. Returns it if it prevails over what is
    /// known; `None` for anything else.
    pub(super) fn open_order(&self, sealed: &[u8]) -> Option<OrderRecord> {
        let text = self.sealer.open(ORDER_SUBJECT, sealed)?;
        let record = OrderRecord::from_bytes(&text)?;
        self.order_log.lock().take(&record).then_some(record)
    }

    /// Seals a record.
    pub(super) fn seal_order(&self, record: &OrderRecord) -> Option<Vec<u8>> {
        self.sealer.seal(ORDER_SUBJECT, &record.to_bytes())
    }
}

/// Returns all sealed records, without those that are longer than any of ours. None if the store does not
/// permit it: orders are then kept here alone.
pub(super) async fn read(mut store: Connection) -> RedisResult<Vec<Vec<u8>>> {
    let read = redis::cmd("HVALS")
        .arg(hash_name())
        .query_async(&mut store)
        .await;
    let all: Vec<Vec<u8>> = match read {
        Err(error) if is_forbidden(&error) => {
            tracing::warn!(
                "the user of the shared store may not read orders (HVALS): they are kept here alone"
            );
            return Ok(Vec::new());
        }
        read => read?,
    };
    let is_ours = |record: &Vec<u8>| record.len() <= MAX_RECORD_SIZE;
    Ok(all
        .into_iter()
        .filter_map(|value| without_rank(value).filter(is_ours))
        .collect())
}

/// What the store did with a record.
pub(super) enum Written {
    /// The store has it.
    Ours,
    /// The store has this one, which prevails.
    Other(Vec<u8>),
    /// The user of the store may not write orders.
    Forbidden,
}

/// Writes a record unless the store has one that prevails over it, and tells the other replicas.
pub(super) async fn write(
    mut store: Connection,
    (field, record): (&str, &OrderRecord),
    (sealed, channel): (&[u8], &str),
) -> RedisResult<Written> {
    let rank = rank(record);
    let value = [rank.as_bytes(), sealed].concat();
    let mut write = WRITE.key(hash_name());
    let write = write.arg(field).arg(rank).arg(value);
    let other: Option<Vec<u8>> = match write.invoke_async(&mut store).await {
        Err(error) if is_forbidden(&error) => return Ok(Written::Forbidden),
        written => written?,
    };
    if let Some(other) = other.and_then(without_rank) {
        return Ok(Written::Other(other));
    }
    let mut publish = redis::cmd("PUBLISH");
    publish.arg(channel).arg(sealed);
    publish.exec_async(&mut store).await?;
    Ok(Written::Ours)
}

/// Whether the user of the store lacks a right, also inside of a script.
fn is_forbidden(error: &redis::RedisError) -> bool {
    error.code() == Some("NOPERM") || error.to_string().contains("can't run this command")
}

/// Returns what the script compares: number and order in the clear, which reveal nothing. Readers trust
/// only the sealed text.
fn rank(record: &OrderRecord) -> String {
    format!("{:020}{}", record.number, u8::from(record.is_disabled))
}

fn without_rank(mut value: Vec<u8>) -> Option<Vec<u8>> {
    (value.len() > RANK_LENGTH).then(|| value.split_off(RANK_LENGTH))
}

fn hash_name() -> String {
    format!("{KEY_PREFIX}orders")
}

/// Returns the value of the store if its rank is higher, else writes the new one and returns nil. Ranks
/// have one length, so that they compare as texts.
static WRITE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held and #held > #ARGV[2] and string.sub(held, 1, #ARGV[2]) > ARGV[2] then return held end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return nil
",
    )
});

/// The subject for which orders are sealed.
const ORDER_SUBJECT: &[u8] = b"order";

/// Twenty digits of a number, and one of the order.
const RANK_LENGTH: usize = 21;

/// Several times the length of a sealed record.
const MAX_RECORD_SIZE: usize = 1024;
