use proptest::prelude::*;

use super::*;

fn zone(name: &str) -> TimeZone {
    parse_zone(name).expect(name)
}

fn plain(text: &str) -> DateTime {
    match ParsedTime::parse(text, &TimeZone::UTC) {
        Some(ParsedTime::Civil(civil)) => civil,
        other => panic!("{text}: {other:?}"),
    }
}

fn text_of(local: LocalTime) -> String {
    serde_json::from_str(&local.json_literal()).unwrap()
}

/// The rows of a table with `N` columns, after the row itself.
fn table<const N: usize>(text: &str) -> impl Iterator<Item = (&str, [&str; N])> {
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    rows.map(|row| {
        let cells: Vec<_> = row.split(" | ").collect();
        (row, cells.try_into().expect(row))
    })
}

/// Returns the text that is sent for an RFC 3339 time.
fn local(text: &str, zone: &TimeZone) -> Option<String> {
    match ParsedTime::parse(text, zone)? {
        ParsedTime::Instant(local) => Some(text_of(local)),
        ParsedTime::Civil(_) => panic!("{text} is plain"),
    }
}

#[test]
fn plain_times() {
    for text in [
        "2021-11-24 06:25:03",
        "0001-01-01 00:00:00",
        "9999-12-31 23:59:59",
        "2024-02-29 12:00:00",
    ] {
        assert_eq!(text_of(LocalTime::as_written(plain(text))), text);
    }
}

#[test]
fn what_is_no_time() {
    let all = [
        "",
        " ",
        "2021-11-24",
        "2021-11-24 06:25",
        "2021-11-24 06:25:3",
        "2021-11-24 6:25:03",
        "2021-11-24 06:25:03 ",
        " 2021-11-24 06:25:03",
        "2021/11/24 06:25:03",
        "2021-11-24  06:25:03",
        "2021-11-24T06:25:03",
        "2021-11-24t06:25:03Z",
        "2021-11-24T06:25:03z",
        "2021-11-24 06:25:03Z",
        "2021-11-24 06:25:03+08:00",
        "2021-11-24T06:25:03.000Z",
        "2021-11-24T06:25:03+0800",
        "2021-11-24T06:25:03+08",
        "2021-11-24T06:25:03+8:00",
        "2021-11-24T06:25:03+24:00",
        "2021-11-24T06:25:03+08:60",
        "2021-11-24T06:25:03 +08:00",
        "2021-11-24T06:25:03\u{2212}08:00",
        "2021-11-24T06:25:03+08:00[Asia/Shanghai]",
        "2021-11-24_06:25:03Z",
        "-021-11-24 06:25:03",
        "+021-11-24 06:25:03",
        "2021-1a-24 06:25:03",
        "2021-00-24 06:25:03",
        "2021-13-24 06:25:03",
        "2021-11-00 06:25:03",
        "2021-02-30 06:25:03",
        "2021-02-29 06:25:03",
        "1900-02-29 06:25:03",
        "2021-11-24 24:00:00",
        "2021-11-24 06:60:03",
        "2021-11-24 06:25:60",
        "2016-12-31T23:59:60Z",
        "0000-01-01 00:00:00",
        "0000-12-31T23:59:59-08:00",
        "10000-01-01 00:00:00",
        "2021-11-24 06.25.03",
        "\u{0662}021-11-24 06:25:0",
        "1637742300",
        "2021-11-24 06:25:\u{e9}",
    ];
    for text in all {
        assert_eq!(ParsedTime::parse(text, &TimeZone::UTC), None, "{text:?}");
    }
}

#[test]
fn instants_become_local() {
    let shanghai = zone("Asia/Shanghai");
    for (text, expected) in [
        ("2022-01-02T10:00:00+08:00", "2022-01-02 10:00:00"),
        ("2022-01-02T02:00:00Z", "2022-01-02 10:00:00"),
        ("2022-01-02T02:00:00-00:00", "2022-01-02 10:00:00"),
        ("2022-01-01T21:30:00-04:30", "2022-01-02 10:00:00"),
        ("1988-07-01T00:00:00Z", "1988-07-01 09:00:00"),
        ("0001-01-01T00:00:00+08:05", "0001-01-01 00:00:43"),
    ] {
        assert_eq!(local(text, &shanghai).as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn the_years_end_at_0001_and_9999() {
    let (utc, east, west) = (zone("UTC"), zone("GMT+8"), zone("GMT-8"));
    for (text, zone, expected) in [
        ("9999-12-31T23:59:59Z", &utc, Some("9999-12-31 23:59:59")),
        (
            "9999-12-31T23:59:59-08:00",
            &west,
            Some("9999-12-31 23:59:59"),
        ),
        ("9999-12-31T23:59:59-23:59", &west, None),
        ("9999-12-31T16:00:00Z", &east, None),
        ("9999-12-31T15:59:59Z", &east, Some("9999-12-31 23:59:59")),
        ("0001-01-01T00:00:00Z", &utc, Some("0001-01-01 00:00:00")),
        (
            "0001-01-01T00:00:00+08:00",
            &east,
            Some("0001-01-01 00:00:00"),
        ),
        ("0001-01-01T07:59:59Z", &west, None),
        ("0001-01-01T08:00:00Z", &west, Some("0001-01-01 00:00:00")),
        ("0001-01-01T00:00:00+23:59", &utc, None),
    ] {
        assert_eq!(local(text, zone).as_deref(), expected, "{text}");
    }
    assert_eq!(
        LocalTime::from_utc(plain("9999-12-31 16:00:00"), &east),
        None
    );
    assert_eq!(
        LocalTime::from_utc(plain("0001-01-01 07:59:59"), &west),
        None
    );
}

#[test]
fn zones() {
    for (text, seconds) in [
        ("GMT+8", 28_800),
        ("gmt+8", 28_800),
        ("GMT+08", 28_800),
        ("GMT+08:00", 28_800),
        ("UTC+8", 28_800),
        ("GMT-3:30", -12_600),
        ("UTC-03:30", -12_600),
        ("GMT", 0),
        ("UTC", 0),
        ("GMT+0", 0),
        ("GMT-00:00", 0),
        ("GMT+14", 50_400),
        ("GMT-12:00", -43_200),
        ("UTC+5:45", 20_700),
        ("Etc/GMT-8", 28_800),
        ("Asia/Shanghai", 28_800),
        ("asia/shanghai", 28_800),
        ("Etc/UTC", 0),
        ("America/New_York", -18_000),
    ] {
        let winter = Timestamp::from_second(1_642_000_000).unwrap();
        assert_eq!(zone(text).to_offset(winter).seconds(), seconds, "{text}");
    }
    assert_eq!(
        zone("aMERICA/nEW_yORK").iana_name(),
        Some("America/New_York")
    );
    for text in [
        "",
        " ",
        "GMT+",
        "GMT+15",
        "GMT-13",
        "GMT+14:01",
        "GMT-12:01",
        "GMT+8:5",
        "GMT+8:60",
        "GMT+008",
        "GMT+0800",
        "GMT 8",
        "GMT+8 ",
        " GMT",
        "+08:00",
        "8",
        "UTC8",
        "GMT++8",
        "GMT+8h",
        "CST-8",
        "Asia/Beijing",
        "Factory",
        "Etc/Unknown",
        "Local",
        "../etc/passwd",
        "/etc/localtime",
        "\u{4e2d}\u{56fd}",
        "GM\u{e9}",
    ] {
        assert!(parse_zone(text).is_none(), "{text:?}");
    }
}

#[test]
fn plus_eight_throughout_the_years() {
    let is = |name: &str, begin: &str, end: &str| {
        let [begin, end] = [begin, end].map(|text| ParsedTime::parse(text, &zone(name)).unwrap());
        is_plus_eight(&zone(name), [begin, end])
    };
    for (row, [name, begin, end, expected]) in
        table(include_str!("../../../tests/vectors/plus-eight.txt"))
    {
        assert_eq!(is(name, begin, end), expected == "yes", "{row}");
    }
}

#[test]
fn order_and_span_over_changes_of_the_clocks() {
    let new_york = zone("America/New_York");
    let time = |text: &str| match ParsedTime::parse(text, &new_york).expect(text) {
        ParsedTime::Civil(civil) => LocalTime::as_written(civil),
        ParsedTime::Instant(local) => local,
    };
    let check = |begin: &str, end: &str| {
        let (begin, end) = (time(begin), time(end));
        check_order(&begin, &end, &new_york).and_then(|()| check_span(&begin, &end, &new_york))
    };
    for (row, [begin, end, verdict]) in
        table(include_str!("../../../tests/vectors/windows-new-york.txt"))
    {
        let expected = match verdict {
            "legal" => Ok(()),
            "reversed" => Err(WindowError::Reversed),
            "reversed by clock change" => Err(WindowError::ReversedByClockChange),
            "too long" => Err(WindowError::TooLong),
            other => panic!("{other}"),
        };
        assert_eq!(check(begin, end), expected, "{row}");
    }
}

proptest! {
    #[test]
    fn utc_and_back(instant in -62_135_596_800_i64 + 90_000..253_402_300_800 - 90_000, name in prop::sample::select(&[
        "Asia/Shanghai", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "GMT-3:30", "Pacific/Apia",
    ][..])) {
        let zone = zone(name);
        let local = LocalTime::from_instant(instant, &zone).unwrap();
        let kept = LocalTime::as_written(plain(&text_of(local)));
        prop_assert_eq!(kept.civil, local.civil);
        let (earliest, latest) = kept.possible_instants(&zone);
        prop_assert!(earliest == instant || latest == instant);
        prop_assert!(latest - earliest <= 24 * 3600);
    }

    #[test]
    fn never_panics(text in any::<String>(), digits in "[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}([Z+-][0-9:]{0,5})?") {
        let zone = zone("Asia/Shanghai");
        ParsedTime::parse(&text, &zone);
        if let Some(written) = ParsedTime::parse(&digits, &zone) {
            is_plus_eight(&zone, [written; 2]);
        }
        parse_zone(&text);
        parse_zone(&format!("GMT{text}"));
    }
}
