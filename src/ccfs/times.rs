//! The two forms of a time, the tenant's zone, the three-day window. Time zone data is compiled in; that of
//! the machine is never used.
//!
//! A time without offset is the tenant's wall clock and may name no instant (a spring gap) or two (the hour
//! that autumn repeats). Which one CC-FS takes is not documented, so a window is
//! invalid only if it is invalid under every reading.

use std::sync::LazyLock;

use jiff::civil::{DateTime, date};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

/// A time as received.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ParsedTime {
    /// `yyyy-MM-dd HH:mm:ss`: tenant-local or UTC, depending on the version.
    Civil(DateTime),
    /// RFC 3339 with an offset: an instant, and the tenant's wall clock at it.
    Instant(LocalTime),
}

/// A time as it is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct LocalTime {
    /// The tenant's wall clock, within the years 0001 to 9999.
    pub(super) civil: DateTime,
    /// The instant that it was converted from, in seconds since 1970.
    pub(super) instant: Option<i64>,
}

/// Why a window is invalid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum WindowError {
    /// It ends before it begins.
    Reversed,
    /// Only the wall clock runs backwards, over a change of the offset.
    ReversedByClockChange,
    /// Longer than three days, by wall clock and by elapsed time.
    TooLong,
}

impl ParsedTime {
    /// Parses exactly `yyyy-MM-dd HH:mm:ss` or RFC 3339's `yyyy-MM-ddTHH:mm:ss` with `Z` or `±hh:mm`
    /// (upper case, no fractions; `-00:00` is UTC, as RFC 3339 section 4.3 says). Years 0001 to 9999,
    /// as written and in the zone.
    pub(super) fn parse(text: &str, zone: &TimeZone) -> Option<Self> {
        let (civil, offset) = text.as_bytes().split_first_chunk::<19>()?;
        if offset.is_empty() {
            return parse_civil(civil, b' ').map(Self::Civil);
        }
        let instant = to_seconds(parse_civil(civil, b'T')?) - parse_offset(offset)?;
        LocalTime::from_instant(instant, zone).map(Self::Instant)
    }

    /// Returns the calendar years of the time, taken as UTC, in UTC and in +08:00.
    fn years(&self) -> [i16; 2] {
        match self {
            Self::Civil(utc) => [utc.year(), utc.saturating_add(PLUS_EIGHT).year()],
            Self::Instant(local) => [local.civil.year(); 2],
        }
    }
}

impl LocalTime {
    /// Creates a time that is sent as received.
    pub(super) fn as_written(civil: DateTime) -> Self {
        Self {
            civil,
            instant: None,
        }
    }

    /// Converts a UTC time to the zone; `None` outside the years 0001 to 9999.
    pub(super) fn from_utc(utc: DateTime, zone: &TimeZone) -> Option<Self> {
        Self::from_instant(to_seconds(utc), zone)
    }

    /// Converts an instant to the zone; `None` outside the years 0001 to 9999.
    pub(super) fn from_instant(instant: i64, zone: &TimeZone) -> Option<Self> {
        let offset = zone.to_offset(to_timestamp(instant));
        let since_1970 = SignedDuration::from_secs(instant + i64::from(offset.seconds()));
        let civil = EPOCH.checked_add(since_1970).ok()?;
        (civil.year() >= 1).then_some(Self {
            civil,
            instant: Some(instant),
        })
    }

    /// Returns itself if it was converted.
    pub(super) fn converted(&self) -> Option<&Self> {
        self.instant.is_some().then_some(self)
    }

    /// Returns `"yyyy-MM-dd HH:mm:ss"`, a JSON string.
    pub(super) fn json_literal(&self) -> String {
        let civil = self.civil;
        let mut text = String::with_capacity(21);
        text.push('"');
        push_two_digits(&mut text, civil.year() / 100);
        push_two_digits(&mut text, civil.year() % 100);
        for (separator, number) in [
            ('-', civil.month()),
            ('-', civil.day()),
            (' ', civil.hour()),
            (':', civil.minute()),
            (':', civil.second()),
        ] {
            text.push(separator);
            push_two_digits(&mut text, number.into());
        }
        text.push('"');
        text
    }

    /// Returns the earliest and the latest instant that it may mean.
    pub(super) fn possible_instants(&self, zone: &TimeZone) -> (i64, i64) {
        if let Some(instant) = self.instant {
            return (instant, instant);
        }
        let with = |offset: Offset| to_seconds(self.civil) - i64::from(offset.seconds());
        match zone.to_ambiguous_timestamp(self.civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => (with(offset), with(offset)),
            AmbiguousOffset::Gap { before, after } | AmbiguousOffset::Fold { before, after } => {
                let (one, other) = (with(before), with(after));
                (one.min(other), one.max(other))
            }
        }
    }
}

/// Checks that the window does not begin after its end, as received and as sent.
pub(super) fn check_order(
    begin: &LocalTime,
    end: &LocalTime,
    zone: &TimeZone,
) -> Result<(), WindowError> {
    let is_reversed = begin.civil > end.civil;
    let as_written = begin.instant.is_none() && end.instant.is_none();
    if as_written && !is_reversed {
        return Ok(());
    }
    if begin.possible_instants(zone).0 > end.possible_instants(zone).1 {
        Err(WindowError::Reversed)
    } else if is_reversed {
        Err(WindowError::ReversedByClockChange)
    } else {
        Ok(())
    }
}

/// Checks that the window is at most three days long, by wall clock or by elapsed time.
pub(super) fn check_span(
    begin: &LocalTime,
    end: &LocalTime,
    zone: &TimeZone,
) -> Result<(), WindowError> {
    let wall_clock = to_seconds(end.civil) - to_seconds(begin.civil);
    if wall_clock <= MAX_WINDOW {
        return Ok(());
    }
    let elapsed = end.possible_instants(zone).0 - begin.possible_instants(zone).1;
    if elapsed <= MAX_WINDOW {
        Ok(())
    } else {
        Err(WindowError::TooLong)
    }
}

/// Whether the zone is at +08:00 throughout the calendar years of a window. A time without offset is taken as
/// UTC, which it is if the result is true; at the turn of a year it counts with both its years.
pub(super) fn is_plus_eight(zone: &TimeZone, [begin, end]: [ParsedTime; 2]) -> bool {
    let [[a, b], [c, d]] = [begin.years(), end.years()];
    let (first, last) = (a.min(c), b.max(d));
    let new_year = |year| to_seconds(date(year, 1, 1).at(0, 0, 0, 0)) - PLUS_EIGHT.as_secs();
    let start = to_timestamp(new_year(first));
    let end = match last {
        9999 => Timestamp::MAX,
        year => to_timestamp(new_year(year + 1)),
    };
    let plus_eight = |offset: Offset| i64::from(offset.seconds()) == PLUS_EIGHT.as_secs();
    let mut changes = zone
        .following(start)
        .take_while(|change| change.timestamp() < end);
    plus_eight(zone.to_offset(start)) && changes.all(|change| plus_eight(change.offset()))
}

/// Parses the zone of a tenant space: an IANA name in any case, or a fixed offset from GMT or UTC (`GMT+8`,
/// `GMT-3:30`, `UTC+08:00`, `UTC`), where plus is east, unlike in `Etc/GMT+8`. Fixed offsets range from
/// -12:00 to +14:00, the offsets in use.
pub fn parse_zone(text: &str) -> Option<TimeZone> {
    if let Some(offset) = parse_fixed(text) {
        return Some(offset.to_time_zone());
    }
    let zone = ZONES.get(text).ok()?;
    // Both mean that no zone was set.
    let is_unset = zone.is_unknown() || zone.iana_name() == Some("Factory");
    (!is_unset).then_some(zone)
}

/// Returns an offset in seconds as `+08:00`.
pub fn offset_text(seconds: i32) -> String {
    let minutes = seconds.abs() / 60;
    let sign = if seconds < 0 { '-' } else { '+' };
    format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

/// Returns the name of a zone as [`parse_zone`] reads it: an IANA name, or `GMT+08:00`.
pub fn zone_name(zone: &TimeZone) -> String {
    match (zone.iana_name(), zone.to_fixed_offset()) {
        (None, Ok(offset)) => format!("GMT{}", offset_text(offset.seconds())),
        (name, _) => name.unwrap_or("unknown").to_owned(),
    }
}

fn parse_fixed(text: &str) -> Option<Offset> {
    let (name, rest) = text.split_at_checked(3)?;
    if !name.eq_ignore_ascii_case("GMT") && !name.eq_ignore_ascii_case("UTC") {
        return None;
    }
    let (sign, rest) = match rest.as_bytes().split_first() {
        None => return Some(Offset::UTC),
        Some((b'+', rest)) => (1, rest),
        Some((b'-', rest)) => (-1, rest),
        Some(_) => return None,
    };
    let (hours, minutes) = match rest {
        [h] => (parse_digits(&[*h])?, 0),
        [h1, h2] => (parse_digits(&[*h1, *h2])?, 0),
        [h, b':', m1, m2] => (parse_digits(&[*h])?, parse_digits(&[*m1, *m2])?),
        [h1, h2, b':', m1, m2] => (parse_digits(&[*h1, *h2])?, parse_digits(&[*m1, *m2])?),
        _ => return None,
    };
    let seconds = sign * (i32::from(hours) * 3600 + i32::from(minutes) * 60);
    if minutes > 59 || !(-12 * 3600..=14 * 3600).contains(&seconds) {
        return None;
    }
    Offset::from_seconds(seconds).ok()
}

/// Parses `yyyy-MM-dd`, the separator, `HH:mm:ss`; date and time of day must exist.
fn parse_civil(bytes: &[u8; 19], separator: u8) -> Option<DateTime> {
    let [
        y1,
        y2,
        y3,
        y4,
        b'-',
        mo1,
        mo2,
        b'-',
        d1,
        d2,
        between,
        h1,
        h2,
        b':',
        mi1,
        mi2,
        b':',
        s1,
        s2,
    ] = *bytes
    else {
        return None;
    };
    if between != separator {
        return None;
    }
    let year = parse_digits(&[y1, y2, y3, y4])?;
    let small = |tens, ones| parse_digits(&[tens, ones]).map(|value| value as i8);
    let day = (small(mo1, mo2)?, small(d1, d2)?);
    let time = (small(h1, h2)?, small(mi1, mi2)?, small(s1, s2)?);
    if year == 0 {
        return None;
    }
    DateTime::new(year, day.0, day.1, time.0, time.1, time.2, 0).ok()
}

/// Parses `Z` or `±hh:mm`; returns seconds east of UTC.
fn parse_offset(bytes: &[u8]) -> Option<i64> {
    let (sign, hours, minutes) = match *bytes {
        [b'Z'] => return Some(0),
        [b'+', h1, h2, b':', m1, m2] => (1, parse_digits(&[h1, h2])?, parse_digits(&[m1, m2])?),
        [b'-', h1, h2, b':', m1, m2] => (-1, parse_digits(&[h1, h2])?, parse_digits(&[m1, m2])?),
        _ => return None,
    };
    let in_range = hours < 24 && minutes < 60;
    in_range.then_some(sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60))
}

/// Parses at most four ASCII digits.
fn parse_digits(digits: &[u8]) -> Option<i16> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| i16::from(digit - b'0'))?;
        Some(value * 10 + digit)
    })
}

fn push_two_digits(text: &mut String, number: i16) {
    for digit in [number / 10, number % 10] {
        text.push(char::from(b'0' + digit as u8));
    }
}

/// Returns seconds since 1970, taking the wall clock as UTC.
fn to_seconds(civil: DateTime) -> i64 {
    civil.duration_since(EPOCH).as_secs()
}

/// Returns the instant for zone lookups, clamped to jiff's range. That range ends one day before the year
/// 10000, where no zone changes its offset.
fn to_timestamp(instant: i64) -> Timestamp {
    let nearest = if instant < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    };
    Timestamp::from_second(instant).unwrap_or(nearest)
}

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

const PLUS_EIGHT: SignedDuration = SignedDuration::from_hours(8);

/// Three days, in seconds, inclusive (interface document, page 4221 / 0813).
const MAX_WINDOW: i64 = 3 * 24 * 3600;

#[cfg(test)]
mod tests;
