//! The URLs of the recordings of a response, in the order in which links number them.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Object, Urls, write_string};
use crate::ccfs::presigned_url;

/// The URL of a recording, with its own expiry.
type RecordingUrl = (String, Option<Timestamp>);

/// Returns the URLs of the recordings in the `resultData` of a response; `None` if they cannot be told apart.
///
/// Several are in the order of an array, of a text, or of numbered members (`url`, `url2`, … `url10`). Next to members
/// of the name `url`, with a number or without, no other one counts; without them the URLs stand in one member, or in
/// members that differ in their numbers alone. What is in a name is no URL.
pub fn all_recording_urls(body: &[u8]) -> Option<Vec<RecordingUrl>> {
    let object = Object::lenient(body).ok()?;
    of_value(&member(&object, "resultData")?)
}

/// Returns the value of a member; `None` if parsers may read the object differently.
fn member(object: &Object<'_>, name: &str) -> Option<Value> {
    let member = object.member(name).filter(|_| !object.is_ambiguous())?;
    serde_json::from_str(object.value(&member)).ok()
}

fn of_value(value: &Value) -> Option<Vec<RecordingUrl>> {
    match value {
        Value::String(text) => of_text(text),
        Value::Array(items) => {
            let lists: Option<Vec<_>> = items.iter().map(of_value).collect();
            Some(lists?.concat())
        }
        Value::Object(members) => of_members(members),
        Value::Null | Value::Bool(_) | Value::Number(_) => Some(Vec::new()),
    }
}

fn of_members(members: &Map<String, Value>) -> Option<Vec<RecordingUrl>> {
    // A member with unreadable URLs counts as well: it may not be passed over.
    let mut holders: Vec<_> = members
        .iter()
        .map(|(name, value)| (Name::split(name), of_value(value)))
        .filter(|(_, urls)| urls.as_ref().is_none_or(|urls| !urls.is_empty()))
        .collect();
    if holders.iter().any(|(name, _)| name.stem == "url") {
        holders.retain(|(name, _)| name.stem == "url");
    }
    holders.sort_by_key(|(name, _)| name.number);
    let are_told_apart = holders
        .iter()
        .zip(holders.iter().skip(1))
        .all(|((a, _), (b, _))| a.stem == b.stem && a.number < b.number);
    if !are_told_apart {
        return None;
    }
    let lists: Option<Vec<_>> = holders.into_iter().map(|(_, urls)| urls).collect();
    Some(lists?.concat())
}

/// The name of a member, split before a number at its end.
struct Name<'a> {
    stem: &'a str,
    /// `None` without a number, which is before all numbers.
    number: Option<u64>,
}

impl<'a> Name<'a> {
    fn split(name: &'a str) -> Self {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        match name.strip_prefix(stem).unwrap_or_default() {
            "" => Self { stem, number: None },
            // A number that cannot be read is a part of the name.
            digits => digits.parse().map_or(
                Self {
                    stem: name,
                    number: None,
                },
                |number| Self {
                    stem,
                    number: Some(number),
                },
            ),
        }
    }
}

/// Returns the URLs in a string: of JSON in it, else one after the other.
fn of_text(text: &str) -> Option<Vec<RecordingUrl>> {
    if text.trim_start().starts_with(['[', '{']) {
        let wrapped = format!(r#"{{"json":{text}}}"#);
        match Object::lenient(wrapped.as_bytes()) {
            Ok(object) if object.members().len() == 1 => {
                return of_value(&member(&object, "json")?);
            }
            _ => {}
        }
    }
    let mut canonical = String::with_capacity(text.len() + 2);
    write_string(&mut canonical, text);
    let mut rest = canonical.as_str();
    let mut urls = Vec::new();
    let mut found = Urls { canonical: rest };
    while let Some(url) = found.next() {
        let url = url?;
        // The first one in the text: an earlier one would have been found before.
        let (before, _) = rest.split_once(url)?;
        if !before.ends_with(is_before_url) && !SPACE_ESCAPES.iter().any(|it| before.ends_with(it))
        {
            return None;
        }
        urls.push((url.to_owned(), presigned_url::expires_at(url)));
        rest = found.canonical;
    }
    Some(urls)
}

/// Whether a URL can begin after a character. After another one it is a part of something else, such as the query of
/// another URL.
fn is_before_url(c: char) -> bool {
    matches!(c, '"' | ',' | ';' | '|') || c.is_whitespace()
}

/// How canonical text writes line breaks and tabs.
const SPACE_ESCAPES: [&str; 3] = ["\\n", "\\r", "\\t"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(data: &Value) -> Option<Vec<String>> {
        let body = json!({ "resultCode": "0", "resultData": data }).to_string();
        let urls = all_recording_urls(body.as_bytes())?;
        Some(urls.into_iter().map(|(url, _)| url).collect())
    }

    fn url(number: u32) -> String {
        format!("https://a/{number}?Expires=9")
    }

    #[test]
    fn numbered_members_are_in_the_order_of_their_numbers() {
        let numbered = |stem: &str, first: &str| {
            let names = (2..=11).map(|number| (format!("{stem}{number}"), url(number).into()));
            let first = std::iter::once((first.to_owned(), url(1).into()));
            Value::Object(names.rev().chain(first).collect())
        };
        let expected: Vec<_> = (1..=11).map(url).collect();
        for data in [
            numbered("url", "url"),
            numbered("url", "url1"),
            numbered("recordUrl", "recordUrl01"),
            json!([numbered("url", "url")]),
        ] {
            assert_eq!(read(&data).as_ref(), Some(&expected), "{data}");
        }
    }

    #[test]
    fn the_member_url_is_the_recording_whatever_stands_beside_it() {
        for beside in ["callback", "thumbUrl", "a", "zUrl2"] {
            for other in [
                json!(url(7)),
                json!("javascript://x"),
                json!([url(7), url(8)]),
            ] {
                let data = json!({ beside: other, "url": url(1) });
                assert_eq!(read(&data), Some(vec![url(1)]), "{data}");
            }
        }
        let list = json!({ "list": [
            { "url": url(2), "begin": "2", "thumb": url(7) },
            { "url": url(1), "begin": "1", "thumb": url(8) },
        ]});
        assert_eq!(read(&list), Some(vec![url(2), url(1)]));
    }

    #[test]
    fn json_in_a_text_is_read_as_json() {
        let text = |data: Value| json!({ "url": data.to_string() });
        let urls = json!({ "url10": url(10), "url9": url(9), "callback": url(7) });
        assert_eq!(read(&text(urls)), Some(vec![url(9), url(10)]));
        assert_eq!(
            read(&text(json!([url(2), url(1)]))),
            Some(vec![url(2), url(1)])
        );
        let doubtful = json!({ "url": format!(r#"{{"url":"{0}","url":"{0}"}}"#, url(1)) });
        assert_eq!(read(&doubtful), None);
        let list = json!({ "url": format!("[{}, {}]", url(2), url(1)) });
        assert_eq!(read(&list), None, "a bracket is no separator");
    }

    #[test]
    fn a_name_holds_no_url() {
        let name = url(7);
        assert_eq!(
            read(&json!({ &name: "x", "url": url(1) })),
            Some(vec![url(1)])
        );
        assert_eq!(
            read(&json!({ &name: "x", "obs": url(1) })),
            Some(vec![url(1)])
        );
        assert_eq!(read(&json!({ &name: "x" })), Some(Vec::new()));
    }

    #[test]
    fn urls_of_different_members_cannot_be_told_apart() {
        for data in [
            json!({ "thumbUrl": url(1), "callback": url(2) }),
            json!({ "thumbUrl": url(1), "obsUrl2": url(2) }),
            json!({ "url1": url(1), "url01": url(2) }),
            json!({ "a": url(1), "b": "javascript://x" }),
            json!({ "url": { "a": url(1), "b": url(2) } }),
            json!({ "url": url(1), "url2": "ftp://a/2" }),
            json!([url(1), { "a": url(1), "b": url(2) }]),
        ] {
            assert_eq!(read(&data), None, "{data}");
        }
        let one = json!({ "obsUrl": url(1), "callback": "none", "n": 1 });
        assert_eq!(read(&one), Some(vec![url(1)]));
        assert_eq!(read(&json!({ "n": [null, true, 1.5] })), Some(Vec::new()));
    }
}
