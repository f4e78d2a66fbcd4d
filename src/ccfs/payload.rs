//! Raw body bytes and an [`Endpoint`] in, a [`Payload`] or [`Invalid`] out: the only interpreter of
//! the table's body rules.

mod envelope;
mod flat;
mod invalid;

use bytes::Bytes;
use compact_str::CompactString;
use jiff::tz::TimeZone;

use super::json::{Member, Object};
use super::{BodyKind, Endpoint};
pub use invalid::InvalidRequest;

/// What must be known of a tenant to read its times.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// The zone of the tenant space.
    pub zone: TimeZone,
    /// How a request without `version` is meant; `None` takes the default of the zone.
    pub versionless: Option<Versionless>,
}

/// How times in a request without `version` are meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Versionless {
    /// Tenant-local already; only the version is added.
    Local,
    /// Refused with 0300006.
    Reject,
    /// UTC, converted to tenant-local.
    Utc,
}

/// A body that is valid for its endpoint, as it goes out. Only [`Endpoint::normalize`] and
/// [`Payload::untouched`] make one.
#[derive(Clone, Debug)]
pub struct Payload {
    outgoing: Bytes,
    is_changed: bool,
    cache_key: Option<Bytes>,
    call_id: Option<CompactString>,
}

impl Payload {
    /// A body that nobody looked into: goes out as it came, and is never a cache key.
    pub fn unparsed(raw: Bytes) -> Self {
        Self {
            outgoing: raw,
            is_changed: false,
            cache_key: None,
            call_id: None,
        }
    }

    /// The bytes that go out.
    pub fn outgoing(&self) -> &Bytes {
        &self.outgoing
    }

    /// Do they differ from what came? Then the request must be signed again.
    pub fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// The outgoing object with members sorted at every depth, strings unescaped, numbers as
    /// written, no blanks; only for [`super::Answer::SignedUrl`] endpoints. Equal meaning, equal bytes.
    pub fn cache_key(&self) -> Option<&Bytes> {
        self.cache_key.as_ref()
    }

    /// The callId, where the interface has one (flat, or in `msgBody`).
    pub fn call_id(&self) -> Option<&str> {
        self.call_id.as_deref()
    }

    /// The same, to be kept.
    pub fn owned_call_id(&self) -> Option<CompactString> {
        self.call_id.clone()
    }
}

impl Endpoint {
    /// Checks a body by the rules of this endpoint and brings it into the one form that is always
    /// legal: tenant-local times and version "2.0". A body in that form goes out as it came, and of
    /// any other only the members that must change do.
    pub fn normalize(&self, raw: &Bytes, tenant: &Tenant) -> Result<Payload, InvalidRequest> {
        match self.body {
            BodyKind::Envelope => envelope::normalize(raw, tenant),
            BodyKind::Flat => flat::normalize(raw, tenant),
            BodyKind::Opaque => Ok(Payload::unparsed(raw.clone())),
        }
    }
}

/// One place of the source that goes out differently.
struct Edit<'a> {
    /// Bytes of the source.
    start: usize,
    end: usize,
    text: &'a str,
}

impl<'a> Edit<'a> {
    /// Puts a value in the place of another.
    fn replace(base: usize, value: &Member, text: &'a str) -> Self {
        Self {
            start: base + value.raw.start as usize,
            end: base + value.raw.end as usize,
            text,
        }
    }

    /// Adds a last member, written with a comma before it, to an object that begins at `base`.
    fn append(base: usize, object: &Object<'_>, member: &'a str) -> Self {
        let first = member.strip_prefix(',').unwrap_or(member);
        let text = if object.members().is_empty() {
            first
        } else {
            member
        };
        let at = base + object.append_offset();
        Self {
            start: at,
            end: at,
            text,
        }
    }
}

/// What goes last into an object without a version.
const VERSION_MEMBER: &str = r#","version":"2.0""#;

/// The source with its edits made, all else byte for byte as it was.
fn splice(raw: &Bytes, mut edits: Vec<Edit<'_>>) -> Bytes {
    if edits.is_empty() {
        return raw.clone();
    }
    edits.sort_by_key(|edit| edit.start);
    let grown: usize = edits.iter().map(|edit| edit.text.len()).sum();
    let mut outgoing = Vec::with_capacity(raw.len() + grown);
    let mut kept = 0;
    for edit in &edits {
        outgoing.extend_from_slice(raw.get(kept..edit.start).unwrap_or_default());
        outgoing.extend_from_slice(edit.text.as_bytes());
        kept = edit.end;
    }
    outgoing.extend_from_slice(raw.get(kept..).unwrap_or_default());
    outgoing.into()
}

#[cfg(test)]
mod tests;
