//! Interfaces with the `{"request":{…},"msgBody":{…}}` envelope: completed and converted, not validated. Only
//! a body that is not a JSON object is rejected.

use bytes::Bytes;
use compact_str::CompactString;

use super::super::json::{Canonicalize, JsonError, Member, Object, ValueKind};
use super::super::times::ParsedTime;
use super::{Edit, InvalidRequest, Payload, Tenant, VERSION_MEMBER, splice};

/// Adds a missing version and converts RFC 3339 times to tenant-local ones.
pub(super) fn normalize(raw: &Bytes, tenant: &Tenant) -> Result<Payload, InvalidRequest> {
    let outer = Object::strict(raw, Canonicalize::Names).map_err(InvalidRequest::body)?;
    let request = Part::of(&outer, "request").map_err(InvalidRequest::body)?;
    let message = Part::of(&outer, "msgBody").map_err(InvalidRequest::body)?;
    let (converted, call_id) = match &message {
        Part::Object { base, object } => (times(*base, object, tenant), call_id(object)),
        Part::Missing | Part::Other => (Vec::new(), None),
    };

    let mut edits: Vec<_> = converted
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
        call_id,
    })
}

/// Returns the members that hold a time with an offset, and their converted values.
fn times(base: usize, message: &Object<'_>, tenant: &Tenant) -> Vec<(usize, Member, String)> {
    let converted = |name| {
        let member = message.member(name)?;
        match ParsedTime::parse(&message.text(&member)?, &tenant.zone)? {
            ParsedTime::Instant(local) => Some((base, member, local.json_literal())),
            ParsedTime::Civil(_) => None,
        }
    };
    ["beginTime", "endTime"]
        .into_iter()
        .filter_map(converted)
        .collect()
}

fn call_id(message: &Object<'_>) -> Option<CompactString> {
    let text = message.text(&message.member("callId")?)?;
    Some(text.into())
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

const REQUEST_MEMBER: &str = r#","request":{"version":"2.0"}"#;
