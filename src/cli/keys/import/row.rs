//! One account of a spreadsheet.

use std::fmt::Write;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use zeroize::Zeroizing;

use super::Note;
use crate::auth::AccessKey;
use crate::ccfs::parse_zone;
use crate::config::Period;
use crate::escape;

/// A column.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Column {
    Ak,
    Sk,
    Zone,
    Rate,
    Burst,
    Name,
    Plan,
    NotAfter,
}

impl Column {
    /// Returns the column of a header, in any case.
    pub(super) fn named(header: &str) -> Option<Self> {
        let header = trim(header).to_ascii_lowercase().replace([' ', '-'], "_");
        Some(match header.as_str() {
            "ak" | "access_key" => Self::Ak,
            "sk" | "secret_key" => Self::Sk,
            "zone" | "time_zone" => Self::Zone,
            "rate" => Self::Rate,
            "burst" => Self::Burst,
            "name" => Self::Name,
            "plan" => Self::Plan,
            "not_after" => Self::NotAfter,
            _ => return None,
        })
    }
}

/// Returns the number of a column, from 1; 0 if there is none.
pub(super) fn column_of(columns: &[Option<Column>], column: Column) -> usize {
    let index = columns.iter().position(|it| *it == Some(column));
    index.map_or(0, |index| index + 1)
}

/// Removes white space of any script, and what else spreadsheets put around a cell.
pub(super) fn trim(cell: &str) -> &str {
    cell.trim_matches(|c: char| c.is_whitespace() || "\u{feff}\u{200b}\u{a0}".contains(c))
}

/// One account. Not shown in `Debug`: it holds the secret.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct Row {
    access_key: String,
    secret: Zeroizing<String>,
    zone: Option<String>,
    rate: Option<(Period, u32)>,
    burst: Option<u32>,
    name: Option<String>,
    plan: Option<String>,
    not_after: Option<Timestamp>,
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Row(..)")
    }
}

/// The cells of a line, and its mistakes.
struct Cells<'a> {
    record: &'a csv::StringRecord,
    line: u64,
    columns: &'a [Option<Column>],
    errors: &'a mut Vec<Note>,
}

impl<'a> Cells<'a> {
    /// Returns a cell that is not empty.
    fn get(&self, column: Column) -> Option<&'a str> {
        let index = column_of(self.columns, column).checked_sub(1)?;
        let cell = trim(self.record.get(index)?);
        (!cell.is_empty()).then_some(cell)
    }

    fn error(&mut self, column: Column, message: &str, help: &'static str) {
        self.errors.push(Note {
            line: self.line,
            column: column_of(self.columns, column),
            message: message.to_owned(),
            help,
        });
    }

    /// Returns the value of a cell; a cell that cannot be read is a mistake.
    fn read<T>(
        &mut self,
        column: Column,
        read: impl Fn(&str) -> Option<T>,
        (message, help): (&str, &'static str),
    ) -> Option<T> {
        let cell = self.get(column)?;
        let value = read(cell);
        if value.is_none() {
            self.error(column, message, help);
        }
        value
    }
}

impl Row {
    /// Reads a line; `None` if it has mistakes, which are added to `errors`.
    pub(super) fn read(
        record: &csv::StringRecord,
        line: u64,
        columns: &[Option<Column>],
        errors: &mut Vec<Note>,
    ) -> Option<Self> {
        let before = errors.len();
        let mut cells = Cells {
            record,
            line,
            columns,
            errors,
        };
        for (index, cell) in record.iter().enumerate().skip(columns.len()) {
            if !trim(cell).is_empty() {
                cells.errors.push(Note {
                    line,
                    column: index + 1,
                    message: "more cells than columns".to_owned(),
                    help: "a cell that holds the separator must stand in quotes",
                });
                break;
            }
        }
        let row = Self::of(&mut cells);
        (errors.len() == before).then_some(row)
    }

    fn of(cells: &mut Cells<'_>) -> Self {
        check_credential(cells);
        let is_access_key = |cell: &str| {
            let is_legal = AccessKey::is_well_formed(cell) && !cell.contains([',', '=', '"']);
            is_legal.then(|| cell.to_owned())
        };
        let help = "must be 1 to 128 visible ASCII characters without / , = and quotes";
        let access_key = cells.read(Column::Ak, is_access_key, ("not an access key", help));
        let zone = cells.read(
            Column::Zone,
            |cell| parse_zone(cell).map(|zone| (cell.to_owned(), zone)),
            (
                "unknown time zone",
                "must be an IANA zone such as \"Asia/Shanghai\", or an offset such as \"GMT+8\"",
            ),
        );
        let rate = cells.read(
            Column::Rate,
            read_rate,
            ("not a rate", "must be 50, 50/s, 12/min or 500/h"),
        );
        let count = ("not a number", "must be a whole number from 1 to 1000000");
        let burst = cells.read(Column::Burst, read_count, count);
        if burst.is_some() && cells.get(Column::Rate).is_none() {
            cells.error(Column::Burst, "a burst without a rate", "needs a rate");
        }
        let is_name = |cell: &str| {
            let fits = cell.chars().count() <= 128 && !cell.contains(escape::is_unsafe);
            fits.then(|| cell.to_owned())
        };
        let help = "must be at most 128 characters without control characters";
        let name = cells.read(Column::Name, is_name, ("not a name", help));
        let plan = cells.read(Column::Plan, is_name, ("not the name of a plan", help));
        let own_zone = zone.as_ref().map(|(_, zone)| zone);
        let not_after = cells.read(
            Column::NotAfter,
            |cell| read_end(cell, own_zone),
            (
                "not a date",
                "must be 2026-12-31 (with a zone in the line), or 2026-12-31T23:59:59+08:00",
            ),
        );
        Self {
            access_key: access_key.unwrap_or_default(),
            secret: Zeroizing::new(cells.get(Column::Sk).unwrap_or_default().to_owned()),
            zone: zone.map(|(name, _)| name),
            rate,
            burst,
            name,
            plan,
            not_after,
        }
    }

    /// Returns the access key.
    pub(super) fn access_key(&self) -> &str {
        &self.access_key
    }

    /// Appends the table of the account.
    pub(super) fn write(&self, text: &mut String) {
        let quoted = |value: &str| toml::Value::String(value.to_owned()).to_string();
        let mut line = |key: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{key} = {value}");
        };
        let mut table = format!("[access_keys.{}]", quoted(&self.access_key));
        if self
            .access_key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        {
            table = format!("[access_keys.{}]", self.access_key);
        }
        let secret = Zeroizing::new(quoted(&self.secret));
        line("secret_key", &secret);
        for (key, value) in [
            ("time_zone", &self.zone),
            ("plan", &self.plan),
            ("name", &self.name),
        ] {
            if let Some(value) = value {
                line(key, &quoted(value));
            }
        }
        if let Some((period, requests)) = self.rate {
            let burst = self
                .burst
                .map_or_else(String::new, |burst| format!(", burst = {burst}"));
            line(
                "rate_limit",
                &format!("{{ {} = {requests}{burst} }}", period.key()),
            );
        }
        if let Some(end) = self.not_after {
            line("not_after", &end.to_string());
        }
        let start = text.rfind("secret_key = ").unwrap_or(text.len());
        text.insert_str(start, &format!("{table}\n"));
        text.push('\n');
    }
}

/// Checks that both parts of the credential are there.
fn check_credential(cells: &mut Cells<'_>) {
    for (column, message) in [(Column::Ak, "ak is empty"), (Column::Sk, "sk is empty")] {
        match cells.get(column) {
            None => cells.error(column, message, "each account needs both"),
            Some(cell) if is_shortened(cell) => cells.error(
                column,
                "a number that the spreadsheet has shortened",
                "format the column as text and enter the value again",
            ),
            Some(_) => {}
        }
    }
}

/// Whether a spreadsheet has made a rounded number of a long one, as in `2.79E+15`.
fn is_shortened(cell: &str) -> bool {
    let Some((digits, exponent)) = cell.split_once("E+") else {
        return false;
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number(&digits.replace('.', "")) && digits.contains('.') && is_number(exponent)
}

fn read_count(cell: &str) -> Option<u32> {
    let count: u32 = cell.replace([',', ' ', '_'], "").parse().ok()?;
    (1..=1_000_000).contains(&count).then_some(count)
}

fn read_rate(cell: &str) -> Option<(Period, u32)> {
    let (count, period) = cell.split_once('/').unwrap_or((cell, "s"));
    let period = match trim(period).to_ascii_lowercase().as_str() {
        "s" | "sec" | "second" => Period::Second,
        "m" | "min" | "minute" => Period::Minute,
        "h" | "hour" => Period::Hour,
        _ => return None,
    };
    Some((period, read_count(trim(count))?))
}

/// Reads the end of validity: a time with an offset, or the last day in the zone of the access key.
fn read_end(cell: &str, zone: Option<&TimeZone>) -> Option<Timestamp> {
    if let Ok(time) = cell.parse() {
        return Some(time);
    }
    let day: Date = match cell.parse() {
        Ok(day) => day,
        Err(_) => Date::strptime("%Y/%m/%d", cell).ok()?,
    };
    let next = day.checked_add(1.day()).ok()?;
    Some(next.to_zoned(zone?.clone()).ok()?.timestamp())
}
