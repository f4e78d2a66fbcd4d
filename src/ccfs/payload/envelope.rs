//! Interfaces with the `{"request":{…},"msgBody":{…}}` envelope: completed and converted, not validated. Only
//! a body that is not a JSON object is rejected.

use std::borrow::Cow;

use bytes::Bytes;
use compact_str::CompactString;
use jiff::civil::DateTime;

use super::super::json::{Canonicalize, JsonError, Member, Object, ValueKind};
use super::super::times::ParsedTime;
use super::{Edit, InvalidRequest, Payload, SentTimes, Tenant, VERSION_MEMBER, shortened, splice};

/// Adds a missing version and converts RFC 3339 times to tenant-local ones.
pub(super) fn normalize(raw: &Bytes, tenant: &Tenant) -> Result<Payload, InvalidRequest> {
    let outer = Object::strict(raw, Canonicalize::Names).map_err(InvalidRequest::body)?;
    let request = Part::of(&outer, "request").map_err(InvalidRequest::body)?;
    let message = Part::of(&outer, "msgBody").map_err(InvalidRequest::body)?;
    let asked = match &message {
        Part::Object { base, object } => Message::read(*base, object, tenant),
        Part::Missing | Part::Other => Message::default(),
    };

    let mut edits: Vec<_> = asked
        .converted
        .iter()
        .map(|(base, member, literal)| Edit::replace(*base, member, literal))
        .collect();
    match &request {
        Part::Object { base, object } if object.member("version").is_none() => {
            edits.push(Edit::append(*base, object, VERSION_MEMBER));
        }
        Part::Missing => edits.push(Edit::append(0, &outer, REQUEST_MEMBER)),
        Part::Object { .. } | Part::Other => {}
    }
    Ok(Payload {
        is_changed: !edits.is_empty(),
        outgoing: splice(raw, edits),
        cache_key: None,
        call_id: asked.call_id,
        file_name: asked.file_name,
        sent_times: asked.sent_times,
    })
}

/// What `msgBody` asks for.
#[derive(Default)]
struct Message {
    /// The members that hold a time with an offset, the offset of their object, and their converted
    /// values.
    converted: Vec<(usize, Member, String)>,
    call_id: Option<CompactString>,
    file_name: Option<Box<str>>,
    sent_times: SentTimes,
}

impl Message {
    fn read(base: usize, message: &Object<'_>, tenant: &Tenant) -> Self {
        let mut asked = Self {
            call_id: text(message, "callId").map(Into::into),
            file_name: FILE_NAMES
                .iter()
                .find_map(|name| text(message, name))
                .map(|name| shortened(&name).into()),
            ..Self::default()
        };
        asked.sent_times = SentTimes {
            begin: asked.time(base, message, "beginTime", tenant),
            end: asked.time(base, message, "endTime", tenant),
        };
        asked
    }

    /// Returns a time as it is sent; one with an offset is converted.
    fn time(
        &mut self,
        base: usize,
        message: &Object<'_>,
        name: &str,
        tenant: &Tenant,
    ) -> Option<DateTime> {
        let member = message.member(name)?;
        Some(
            match ParsedTime::parse(&message.text(&member)?, &tenant.zone)? {
                ParsedTime::Instant(local) => {
                    self.converted.push((base, member, local.json_literal()));
                    local.civil
                }
                ParsedTime::Civil(civil) => civil,
            },
        )
    }
}

fn text<'a>(message: &Object<'a>, name: &str) -> Option<Cow<'a, str>> {
    message.text(&message.member(name)?)
}

/// One of the two members of the envelope.
enum Part<'a> {
    Missing,
    /// Starts at byte `base` of the body.
    Object {
        base: usize,
        object: Object<'a>,
    },
    Other,
}

impl<'a> Part<'a> {
    fn of(outer: &Object<'a>, name: &str) -> Result<Self, JsonError> {
        Ok(match outer.member(name) {
            None => Self::Missing,
            Some(member) if member.kind == ValueKind::Object => Self::Object {
                base: member.raw.start as usize,
                object: Object::strict(outer.raw(&member).as_bytes(), Canonicalize::Names)?,
            },
            Some(_) => Self::Other,
        })
    }
}

/// The members that name a file: recordings, bills, agent operations.
const FILE_NAMES: [&str; 3] = ["fileName", "billFileName", "agentOprInfoFileName"];

const REQUEST_MEMBER: &str = r#","request":{"version":"2.0"}"#;
