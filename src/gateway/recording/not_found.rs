//! How many recordings of which access key were not found in the last ten minutes, and why that may be.
//! Bounded in access keys and in time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::RandomState;
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::ccfs::RecordingHint;

/// The counts of all access keys.
#[derive(Debug, Default)]
pub struct NotFoundLog(Mutex<HashMap<Arc<str>, VecDeque<Minute>, RandomState>>);

/// The counts of one minute.
#[derive(Debug)]
struct Minute {
    /// Since 1970.
    number: i64,
    last: Timestamp,
    counts: NotFoundCounts,
}

/// How often recordings were not found, and with which hints.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NotFoundCounts {
    /// Responses 0300012.
    pub not_found: u64,
    /// Of these: the call is young.
    pub not_synchronised: u64,
    /// Of these: the window ends before the call.
    pub ends_before_call: u64,
    /// Of these: the window begins after the call.
    pub begins_after_call: u64,
    /// Of these: the times are off, by this many seconds and so often; at most `MAX_SHIFTS`.
    pub times_off: Vec<(i32, u64)>,
}

/// The counts of one access key in the last ten minutes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotFound {
    /// The access key.
    pub access_key: Arc<str>,
    /// The last response 0300012.
    pub last: Timestamp,
    /// The counts.
    pub counts: NotFoundCounts,
}

impl NotFoundLog {
    /// Counts one response without data.
    pub(super) fn count(&self, access_key: &Arc<str>, hint: Option<RecordingHint>, now: Timestamp) {
        let mut access_keys = self.0.lock();
        if access_keys.len() >= MAX_ACCESS_KEYS && !access_keys.contains_key(access_key) {
            access_keys
                .retain(|_, minutes| minutes.back().is_some_and(|last| is_recent(last, now)));
            if access_keys.len() >= MAX_ACCESS_KEYS {
                return;
            }
        }
        let minutes = access_keys.entry(access_key.clone()).or_default();
        minutes.retain(|minute| is_recent(minute, now));
        let number = minute_of(now);
        if minutes.back().is_none_or(|minute| minute.number != number) {
            minutes.push_back(Minute {
                number,
                last: now,
                counts: NotFoundCounts::default(),
            });
        }
        if let Some(minute) = minutes.back_mut() {
            minute.last = now;
            minute.counts.add(hint);
        }
    }

    /// Returns the counts of all access keys of which a recording was not found in the last ten minutes, the
    /// most first.
    pub fn recent(&self, now: Timestamp) -> Vec<NotFound> {
        let access_keys = self.0.lock();
        let mut all: Vec<_> = access_keys
            .iter()
            .filter_map(|(access_key, minutes)| {
                let mut recent = minutes.iter().filter(|minute| is_recent(minute, now));
                let first = recent.next()?;
                let mut sum = NotFound {
                    access_key: access_key.clone(),
                    last: first.last,
                    counts: first.counts.clone(),
                };
                for minute in recent {
                    sum.last = minute.last;
                    sum.counts.merge(&minute.counts);
                }
                Some(sum)
            })
            .collect();
        all.sort_by_key(|one| std::cmp::Reverse(one.counts.not_found));
        all
    }
}

impl NotFoundCounts {
    fn add(&mut self, hint: Option<RecordingHint>) {
        self.not_found += 1;
        match hint {
            None => {}
            Some(RecordingHint::NotSynchronised { .. }) => self.not_synchronised += 1,
            Some(RecordingHint::EndsBeforeCall) => self.ends_before_call += 1,
            Some(RecordingHint::BeginsAfterCall) => self.begins_after_call += 1,
            Some(RecordingHint::TimesOff { by, .. }) => self.add_shift(by, 1),
        }
    }

    fn add_shift(&mut self, by: i32, count: u64) {
        if let Some((_, sum)) = self.times_off.iter_mut().find(|(other, _)| *other == by) {
            *sum += count;
        } else if self.times_off.len() < MAX_SHIFTS {
            self.times_off.push((by, count));
        }
    }

    fn merge(&mut self, other: &Self) {
        self.not_found += other.not_found;
        self.not_synchronised += other.not_synchronised;
        self.ends_before_call += other.ends_before_call;
        self.begins_after_call += other.begins_after_call;
        for &(by, count) in &other.times_off {
            self.add_shift(by, count);
        }
    }
}

fn is_recent(minute: &Minute, now: Timestamp) -> bool {
    minute.number > minute_of(now) - MINUTES
}

fn minute_of(time: Timestamp) -> i64 {
    time.as_second().div_euclid(60)
}

/// The time that counts, in minutes; also of the requests that they are compared with.
const MINUTES: i64 = 10;

/// Access keys that are counted; at most 1 MiB. Our choice: more than people read.
const MAX_ACCESS_KEYS: usize = 1024;

/// Different shifts of one access key. A mistake with zones makes one or two.
const MAX_SHIFTS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn off(by: i32) -> Option<RecordingHint> {
        Some(RecordingHint::TimesOff { by, reading: None })
    }

    #[test]
    fn ten_minutes_are_counted_by_access_key_and_hint() {
        let log = NotFoundLog::default();
        let (one, other) = (Arc::from("one"), Arc::from("other"));
        log.count(&one, off(3600), at(0));
        for minute in 1..=9 {
            log.count(&one, off(7200), at(minute * 60));
        }
        log.count(&one, Some(RecordingHint::EndsBeforeCall), at(570));
        log.count(&other, None, at(0));
        let sums = |now| {
            let recent = log.recent(at(now));
            let shown = recent.iter().map(|it| {
                let counts = &it.counts;
                (
                    it.access_key.to_string(),
                    counts.not_found,
                    counts.times_off.clone(),
                )
            });
            shown.collect::<Vec<_>>()
        };
        let (one, other) = ("one".to_owned(), "other".to_owned());
        let both = vec![
            (one.clone(), 11, vec![(3600, 1), (7200, 9)]),
            (other, 1, vec![]),
        ];
        assert_eq!(sums(599), both);
        assert_eq!(sums(600), [(one.clone(), 10, vec![(7200, 9)])]);
        assert_eq!(sums(1139), [(one, 2, vec![(7200, 1)])]);
        assert!(sums(1140).is_empty());
        assert_eq!(log.recent(at(599))[0].last, at(570));
    }

    #[test]
    fn access_keys_and_shifts_are_bounded() {
        let log = NotFoundLog::default();
        for number in 0..2 * MAX_ACCESS_KEYS {
            log.count(&number.to_string().into(), off(number as i32), at(0));
        }
        assert_eq!(log.recent(at(0)).len(), MAX_ACCESS_KEYS);
        // Forgotten ones make room.
        let late: Arc<str> = "late".into();
        for by in 0..100 {
            log.count(&late, off(by), at(6000));
        }
        let recent = log.recent(at(6000));
        assert_eq!((recent.len(), recent[0].counts.not_found), (1, 100));
        assert_eq!(recent[0].counts.times_off.len(), MAX_SHIFTS);
    }
}
