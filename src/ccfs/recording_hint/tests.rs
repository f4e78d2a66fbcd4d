use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::ccfs::parse_zone;

/// 2021-11-24T08:25:03Z.
const START: i64 = 1_637_742_303;

const ZONES: &[&str] = &[
    "Asia/Shanghai",
    "America/New_York",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Europe/London",
    "GMT-3:30",
    "Pacific/Apia",
    "Pacific/Chatham",
    "UTC",
];

fn zone(name: &str) -> TimeZone {
    parse_zone(name).expect(name)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// The wall clock of `zone` at an instant.
fn shown(second: i64, zone: &TimeZone) -> DateTime {
    zone.to_datetime(at(second))
}

fn window(begin: DateTime, end: DateTime) -> SentTimes {
    SentTimes {
        begin: Some(begin),
        end: Some(end),
    }
}

/// The hint for a window around the start, in seconds before and after it, by the clock of `read_in` and
/// sent for a tenant in `of`.
fn hint(around: (i64, i64), read_in: &str, of: &str, age: i64) -> Option<String> {
    let clock = zone(read_in);
    let (begin, end) = (
        shown(START - around.0, &clock),
        shown(START + around.1, &clock),
    );
    let call_id = format!("{START}-1");
    RecordingHint::of(&call_id, window(begin, end), &zone(of), at(START + age))
        .map(|hint| hint.to_string())
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_finding_has_its_text() {
    let hour = (3600, 3600);
    let week = 7 * DAY;
    for (around, read_in, of, age, expected) in [
        (
            hour,
            "Asia/Shanghai",
            "Asia/Shanghai",
            90,
            Some("not-synchronised; age=90"),
        ),
        (
            hour,
            "Asia/Shanghai",
            "Asia/Shanghai",
            -90,
            Some("not-synchronised; age=0"),
        ),
        (
            hour,
            "Asia/Shanghai",
            "Asia/Shanghai",
            DAY - 1,
            Some("not-synchronised; age=86399"),
        ),
        (hour, "Asia/Shanghai", "Asia/Shanghai", DAY, None),
        (
            hour,
            "UTC",
            "Asia/Shanghai",
            week,
            Some("times-off; by=\"+08:00\"; as=utc"),
        ),
        (
            hour,
            "UTC",
            "America/New_York",
            week,
            Some("times-off; by=\"-05:00\"; as=utc"),
        ),
        (
            hour,
            "UTC",
            "Asia/Kathmandu",
            week,
            Some("times-off; by=\"+05:45\"; as=utc"),
        ),
        (
            hour,
            "GMT+08:00",
            "GMT+04:00",
            week,
            Some("times-off; by=\"-04:00\"; as=converted-twice"),
        ),
        (
            (1800, 1800),
            "GMT-06:00",
            "America/New_York",
            week,
            Some("times-off; by=\"+01:00\""),
        ),
        (
            hour,
            "Asia/Kolkata",
            "Asia/Shanghai",
            week,
            Some("times-off; by=\"+02:00\""),
        ),
        (
            (60, 60),
            "Asia/Kolkata",
            "Asia/Shanghai",
            week,
            Some("times-off; by=\"+02:30\""),
        ),
        (
            (90_000, -80_000),
            "UTC",
            "UTC",
            week,
            Some("ends-before-call"),
        ),
        (
            (-50_000, 60_000),
            "UTC",
            "UTC",
            week,
            Some("begins-after-call"),
        ),
        ((90_000, 90_000), "UTC", "Asia/Shanghai", week, None),
    ] {
        let row = format!("{around:?} {read_in} {of} {age}");
        assert_eq!(hint(around, read_in, of, age).as_deref(), expected, "{row}");
    }
}

#[test]
fn only_ten_digits_from_2010_on_are_a_start() {
    let now = at(START + 3600);
    for (call_id, start) in [
        ("1637742303-1", Some(START)),
        ("1637742303-", Some(START)),
        ("1262304000-1", Some(1_262_304_000)),
        ("1262303999-1", None),
        ("1637742303", None),
        ("163774230-1", None),
        ("16377423030-1", None),
        ("+637742303-1", None),
        ("", None),
        ("-1637742303", None),
    ] {
        let found = call_start(call_id, now).map(Timestamp::as_second);
        assert_eq!(found, start, "{call_id}");
    }
    let latest = now.as_second() + DAY;
    assert!(call_start(&format!("{latest}-1"), now).is_some());
    assert!(call_start(&format!("{}-1", latest + 1), now).is_none());
}

#[test]
fn without_a_whole_window_there_is_no_hint() {
    let begin = shown(START, &TimeZone::UTC);
    let only_begin = SentTimes {
        begin: Some(begin),
        end: None,
    };
    let call_id = format!("{START}-1");
    assert_eq!(
        RecordingHint::of(&call_id, only_begin, &TimeZone::UTC, at(START)),
        None
    );
}

/// Starts over sixteen years, so that many windows lie over a change of the offset.
fn starts() -> impl Strategy<Value = i64> {
    1_262_304_000..1_767_225_600_i64
}

#[test]
fn a_hundred_thousand_right_requests_are_never_accused() {
    let config = Config {
        cases: 100_000,
        ..Config::default()
    };
    let case = (
        starts(),
        prop::sample::select(ZONES),
        0..2 * DAY,
        0..DAY,
        0..3 * DAY,
    );
    let right = |(start, name, before, after, age): (i64, &str, i64, i64, i64)| {
        let zone = zone(name);
        let sent = window(shown(start - before, &zone), shown(start + after, &zone));
        let hint = RecordingHint::of(&format!("{start}-7"), sent, &zone, at(start + age));
        let expected = (age < DAY).then_some(RecordingHint::NotSynchronised { age });
        prop_assert!(hint == expected, "{name} {start} {sent:?}: {hint:?}");
        Ok(())
    };
    TestRunner::new(config).run(&case, right).unwrap();
}

proptest! {
    /// A client that sends UTC, or converts twice, and asks for up to an hour around the start.
    #[test]
    fn the_usual_mistakes_are_named(
        start in starts(), name in prop::sample::select(ZONES),
        before in 0..1800_i64, after in 0..1800_i64, twice in any::<bool>(),
    ) {
        let zone = zone(name);
        let offset = i64::from(zone.to_offset(at(start)).seconds());
        // Where the offset changes nearby, the shift is not the same for both times.
        let changes = [-DAY, DAY].iter().any(|by| i64::from(zone.to_offset(at(start + by)).seconds()) != offset);
        prop_assume!(!changes && offset.abs() > 1800 && (-43_200..=50_400).contains(&offset));
        let read = |instant: i64| if twice {
            shown(instant + offset, &zone)
        } else {
            shown(instant, &TimeZone::UTC)
        };
        let sent = window(read(start - before), read(start + after));
        let hint = RecordingHint::of(&format!("{start}-1"), sent, &zone, at(start + DAY));
        let (by, reading) = if twice {
            (-offset, Misreading::ConvertedTwice)
        } else {
            (offset, Misreading::Utc)
        };
        if is_shift(by as i32) {
            prop_assert_eq!(hint, Some(RecordingHint::TimesOff { by: by as i32, reading: Some(reading) }));
        } else {
            // +13:00 and +14:00 converted twice are further off than any zone.
            prop_assert_eq!(hint, Some(RecordingHint::BeginsAfterCall));
        }
    }

    /// A client that uses another zone's clock is told a shift that is right.
    #[test]
    fn another_zone_is_a_shift_that_fits(
        start in starts(), of in prop::sample::select(ZONES), read_in in prop::sample::select(ZONES),
        before in 0..1800_i64, after in 0..1800_i64,
    ) {
        let (tenant, clock) = (zone(of), zone(read_in));
        let offset = |zone: &TimeZone, at_second| i64::from(zone.to_offset(at(at_second)).seconds());
        let is_calm = |zone: &TimeZone| [-DAY, DAY].iter().all(|by| offset(zone, start + by) == offset(zone, start));
        let by = offset(&tenant, start) - offset(&clock, start);
        prop_assume!(is_calm(&tenant) && is_calm(&clock) && is_shift(by as i32) && by.abs() > 1800);
        let sent = window(shown(start - before, &clock), shown(start + after, &clock));
        let hint = RecordingHint::of(&format!("{start}-1"), sent, &tenant, at(start + DAY));
        let found = hint.and_then(RecordingHint::times_off_by).map(i64::from);
        let Some(found) = found else { return Err(TestCaseError::fail(format!("{hint:?}"))) };
        prop_assert_eq!(found.signum(), by.signum());
        prop_assert!((by - after..=by + before).contains(&found));
    }

    /// A window further off than any shift is before or after.
    #[test]
    fn a_window_out_of_reach_is_before_or_after(
        start in starts(), name in prop::sample::select(ZONES), length in 0..DAY, gap in 0..DAY, ends in any::<bool>(),
    ) {
        let zone = zone(name);
        let reach = 16 * 3600;
        let begin = if ends { start - reach - gap - length } else { start + reach + gap };
        let sent = window(shown(begin, &zone), shown(begin + length, &zone));
        let hint = RecordingHint::of(&format!("{start}-1"), sent, &zone, at(start + DAY));
        let expected = if ends { RecordingHint::EndsBeforeCall } else { RecordingHint::BeginsAfterCall };
        // Samoa left out a whole day.
        prop_assume!(name != "Pacific/Apia");
        prop_assert_eq!(hint, Some(expected));
    }
}
