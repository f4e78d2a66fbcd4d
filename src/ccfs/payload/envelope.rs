//! Interfaces with the `{"request":{…},"msgBody":{…}}` envelope: helped along, never judged. Only what
//! is no JSON object is refused.

use bytes::Bytes;

use super::super::json::{Fault, Keep, Kind, Object};
use super::super::times::Written;
use super::{Edit, Invalid, Payload, Tenant, splice};

/// Adds a missing version and makes RFC 3339 times tenant-local.
pub(super) fn normalize(raw: &Bytes, tenant: &Tenant) -> Result<Payload, Invalid> {
    let (edits, call_id) = read(raw, tenant).map_err(Invalid::body)?;
    Ok(Payload {
        changed: !edits.is_empty(),
        outgoing: splice(raw, edits),
        key: None,
        call_id,
    })
}

fn read(raw: &Bytes, tenant: &Tenant) -> Result<(Vec<Edit>, Option<Box<str>>), Fault> {
    let outer = Object::strict(raw, Keep::Names)?;
    let mut edits = Vec::new();
    match Part::of(&outer, "request")? {
        Part::Object { base, object } if object.member("version").is_none() => {
            edits.push(Edit::append(base, &object, r#""version":"2.0""#));
        }
        Part::Missing => {
            edits.push(Edit::append(0, &outer, r#""request":{"version":"2.0"}"#));
        }
        Part::Object { .. } | Part::Other => {}
    }
    let Part::Object { base, object } = Part::of(&outer, "msgBody")? else {
        return Ok((edits, None));
    };
    for name in ["beginTime", "endTime"] {
        let Some(member) = object.member(name) else {
            continue;
        };
        let text = object.text(&member).unwrap_or_default();
        if let Some(Written::Instant(local)) = Written::read(&text, &tenant.zone) {
            edits.push(Edit {
                start: base + member.raw.start as usize,
                end: base + member.raw.end as usize,
                text: format!("\"{}\"", local.text()),
            });
        }
    }
    let call_id = object.member("callId");
    let call_id = call_id.and_then(|member| object.text(&member));
    Ok((edits, call_id.map(Into::into)))
}

/// One half of the envelope.
enum Part<'a> {
    Missing,
    /// Begins at byte `base` of the body.
    Object {
        base: usize,
        object: Object<'a>,
    },
    Other,
}

impl<'a> Part<'a> {
    fn of(outer: &Object<'a>, name: &str) -> Result<Self, Fault> {
        Ok(match outer.member(name) {
            None => Self::Missing,
            Some(member) if member.kind == Kind::Object => Self::Object {
                base: member.raw.start as usize,
                object: Object::strict(outer.raw(&member).as_bytes(), Keep::Names)?,
            },
            Some(_) => Self::Other,
        })
    }
}
