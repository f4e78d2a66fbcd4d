//! Why a recording may not have been found: compares the start of a call, which is in its callId, with the
//! window that was sent. Pure, and only ever a hint: nothing is refused for it.
//!
//! The ten digits of a callId before its `-` are the call's start in seconds since 1970. That is no documented
//! rule; three samples agree (interface document, page 4221 / 0813; another page; a client in production).

use std::fmt;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::payload::SentTimes;
use super::times::{LocalTime, offset_text};

/// What the window says about a recording that was not found. `Display` is an item of a structured field
/// (RFC 9651).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RecordingHint {
    /// The window holds the start of a call so young that its recording may not be synchronised yet.
    NotSynchronised {
        /// Seconds since the call began; 0 for one that begins after `now`.
        age: i64,
    },
    /// The window would hold the start if both its times were shifted.
    TimesOff {
        /// What to add to the times, in seconds: whole quarter hours.
        by: i32,
        /// The mistake that makes this shift, if it is a usual one.
        reading: Option<Misreading>,
    },
    /// The window ends before the call began.
    EndsBeforeCall,
    /// The window begins after the call began.
    BeginsAfterCall,
}

/// A usual mistake with time zones.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Misreading {
    /// UTC was sent as the tenant's wall clock.
    Utc,
    /// The tenant's wall clock was converted as if it were UTC.
    ConvertedTwice,
}

impl RecordingHint {
    /// Compares a window with the start of its call. `None` without a start or a whole window, and for an
    /// older call whose start the window holds.
    ///
    /// A window that holds the start under any reading of its times is never called wrong.
    pub fn of(call_id: &str, sent: SentTimes, zone: &TimeZone, now: Timestamp) -> Option<Self> {
        let start = call_start(call_id, now)?;
        let (begin, end) = (sent.begin?, sent.end?);
        let earliest = LocalTime::as_written(begin).possible_instants(zone).0;
        let latest = LocalTime::as_written(end).possible_instants(zone).1;
        let offset = zone.to_offset(start).seconds();
        let shown = wall_clock(start, offset)?;
        let instant = start.as_second();
        if (earliest..=latest).contains(&instant) || (begin..=end).contains(&shown) {
            let age = now.as_second().saturating_sub(instant).max(0);
            return (age < SYNCHRONISED_AFTER).then_some(Self::NotSynchronised { age });
        }
        let holds_if_shifted = |by: i32| {
            wall_clock(start, offset - by).is_some_and(|start| (begin..=end).contains(&start))
        };
        if let Some((by, reading)) = shifts(offset).find(|&(by, _)| holds_if_shifted(by)) {
            return Some(Self::TimesOff { by, reading });
        }
        Some(if end < shown {
            Self::EndsBeforeCall
        } else {
            Self::BeginsAfterCall
        })
    }

    /// Returns the shift of both times that would be right, in seconds.
    pub fn times_off_by(self) -> Option<i32> {
        match self {
            Self::TimesOff { by, .. } => Some(by),
            Self::NotSynchronised { .. } | Self::EndsBeforeCall | Self::BeginsAfterCall => None,
        }
    }
}

impl fmt::Display for RecordingHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSynchronised { age } => write!(f, "not-synchronised; age={age}"),
            Self::TimesOff { by, reading } => {
                write!(f, "times-off; by=\"{}\"", offset_text(*by))?;
                match reading {
                    Some(Misreading::Utc) => f.write_str("; as=utc"),
                    Some(Misreading::ConvertedTwice) => f.write_str("; as=converted-twice"),
                    None => Ok(()),
                }
            }
            Self::EndsBeforeCall => f.write_str("ends-before-call"),
            Self::BeginsAfterCall => f.write_str("begins-after-call"),
        }
    }
}

/// Returns the start of a call: the ten digits of its callId before the first `-`, if they are a time from
/// 2010 to a day after `now`.
fn call_start(call_id: &str, now: Timestamp) -> Option<Timestamp> {
    let (digits, _) = call_id.split_once('-')?;
    if digits.len() != 10 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = digits.parse().ok()?;
    let plausible = FIRST_PLAUSIBLE..=now.as_second().saturating_add(DAY);
    let start = plausible.contains(&seconds).then_some(seconds)?;
    Timestamp::from_second(start).ok()
}

fn wall_clock(start: Timestamp, offset: i32) -> Option<DateTime> {
    let since_1970 = SignedDuration::from_secs(start.as_second() + i64::from(offset));
    DateTime::constant(1970, 1, 1, 0, 0, 0, 0)
        .checked_add(since_1970)
        .ok()
}

/// Returns the shifts to try, the likeliest first: the zone's own offset, its negative, whole hours, then
/// other quarter hours, small ones before large ones.
fn shifts(offset: i32) -> impl Iterator<Item = (i32, Option<Misreading>)> {
    let own = [
        (offset, Some(Misreading::Utc)),
        (-offset, Some(Misreading::ConvertedTwice)),
    ];
    let own = own.into_iter().filter(|&(by, _)| is_shift(by));
    let sizes = || (1..=LARGEST_SHIFT / QUARTER).map(|quarters| quarters * QUARTER);
    let whole_hours = sizes().filter(|by| by % HOUR == 0);
    let others = sizes().filter(|by| by % HOUR != 0);
    let both_ways = whole_hours.chain(others).flat_map(|by| [by, -by]);
    let both_ways = both_ways.filter(|&by| is_shift(by)).map(|by| (by, None));
    own.chain(both_ways)
}

fn is_shift(by: i32) -> bool {
    by != 0 && by % QUARTER == 0 && (SMALLEST_SHIFT..=LARGEST_SHIFT).contains(&by)
}

const HOUR: i32 = 3600;
const QUARTER: i32 = HOUR / 4;
const DAY: i64 = 24 * 3600;

/// The offsets in use range from -12:00 to +14:00.
const SMALLEST_SHIFT: i32 = -12 * HOUR;
const LARGEST_SHIFT: i32 = 14 * HOUR;

/// 2010-01-01T00:00:00Z: before the first AICC.
const FIRST_PLAUSIBLE: i64 = 1_262_304_000;

/// A recording that is not found a day after its call is not merely late.
const SYNCHRONISED_AFTER: i64 = DAY;

#[cfg(test)]
mod tests;
