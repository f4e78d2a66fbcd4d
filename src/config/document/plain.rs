//! Reads a file of access keys in its plain form: `[access_keys.AK]` tables of bare names, with one
//! `key = value` a line, valid values, and no escapes. Such a file can have a hundred thousand tables,
//! which take a fraction of the time of a general parser. Whatever is not plain, mistakes included, is
//! left to that parser, so that there is one source of messages.

use std::ops::Range;

use crate::config::diagnostics::Diagnostics;
use crate::config::file::{AccessKey, AccessKeysFile, ByName, OneOrMany, Rate, Versionless};
use crate::config::spanned::Spanned;
use crate::config::units::ConfigTime;

/// Returns what the TOML parser and the structure check would return, with the same spans; `None` if the
/// text is not in the plain form.
pub(super) fn read(text: &str, diagnostics: &mut Diagnostics) -> Option<AccessKeysFile> {
    let mut reader = PlainReader {
        text,
        at: 0,
        secret_spans: Vec::new(),
    };
    let access_keys = reader.tables()?;
    diagnostics.secret_spans.append(&mut reader.secret_spans);
    Some(AccessKeysFile { access_keys })
}

/// A position in the text. Each method returns `None` for what is not plain.
struct PlainReader<'a> {
    text: &'a str,
    at: usize,
    /// The values of `secret_key`, with their quotes.
    secret_spans: Vec<Range<usize>>,
}

impl<'a> PlainReader<'a> {
    fn tables(&mut self) -> Option<ByName<AccessKey>> {
        let mut tables: Vec<(Spanned<String>, AccessKey)> = Vec::new();
        loop {
            self.skip_blanks();
            match self.peek() {
                None => break,
                Some(b'\n' | b'\r' | b'#') => {}
                Some(b'[') => tables.push((self.header()?, AccessKey::default())),
                Some(_) => {
                    let (_, table) = tables.last_mut()?;
                    self.key_and_value(table)?;
                }
            }
            self.line_end()?;
        }
        let count = tables.len();
        let tables: ByName<AccessKey> = tables.into_iter().collect();
        // A table that is there twice is a mistake.
        (tables.len() == count).then_some(tables)
    }

    /// Reads `[access_keys.AK]`.
    fn header(&mut self) -> Option<Spanned<String>> {
        self.expect("[access_keys.")?;
        let span = self.word()?;
        self.expect("]")?;
        Some(Spanned {
            value: self.text.get(span.clone())?.to_owned(),
            span,
        })
    }

    fn key_and_value(&mut self, table: &mut AccessKey) -> Option<()> {
        let key = self.word()?;
        let key = self.text.get(key)?;
        self.skip_blanks();
        self.expect("=")?;
        self.skip_blanks();
        match key {
            "secret_key" => {
                let value = self.one_or_many(true)?;
                set(&mut table.secret_key, value)
            }
            "secret_key_file" => set(&mut table.secret_key_file, self.one_or_many(false)?),
            "secret_key_env" => set(&mut table.secret_key_env, self.one_or_many(false)?),
            "time_zone" => set(&mut table.time_zone, self.owned_string()?),
            "plan" => set(&mut table.plan, self.owned_string()?),
            "name" => set(&mut table.name, self.owned_string()?),
            "versionless" => set(&mut table.versionless, self.versionless()?),
            "rate_limit" => set(&mut table.rate_limit, self.rate()?),
            "ceiling" => set(&mut table.ceiling, self.rate()?),
            "in_flight" => {
                let (number, span) = self.number()?;
                let value = usize::try_from(number).ok()?;
                set(&mut table.in_flight, Spanned { value, span })
            }
            "enabled" => set(&mut table.enabled, self.boolean()?),
            "not_before" => set(&mut table.not_before, self.time()?),
            "not_after" => set(&mut table.not_after, self.time()?),
            _ => None,
        }
    }

    /// Reads a string, or a list of one or two.
    fn one_or_many(&mut self, is_secret: bool) -> Option<Spanned<OneOrMany>> {
        let start = self.at;
        let mut spans = Vec::new();
        let value = if self.peek() == Some(b'[') {
            self.at += 1;
            let mut texts = Vec::with_capacity(2);
            loop {
                self.skip_blanks();
                let (text, span) = self.string()?;
                texts.push(text.to_owned());
                spans.push(span);
                self.skip_blanks();
                match (self.next()?, texts.len()) {
                    (b']', _) => break,
                    (b',', 1) => {}
                    _ => return None,
                }
            }
            OneOrMany::Many(texts)
        } else {
            OneOrMany::One(self.string()?.0.to_owned())
        };
        let span = start..self.at;
        if is_secret {
            self.secret_spans.push(span.clone());
            self.secret_spans.append(&mut spans);
        }
        Some(Spanned { value, span })
    }

    fn owned_string(&mut self) -> Option<Spanned<String>> {
        let (text, span) = self.string()?;
        let value = text.to_owned();
        Some(Spanned { value, span })
    }

    fn versionless(&mut self) -> Option<Spanned<Versionless>> {
        let (text, span) = self.string()?;
        let value = match text {
            "local" => Versionless::Local,
            "reject" => Versionless::Reject,
            "utc" => Versionless::Utc,
            _ => return None,
        };
        Some(Spanned { value, span })
    }

    fn boolean(&mut self) -> Option<Spanned<bool>> {
        let span = self.word()?;
        let value = match self.text.get(span.clone())? {
            "true" => true,
            "false" => false,
            _ => return None,
        };
        Some(Spanned { value, span })
    }

    /// Reads a date-time with an offset, or the same in quotes.
    fn time(&mut self) -> Option<Spanned<ConfigTime>> {
        let (text, span) = if self.peek() == Some(b'"') {
            self.string()?
        } else {
            let start = self.at;
            let is_part = |byte: u8| byte.is_ascii_digit() || b"-:+TZ".contains(&byte);
            self.skip_while(is_part);
            (self.text.get(start..self.at)?, start..self.at)
        };
        let value = is_plain_time(text).then(|| ConfigTime::parse(text))??;
        Some(Spanned { value, span })
    }

    /// Reads `{ per_second = 50, burst = 100 }`.
    fn rate(&mut self) -> Option<Spanned<Rate>> {
        let start = self.at;
        let mut value = Rate {
            per_second: None,
            per_minute: None,
            per_hour: None,
            burst: None,
        };
        self.expect("{")?;
        loop {
            self.skip_blanks();
            let key = self.word()?;
            let slot = match self.text.get(key)? {
                "per_second" => &mut value.per_second,
                "per_minute" => &mut value.per_minute,
                "per_hour" => &mut value.per_hour,
                "burst" => &mut value.burst,
                _ => return None,
            };
            self.skip_blanks();
            self.expect("=")?;
            self.skip_blanks();
            set(slot, self.number()?.0)?;
            self.skip_blanks();
            match self.next()? {
                b'}' => break,
                b',' => {}
                _ => return None,
            }
        }
        let span = start..self.at;
        Some(Spanned { value, span })
    }

    /// Reads a number from 1 to [`MAX_NUMBER`], which is the range of every number of an access key.
    fn number(&mut self) -> Option<(u32, Range<usize>)> {
        let start = self.at;
        self.skip_while(|byte| byte.is_ascii_digit());
        let digits = self.text.get(start..self.at)?;
        let number = digits.parse().ok()?;
        let is_plain = !digits.starts_with('0') && number <= MAX_NUMBER;
        is_plain.then_some((number, start..self.at))
    }

    /// Reads a string in double quotes without escapes; its span has the quotes.
    fn string(&mut self) -> Option<(&'a str, Range<usize>)> {
        let start = self.at;
        self.expect("\"")?;
        self.skip_while(|byte| byte >= b' ' && !b"\"\\\x7f".contains(&byte));
        let text = self.text.get(start + 1..self.at)?;
        self.expect("\"")?;
        // Two quotes can begin a text of several lines. A URL can hold a password, which is a mistake.
        let is_plain = !text.is_empty() && !text.contains("://");
        is_plain.then_some((text, start..self.at))
    }

    /// Reads a bare key.
    fn word(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        self.skip_while(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        (self.at > start).then_some(start..self.at)
    }

    /// Reads what may follow on a line: blanks, a comment, the end of the line or of the text.
    fn line_end(&mut self) -> Option<()> {
        self.skip_blanks();
        if self.peek() == Some(b'#') {
            self.skip_while(|byte| byte == b'\t' || byte >= b' ' && byte != 0x7f);
        }
        if self.peek() == Some(b'\r') {
            self.at += 1;
            return self.expect("\n");
        }
        match self.peek() {
            None => Some(()),
            Some(_) => self.expect("\n"),
        }
    }

    fn skip_blanks(&mut self) {
        self.skip_while(|byte| byte == b' ' || byte == b'\t');
    }

    fn skip_while(&mut self, is_skipped: impl Fn(u8) -> bool) {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|byte| !is_skipped(*byte));
        self.at += end.unwrap_or(rest.len());
    }

    fn expect(&mut self, text: &str) -> Option<()> {
        let rest = self.text.as_bytes().get(self.at..)?;
        rest.starts_with(text.as_bytes())
            .then(|| self.at += text.len())
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }
}

/// Sets the value of a key; a second one is a mistake.
fn set<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.is_none().then(|| *slot = Some(value))
}

/// Whether a text is `2026-12-31T23:59:59` and `Z` or an offset, without a leap second.
fn is_plain_time(text: &str) -> bool {
    let form = match text.len() {
        20 => "0000-00-00T00:00:00Z",
        25 if text.as_bytes().get(19) == Some(&b'-') => "0000-00-00T00:00:00-00:00",
        25 => "0000-00-00T00:00:00+00:00",
        _ => return false,
    };
    let mut pairs = text.bytes().zip(form.bytes());
    pairs.all(|(byte, form)| match form {
        b'0' => byte.is_ascii_digit(),
        _ => byte == form,
    }) && text.get(17..19) != Some("60")
}

/// The largest rate, burst and `in_flight`, as the types of the file say.
const MAX_NUMBER: u32 = 1_000_000;

#[cfg(test)]
mod tests;
