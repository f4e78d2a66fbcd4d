//! The rate limit of an access key over all replicas: GCRA in one script, by the clock of the store.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

use super::connection::Connection;
use crate::config::Rate;

/// What is left of a rate limit after a token was taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TokensLeft {
    /// Requests that would be admitted at once.
    pub tokens: u32,
    /// The time until there is one more.
    pub next_in: Duration,
}

/// Takes one token of the limit stored under `key`. Returns what is left of it, or the time until the next
/// token if the limit is exceeded.
pub(super) async fn acquire(
    mut connection: Connection,
    key: String,
    rate: Rate,
) -> redis::RedisResult<Result<TokensLeft, Duration>> {
    // A fraction of a microsecond is kept: over hours it would add up.
    let interval = rate.period.duration().as_secs_f64() * 1e6 / f64::from(rate.requests.max(1));
    let window = interval * f64::from(rate.burst.max(1));
    let (wait, tokens, next): (i64, i64, i64) = GCRA
        .key(key)
        .arg(interval)
        .arg(window)
        .invoke_async(&mut connection)
        .await?;
    // A response that the script cannot have made is limited to a full window.
    let longest = Duration::from_secs_f64(window / 1e6);
    let time = |micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0)).min(longest);
    if wait > 0 {
        return Ok(Err(time(wait)));
    }
    Ok(Ok(TokensLeft {
        tokens: u32::try_from(tokens).unwrap_or(0).min(rate.burst),
        next_in: time(next),
    }))
}

/// The stored value is the theoretical arrival time of GCRA: when the limit is fully replenished, in
/// microseconds since 2026 (such numbers have exact fractions in Lua's doubles). A value out of range,
/// from another rate or after the clock was set back, counts as an exhausted limit at most.
///
/// Returns the microseconds to wait for a token, 0 if one was taken; the whole tokens that are left; and the
/// microseconds until there is one more.
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
if wait > 0.5 then return {math.ceil(wait), 0, math.ceil(wait)} end
redis.call('SET', KEYS[1], string.format('%.17g', next), 'PX', math.ceil((next - now) / 1000))
local left = math.max(window - (next - now), 0)
local tokens = math.floor(left / interval + 1e-6)
return {0, tokens, math.ceil((tokens + 1) * interval - left)}
",
    )
});
