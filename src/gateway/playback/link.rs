//! The target of a link: `/recordings/{callId}?begin=…&end=…[&n=2]`, and `/recordings/{callId}/ticket?…`.

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use super::super::rejection::Rejection;
use crate::auth::TicketScope;
use crate::telemetry::shown_path;

/// What a link asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Link {
    pub(super) call_id: String,
    begin: Option<String>,
    end: Option<String>,
    /// Which of several recordings, from 1; `None` is the first.
    number: Option<u32>,
    pub(super) ticket: Option<String>,
    /// Whether it asks for a ticket, not for the recording.
    pub(super) asks_for_ticket: bool,
}

impl Link {
    /// Parses a target that begins with [`PREFIX`].
    ///
    /// # Errors
    /// 404 for another path; 400 for a broken escape, for a query in the path, and for an unknown, repeated, too long
    /// or unreadable parameter.
    pub(super) fn parse(uri: &Uri) -> Result<Self, Rejection> {
        let rest = uri.path().strip_prefix(PREFIX).unwrap_or_default();
        let (call_id, asks_for_ticket) = match rest.split_once('/') {
            None => (rest, false),
            Some((call_id, "ticket")) => (call_id, true),
            Some(_) => return Err(NOT_A_LINK),
        };
        if call_id.is_empty() {
            return Err(NOT_A_LINK);
        }
        if shown_path(uri.path()) != uri.path() {
            return Err(Rejection::Malformed(
                "the query of a link is escaped into its path",
            ));
        }
        check_length(call_id)?;
        let mut link = Self {
            call_id: decode(call_id)?,
            begin: None,
            end: None,
            number: None,
            ticket: None,
            asks_for_ticket,
        };
        let query = uri.query().unwrap_or_default();
        for parameter in query.split('&').filter(|it| !it.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let name = decode(name)?;
            if name != "ticket" {
                check_length(value)?;
            }
            let value = decode(value)?;
            let is_new = match name.as_str() {
                "begin" => link.begin.replace(value).is_none(),
                "end" => link.end.replace(value).is_none(),
                "n" => link.number.replace(number(&value)?).is_none(),
                "ticket" if !asks_for_ticket => link.ticket.replace(value).is_none(),
                _ => return Err(Rejection::Malformed("an unknown parameter of a link")),
            };
            if !is_new {
                return Err(Rejection::Malformed("a repeated parameter of a link"));
            }
        }
        Ok(link)
    }

    /// Returns which recording it asks for, from 1.
    pub(super) fn number(&self) -> u32 {
        self.number.unwrap_or(1)
    }

    /// Returns what a ticket for it opens.
    pub(super) fn scope<'a>(&'a self, listener: &'a str) -> TicketScope<'a> {
        TicketScope {
            listener,
            call_id: &self.call_id,
            begin: self.begin.as_deref().unwrap_or_default(),
            end: self.end.as_deref().unwrap_or_default(),
            number: self.number(),
        }
    }

    /// Returns the body of the recording-URL request. With version 2.0, so that plain times are local to the
    /// tenant.
    pub(super) fn body(&self) -> Vec<u8> {
        let members = [
            ("callId", Some(&self.call_id)),
            ("beginTime", self.begin.as_ref()),
            ("endTime", self.end.as_ref()),
        ];
        let mut body: Map<String, Value> = members
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.clone().into())))
            .collect();
        body.insert("version".to_owned(), "2.0".into());
        Value::Object(body).to_string().into_bytes()
    }

    /// Returns the target of the recording with a ticket.
    pub(super) fn with_ticket(&self, ticket: &str) -> String {
        let encode = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
        let mut target = format!("{PREFIX}{}?", encode(&self.call_id));
        for (name, value) in [("begin", &self.begin), ("end", &self.end)] {
            if let Some(value) = value {
                target += &format!("{name}={}&", encode(value));
            }
        }
        if let Some(number) = self.number {
            target += &format!("n={number}&");
        }
        target + "ticket=" + ticket
    }
}

/// Checks the length of a value before anything is made of it, such as the HMAC of a ticket.
fn check_length(value: &str) -> Result<(), Rejection> {
    if value.len() > MAX_VALUE_LENGTH {
        return Err(Rejection::Malformed("a value of a link is too long"));
    }
    Ok(())
}

/// Decodes escapes. A plus is a plus (RFC 3986), as in the offset of a time.
fn decode(text: &str) -> Result<String, Rejection> {
    const BROKEN: Rejection = Rejection::Malformed("a broken percent escape in a link");
    let is_whole = text.split('%').skip(1).all(|rest| {
        let code = rest.as_bytes().get(..2);
        code.is_some_and(|code| code.iter().all(u8::is_ascii_hexdigit))
    });
    if !is_whole {
        return Err(BROKEN);
    }
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    Ok(decoded.map_err(|_| BROKEN)?.into_owned())
}

fn number(text: &str) -> Result<u32, Rejection> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| is_number && *number > 0);
    number.ok_or(Rejection::Malformed("n of a link must be a number from 1"))
}

/// The start of the path of every link.
pub(super) const PREFIX: &str = "/recordings/";

/// In bytes, as written: more than 25 characters of four bytes each, all escaped (callId), or a time.
const MAX_VALUE_LENGTH: usize = 512;

const NOT_A_LINK: Rejection = Rejection::NotFound("no recording of that path");

/// All but the unreserved characters of RFC 3986, 2.3.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(target: &str) -> Result<Link, u16> {
        let link = Link::parse(&target.parse().unwrap());
        link.map_err(|rejection| rejection.error_response().status.as_u16())
    }

    #[test]
    fn links_are_read() {
        let link = parse("/recordings/1637742303-1?begin=2021-11-24%2016:25:03&end=2021-11-24T17:25:11+08:00&n=2")
            .unwrap();
        let body: Value = serde_json::from_slice(&link.body()).unwrap();
        let expected = serde_json::json!({
            "callId": "1637742303-1", "beginTime": "2021-11-24 16:25:03",
            "endTime": "2021-11-24T17:25:11+08:00", "version": "2.0",
        });
        assert_eq!((body, link.number()), (expected, 2));
        assert_eq!(parse("/recordings/a%20b").unwrap().call_id, "a b");
        assert!(
            parse("/recordings/a/ticket?begin=x")
                .unwrap()
                .asks_for_ticket
        );
        for (target, status) in [
            ("/recordings/", 404),
            ("/recordings/a/", 404),
            ("/recordings/a/b", 404),
            ("/recordings/a/ticket/", 404),
            ("/recordings//ticket", 404),
            ("/recordings/a%2", 400),
            ("/recordings/a%zz", 400),
            ("/recordings/a%ff", 400),
            ("/recordings/a?begin=%", 400),
            ("/recordings/a?begin=1&begin=1", 400),
            ("/recordings/a?begin=1&%62egin=1", 400),
            ("/recordings/a?n=0", 400),
            ("/recordings/a?n=", 400),
            ("/recordings/a?n=+1", 400),
            ("/recordings/a?n=1.0", 400),
            ("/recordings/a?n=99999999999", 400),
            ("/recordings/a?callId=b", 400),
            ("/recordings/a?Begin=1", 400),
            ("/recordings/a?ticket=a&ticket=b", 400),
            ("/recordings/a/ticket?ticket=a", 400),
            ("/recordings/a%3Fbegin=1", 400),
            ("/recordings/a%253fbegin=1/ticket", 400),
            ("/recordings/a&ticket=b", 400),
        ] {
            assert_eq!(parse(target), Err(status), "{target}");
        }
    }

    #[test]
    fn values_have_a_length() {
        let four_bytes = "%F0%9F%98%80".repeat(25);
        assert_eq!(
            parse(&format!("/recordings/{four_bytes}")).unwrap().call_id,
            "\u{1f600}".repeat(25)
        );
        let long = "9".repeat(MAX_VALUE_LENGTH + 1);
        for target in [
            format!("/recordings/{long}"),
            format!("/recordings/a?begin={long}"),
            format!("/recordings/a?%65nd={long}"),
            format!("/recordings/a?n={long}"),
            format!("/recordings/a/ticket?end={long}"),
        ] {
            assert_eq!(parse(&target), Err(400), "{target}");
            assert!(parse(&target.replace(&long, &long[1..])).is_ok() || target.contains("n="));
        }
    }

    proptest! {
        #[test]
        fn a_link_with_a_ticket_asks_for_the_same(call_id in "[^\\pC?%]{1,20}", begin in "\\PC{0,30}", number in proptest::option::of(1..9u32)) {
            let link = Link {
                call_id,
                begin: Some(begin),
                end: None,
                number,
                ticket: None,
                asks_for_ticket: true,
            };
            let again = parse(&link.with_ticket("abc")).unwrap();
            let expected = Link { ticket: Some("abc".into()), asks_for_ticket: false, ..link };
            prop_assert_eq!(again, expected);
        }
    }
}
