//! Parses a node's JSON response, and makes the gateway's own in the same shape.

mod recordings;

use bytes::Bytes;
use compact_str::CompactString;
use jiff::Timestamp;
use memchr::{memchr_iter, memchr3_iter};

use super::json::{Object, write_string};
use crate::ccfs::presigned_url;
pub use recordings::all_recording_urls;

/// What the gateway reads from a JSON response of CC-FS, which is one JSON object.
///
/// A response that parsers may read differently (a duplicate member, a lone surrogate) counts as one, but
/// without result code and expiry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParsedResponse {
    /// `resultCode`, if it is a string.
    pub result_code: Option<CompactString>,
    /// The earliest expiry of the URLs in `resultData`; `None` if there is no URL or one of them has no
    /// readable expiry.
    pub expires_at: Option<Timestamp>,
}

/// "No data found" (error code reference, page 4240 / 0835).
pub const NO_DATA: &str = "0300012";

/// The resultCode that says that there is no such file.
pub const FILE_NOT_FOUND: &str = "0300011";

/// The class of a result code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResultKind {
    /// 0300008 or 0300009: the node did nothing, so another node may be tried.
    FlowControlled,
    /// 0300012: no data yet.
    NoData,
    /// Any other.
    Other,
}

impl ParsedResponse {
    /// Parses a response; `None` if it is not exactly one JSON object in UTF-8, nested at most 128 deep.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let object = Object::lenient(body).ok()?;
        if object.is_ambiguous() {
            return Some(Self {
                result_code: None,
                expires_at: None,
            });
        }
        let code = object.member("resultCode");
        let data = object.member("resultData");
        Some(Self {
            result_code: code.and_then(|it| object.text(&it).map(Into::into)),
            expires_at: data.and_then(|it| earliest_expiry(object.value(&it))),
        })
    }

    /// Returns the class of the result code.
    pub fn result_kind(&self) -> ResultKind {
        match self.result_code.as_deref() {
            Some("0300008" | "0300009") => ResultKind::FlowControlled,
            Some(NO_DATA) => ResultKind::NoData,
            _ => ResultKind::Other,
        }
    }

    /// Whether the result code is one of those that mean success.
    pub fn is_success(&self, codes: &[String]) -> bool {
        self.result_code
            .as_ref()
            .is_some_and(|code| codes.iter().any(|one| code == one))
    }
}

/// Returns the CC-FS envelope of a response that the gateway makes itself.
pub fn envelope(code: &str, text: &str) -> Bytes {
    let mut json = String::with_capacity(64 + code.len() + text.len());
    json.push_str(r#"{"resultData":null,"resultCode":"#);
    write_string(&mut json, code);
    json.push_str(r#","resultDesc":"#);
    write_string(&mut json, text);
    json.push('}');
    json.into()
}

/// Returns the earliest expiry of all URLs in a value. How several URLs are packed is not documented, so the
/// whole canonical text is searched: an array, numbered members and one string with any of the usual
/// separators are all read. A URL without a readable expiry makes the result `None`.
fn earliest_expiry(canonical: &str) -> Option<Timestamp> {
    let mut earliest: Option<Timestamp> = None;
    for url in (Urls { canonical }) {
        let expiry = presigned_url::expires_at(url?)?;
        earliest = Some(earliest.map_or(expiry, |other| other.min(expiry)));
    }
    earliest
}

/// Returns the URLs in the `resultData` of a response, split as for its expiry, each with its own expiry.
/// Ends before text that looks like a URL and cannot be read; empty for an ambiguous body.
pub fn recording_urls(body: &[u8]) -> Vec<(String, Option<Timestamp>)> {
    let Ok(object) = Object::lenient(body) else {
        return Vec::new();
    };
    let data = object.member("resultData");
    let Some(data) = data.filter(|_| !object.is_ambiguous()) else {
        return Vec::new();
    };
    let canonical = object.value(&data);
    Urls { canonical }
        .map_while(|url| url)
        .map(|url| (url.to_owned(), presigned_url::expires_at(url)))
        .collect()
}

/// Iterates over the URLs in canonical JSON. Yields `None` for text that looks like a URL and cannot be
/// read.
struct Urls<'a> {
    canonical: &'a str,
}

impl<'a> Iterator for Urls<'a> {
    type Item = Option<&'a str>;

    fn next(&mut self) -> Option<Self::Item> {
        let scheme_end = find_scheme_end(self.canonical.as_bytes())?;
        let split = || {
            let start = scheme_start(self.canonical, scheme_end)?;
            let (_, url) = self.canonical.split_at_checked(start)?;
            url.split_at_checked(url_length(url, scheme_end - start + 3)?)
        };
        let (url, remaining) = split().unzip();
        // After unreadable text the boundaries of later URLs are unknown.
        self.canonical = remaining.unwrap_or_default();
        Some(url)
    }
}

/// Returns the position of the first `://`.
fn find_scheme_end(text: &[u8]) -> Option<usize> {
    memchr_iter(b':', text).find(|&at| is_scheme_end(text, at))
}

fn is_scheme_end(text: &[u8], at: usize) -> bool {
    text.get(at..at + 3) == Some(b"://")
}

/// Returns the start of the scheme before `://`, if it is http or https.
fn scheme_start(text: &str, scheme_end: usize) -> Option<usize> {
    let before = text.as_bytes().get(..scheme_end)?;
    ["https", "http"].iter().find_map(|scheme| {
        let start = scheme_end.checked_sub(scheme.len())?;
        before
            .get(start..)?
            .eq_ignore_ascii_case(scheme.as_bytes())
            .then_some(start)
    })
}

/// Returns the length of the URL at the start of `text`, whose own `://` ends at `own`. It ends at the end of
/// its string, at whitespace or at the next URL. A comma, semicolon or pipe belongs to it unless only the
/// next URL or the end follows. `None` if it contains what may be a URL of another scheme.
fn url_length(text: &str, own: usize) -> Option<usize> {
    // In canonical text, a backslash precedes the quotation marks, backslashes and control characters of
    // a string.
    let after = text.get(own..)?;
    let bytes = after.as_bytes();
    // Stops at the next URL, so that thousands of them take linear time.
    let stop = memchr3_iter(b'"', b'\\', b':', bytes)
        .find(|&at| bytes.get(at) != Some(&b':') || is_scheme_end(bytes, at))
        .unwrap_or(bytes.len());
    let run = after.get(..stop)?;
    // Nearly always true; without an early exit the compiler vectorizes the loop.
    let is_graphic = run
        .bytes()
        .fold(true, |all, it| all & it.is_ascii_graphic());
    let whitespace = if is_graphic {
        None
    } else {
        run.find(char::is_whitespace)
    };
    let end = match whitespace {
        Some(whitespace) => own + whitespace,
        None if is_scheme_end(bytes, stop) => scheme_start(text, own + stop)?,
        None => own + stop,
    };
    Some(text.get(..end)?.trim_end_matches([',', ';', '|']).len())
}

#[cfg(test)]
mod tests;
