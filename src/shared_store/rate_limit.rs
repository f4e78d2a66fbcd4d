//! One budget of an ak over all replicas: GCRA in one script, by the store's clock.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

use super::connection::Connection;
use crate::config::Rate;

/// Takes one of the budget that stands under `name`: `None`, or when one more would pass.
pub(super) async fn acquire(
    mut connection: Connection,
    name: String,
    rate: Rate,
) -> redis::RedisResult<Option<Duration>> {
    let interval = 1e6 / f64::from(rate.per_second.max(1));
    let window = interval * f64::from(rate.burst.max(1));
    let wait: i64 = GCRA
        .key(name)
        .arg(interval)
        .arg(window)
        .invoke_async(&mut connection)
        .await?;
    // What is not of the script's making is at most a full window.
    let longest = Duration::from_secs_f64(window / 1e6);
    Ok(u64::try_from(wait)
        .ok()
        .filter(|&wait| wait > 0)
        .map(|wait| Duration::from_micros(wait).min(longest)))
}

/// What stands under the name is the time at which the budget is full again, in microseconds since
/// 2026: so small a number has its fractions exactly. Numbers that make no sense, from another
/// rate or a clock that was set back, are an empty budget at most.
///
/// Answers with 0, or with the microseconds until one more would pass.
static GCRA: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local interval, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = (tonumber(time[1]) - 1767225600) * 1000000 + tonumber(time[2])
local full = tonumber(redis.call('GET', KEYS[1]))
if not full or not (full > now) then full = now end
if full > now + window then full = now + window end
local next = full + interval
local wait = next - window - now
if wait > 0.5 then return math.ceil(wait) end
redis.call('SET', KEYS[1], string.format('%.17g', next), 'PX', math.ceil((next - now) / 1000))
return 0
",
    )
});
