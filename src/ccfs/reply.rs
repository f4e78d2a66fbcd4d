//! Reading a node's JSON answer, and writing our own in the same shape.

use bytes::Bytes;
use compact_str::CompactString;
use jiff::Timestamp;
use memchr::{memchr_iter, memchr3_iter};

use super::json::{Object, write_string};
use crate::ccfs::presigned_url;

/// A whole JSON answer of CC-FS: one JSON object, nothing behind it.
///
/// An answer that readers may understand differently (a member twice, half a surrogate pair) is one,
/// but nothing in it is believed: no result code, no expiry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParsedResponse {
    /// `resultCode`, if it is a string.
    pub result_code: Option<CompactString>,
    /// The earliest expiry of the URLs in `resultData`; `None` if there is no URL or any of them has
    /// no readable expiry.
    pub expires_at: Option<Timestamp>,
}

/// What a result code says about the node and the request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResultKind {
    /// 0300008 or 0300009: nothing was done; another node may be tried.
    FlowControlled,
    /// 0300012: no data (yet).
    NoData,
    /// Anything else.
    Other,
}

impl ParsedResponse {
    /// Reads an answer; `None` if it is not exactly one JSON object in UTF-8, nested at most 128 deep.
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

    /// What the result code says.
    pub fn result_kind(&self) -> ResultKind {
        match self.result_code.as_deref() {
            Some("0300008" | "0300009") => ResultKind::FlowControlled,
            Some("0300012") => ResultKind::NoData,
            _ => ResultKind::Other,
        }
    }

    /// Is the result code one of those that mean success?
    pub fn is_success(&self, codes: &[String]) -> bool {
        self.result_code
            .as_ref()
            .is_some_and(|code| codes.iter().any(|one| code == one))
    }
}

/// The CC-FS envelope of an answer that we make ourselves.
pub fn envelope(code: &str, text: &str) -> Bytes {
    let mut json = String::with_capacity(64 + code.len() + text.len());
    json.push_str(r#"{"resultData":null,"resultCode":"#);
    write_string(&mut json, code);
    json.push_str(r#","resultDesc":"#);
    write_string(&mut json, text);
    json.push('}');
    json.into()
}

/// The earliest expiry of all URLs in a value. How several URLs are packed is not documented: an
/// array, numbered members and one text with any of the usual separators are all read, because the
/// canonical text of the value is searched as a whole. What looks like a URL and cannot be read makes
/// all of it unreadable.
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

/// Where the first `://` is.
fn find_scheme_end(text: &[u8]) -> Option<usize> {
    memchr_iter(b':', text).find(|&at| is_scheme_end(text, at))
}

fn is_scheme_end(text: &[u8], at: usize) -> bool {
    text.get(at..at + 3) == Some(b"://")
}

/// Where the scheme before `://` begins, if it is one whose URLs can be read.
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

/// Where the URL that `text` begins with ends, whose own `://` ends at `own`: at the end of its string,
/// at a blank, at the next URL.
/// A comma, semicolon or pipe belongs to it unless nothing but the next URL or the end follows.
/// `None` if it holds what may be a URL of another scheme.
fn url_length(text: &str, own: usize) -> Option<usize> {
    // In a canonical text, quotation marks, backslashes and control characters of a string begin
    // with a backslash.
    let behind = text.get(own..)?;
    let bytes = behind.as_bytes();
    // Looks no further than the next URL, so that thousands of them cost no more than their length.
    let stop = memchr3_iter(b'"', b'\\', b':', bytes)
        .find(|&at| bytes.get(at) != Some(&b':') || is_scheme_end(bytes, at))
        .unwrap_or(bytes.len());
    let run = behind.get(..stop)?;
    // Nearly always without a blank; without a way out, many bytes are looked at at a time.
    let graphic = run
        .bytes()
        .fold(true, |all, it| all & it.is_ascii_graphic());
    let blank = if graphic {
        None
    } else {
        run.find(char::is_whitespace)
    };
    let end = match blank {
        Some(blank) => own + blank,
        None if is_scheme_end(bytes, stop) => scheme_start(text, own + stop)?,
        None => own + stop,
    };
    Some(text.get(..end)?.trim_end_matches([',', ';', '|']).len())
}

#[cfg(test)]
mod tests;
