//! The rate limit of an access key over all replicas: GCRA in one script, by the clock of the store.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

use super::connection::Connection;
use crate::config::Rate;

/// Takes one token of the limit stored under `key`. Returns `None`, or the time until the next token
/// if the limit is exceeded.
pub(super) async fn acquire(
    mut connection: Connection,
    key: String,
    rate: Rate,
) -> redis::RedisResult<Option<Duration>> {
    // A fraction of a microsecond is kept: over hours it would add up.
    let interval = rate.period.duration().as_secs_f64() * 1e6 / f64::from(rate.requests.max(1));
    let window = interval * f64::from(rate.burst.max(1));
    let wait: i64 = GCRA
        .key(key)
        .arg(interval)
        .arg(window)
        .invoke_async(&mut connection)
        .await?;
    // A response that the script cannot have made is limited to a full window.
    let longest = Duration::from_secs_f64(window / 1e6);
    Ok(u64::try_from(wait)
        .ok()
        .filter(|&wait| wait > 0)
        .map(|wait| Duration::from_micros(wait).min(longest)))
}

/// The stored value is the theoretical arrival time of GCRA: when the limit is fully replenished, in
/// microseconds since 2026 (such numbers have exact fractions in Lua's doubles). A value out of range,
/// from another rate or after the clock was set back, counts as an exhausted limit at most.
///
/// Returns 0, or the microseconds until the next token.
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
