//! The normalization table around changes to daylight saving time, and for zones that are +08:00 in
//! some years only.

use crate::recording::{
    BERLIN_LOCAL, BERLIN_UTC, GMT8, NEW_YORK, Out, Row, SINGAPORE, all_zones, check,
};
use crate::support::{BERLIN, SHANGHAI};

use Out::{Refused, Same, Times};

/// A zone counts as GMT+8 only if its offset was +08:00 throughout the calendar years of the
/// window.
#[tokio::test]
async fn a_zone_is_plus_eight_in_some_years_only() {
    let env = all_zones().await;
    let mandatory = Refused("0300006", "mandatory outside GMT+8");
    let (begin, end) = ("1988-12-20 10:00:00", "1988-12-20 11:00:00");
    check(
        &env,
        &[
            (SHANGHAI, false, begin, end, mandatory),
            (SHANGHAI, true, begin, end, Same),
            (
                GMT8,
                false,
                begin,
                end,
                Times("1988-12-20 18:00:00", "1988-12-20 19:00:00"),
            ),
            (
                SHANGHAI,
                false,
                "1991-12-31 23:00:00",
                "1992-01-01 01:00:00",
                mandatory,
            ),
            (
                SHANGHAI,
                false,
                "1992-01-01 10:00:00",
                "1992-01-01 11:00:00",
                Times("1992-01-01 18:00:00", "1992-01-01 19:00:00"),
            ),
            (
                SINGAPORE,
                false,
                "1981-06-01 10:00:00",
                "1981-06-01 11:00:00",
                mandatory,
            ),
        ],
    )
    .await;
}

/// Transitions. Berlin: 27 March and 30 October 2022 at 01:00 UTC. New York: 13 March at 07:00 and
/// 6 November 2022 at 06:00 UTC.
#[tokio::test]
async fn transitions_of_daylight_saving_time() {
    let rows = [
        (
            BERLIN_UTC,
            "03-27 00:30:00",
            "03-27 01:30:00",
            Times("2022-03-27 01:30:00", "2022-03-27 03:30:00"),
        ),
        (
            NEW_YORK,
            "11-06 05:00:00",
            "11-06 07:30:00",
            Times("2022-11-06 01:00:00", "2022-11-06 02:30:00"),
        ),
        // A local time inside the gap is accepted.
        (BERLIN, "03-27 02:30:00", "03-27 03:30:00", Same),
        (
            BERLIN_LOCAL,
            "03-27 02:30:00",
            "03-27 02:40:00",
            Times("2022-03-27 02:30:00", "2022-03-27 02:40:00"),
        ),
    ];
    check_2022(&rows).await;
}

/// Three days by wall clock, or by elapsed time, are within the limit.
#[tokio::test]
async fn three_days_across_a_transition() {
    let too_long = Refused("0300004", "three days");
    let rows = [
        (
            BERLIN_UTC,
            "03-26 12:00:00",
            "03-29 12:00:00",
            Times("2022-03-26 13:00:00", "2022-03-29 14:00:00"),
        ),
        (BERLIN_UTC, "03-26 12:00:00", "03-29 12:00:01", too_long),
        (
            BERLIN_UTC,
            "10-29 12:00:00",
            "11-01 12:00:00",
            Times("2022-10-29 14:00:00", "2022-11-01 13:00:00"),
        ),
        (
            BERLIN_UTC,
            "10-29 12:00:00",
            "11-01 13:00:00",
            Times("2022-10-29 14:00:00", "2022-11-01 14:00:00"),
        ),
        (BERLIN_UTC, "10-29 12:00:00", "11-01 13:00:01", too_long),
        (BERLIN, "10-29 12:00:00", "11-01 12:00:00", Same),
        (BERLIN, "10-29 12:00:00", "11-01 12:00:01", too_long),
        (BERLIN, "03-26 12:00:00", "03-29 13:00:00", Same),
        (BERLIN, "03-26 12:00:00", "03-29 13:00:01", too_long),
    ];
    check_2022(&rows).await;
}

#[tokio::test]
async fn a_window_across_the_repeated_hour() {
    let explained = Refused("0300013", "clocks");
    let rows = [
        (BERLIN_UTC, "10-30 00:30:00", "10-30 01:10:00", explained),
        (
            BERLIN,
            "10-30T02:30:00+02:00",
            "10-30T02:10:00+01:00",
            explained,
        ),
        (NEW_YORK, "11-06 05:30:00", "11-06 06:10:00", explained),
        (
            BERLIN,
            "10-30 02:30:00",
            "10-30 02:10:00",
            Refused("0300013", "later than endTime"),
        ),
    ];
    check_2022(&rows).await;
}

/// Checks rows of the year 2022. Berlin sends version 2.0, the other tenants send none.
async fn check_2022(rows: &[(&'static str, &str, &str, Out)]) {
    let times: Vec<_> = rows
        .iter()
        .map(|(_, begin, end, _)| (format!("2022-{begin}"), format!("2022-{end}")))
        .collect();
    let rows: Vec<Row<'_>> = rows
        .iter()
        .zip(&times)
        .map(|(&(ak, _, _, out), (begin, end))| (ak, ak == BERLIN, &**begin, &**end, out))
        .collect();
    check(&all_zones().await, &rows).await;
}

#[tokio::test]
async fn a_time_with_offset_has_exactly_one_form() {
    let env = all_zones().await;
    let begin = Refused("0300004", "beginTime");
    let mut rows = Vec::new();
    for wrong in [
        "2022-01-02T10:00:00",
        "2022-01-02 10:00:00Z",
        "2022-01-02 10:00:00+08:00",
        "2022-01-02t10:00:00Z",
        "2022-01-02T10:00:00z",
        "2022-01-02T10:00:00.0Z",
        "2022-01-02T10:00:00+0800",
        "2022-01-02T10:00:00+08",
        "2022-01-02T10:00:00+24:00",
        "2022-01-02T10:00:00+08:60",
        "2022-01-02T10:00Z",
        "2022-02-30T10:00:00Z",
        "2022-01-02T24:00:00Z",
        "2022-01-02T23:59:60Z",
        "0001-01-01T00:00:00+14:00",
        "0000-06-01T00:00:00Z",
    ] {
        rows.push((SHANGHAI, true, wrong, "2022-01-02 12:00:00", begin));
    }
    // Within years 0001 to 9999 as written, but not after conversion.
    let (early, late) = ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z");
    rows.push((NEW_YORK, true, early, early, begin));
    rows.push((
        SHANGHAI,
        true,
        "9999-12-31 12:00:00",
        late,
        Refused("0300004", "endTime"),
    ));
    let plain = ("0001-01-01 00:00:00", "9999-12-31 23:00:00");
    rows.push((NEW_YORK, false, plain.0, plain.0, begin));
    rows.push((
        GMT8,
        false,
        "9999-12-31 12:00:00",
        plain.1,
        Refused("0300004", "endTime"),
    ));
    rows.push((SHANGHAI, true, plain.0, plain.0, Same));
    check(&env, &rows).await;
}
