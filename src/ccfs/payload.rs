//! Validates and normalizes request bodies: a raw body and an [`Endpoint`] become a [`Payload`] or an
//! [`InvalidRequest`].

mod envelope;
mod flat;
mod invalid;

use bytes::Bytes;
use compact_str::CompactString;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::json::{Member, Object};
use super::{BodyKind, Endpoint};
pub use invalid::InvalidRequest;

/// How the times of a tenant are read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tenant {
    /// The zone of the tenant space.
    pub zone: TimeZone,
    /// How a request without `version` is read; `None` takes the default of the zone.
    pub versionless: Option<Versionless>,
}

impl Tenant {
    /// Whether the times of both are read alike. Zones have their names from one database, so that those of equal
    /// names are equal.
    pub fn reads_like(&self, other: &Self) -> bool {
        let (name, other_name) = (self.zone.iana_name(), other.zone.iana_name());
        let is_same_zone = name.is_some() && name == other_name || self.zone == other.zone;
        is_same_zone && self.versionless == other.versionless
    }
}

/// How times in a request without `version` are read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Versionless {
    /// As tenant-local; only the version is added.
    Local,
    /// The request is rejected with 0300006.
    Reject,
    /// As UTC, converted to tenant-local.
    Utc,
}

/// A body that is valid for its endpoint, as it is sent to the node. Only [`Endpoint::normalize`] and
/// [`Payload::unparsed`] make one.
#[derive(Clone, Debug)]
pub struct Payload {
    outgoing: Bytes,
    is_changed: bool,
    cache_key: Option<Bytes>,
    call_id: Option<CompactString>,
    file_name: Option<Box<str>>,
    sent_times: SentTimes,
}

/// The times of a body as they are sent, by the tenant's wall clock; `None` where the body has none that
/// the gateway reads.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SentTimes {
    /// `beginTime`.
    pub begin: Option<DateTime>,
    /// `endTime`.
    pub end: Option<DateTime>,
}

impl Payload {
    /// Creates the payload of a body that is not parsed: sent unchanged, and never a cache key.
    pub fn unparsed(raw: Bytes) -> Self {
        Self {
            outgoing: raw,
            is_changed: false,
            cache_key: None,
            call_id: None,
            file_name: None,
            sent_times: SentTimes::default(),
        }
    }

    /// Returns a copy with buffers of their own lengths. `raw` is a copy of the received body, which an unchanged
    /// one shares.
    pub fn compacted(&self, raw: &Bytes) -> Self {
        let outgoing = match self.is_changed {
            true => Bytes::copy_from_slice(&self.outgoing),
            false => raw.clone(),
        };
        Self {
            outgoing,
            cache_key: self.cache_key.as_deref().map(Bytes::copy_from_slice),
            ..self.clone()
        }
    }

    /// Returns the body that is sent.
    pub fn outgoing(&self) -> &Bytes {
        &self.outgoing
    }

    /// Whether it differs from the received body, so that the request must be signed again.
    pub fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// Returns the outgoing object in canonical form, in which equal meaning is equal bytes: members sorted
    /// at every depth, strings unescaped, numbers as written, no whitespace. Only for
    /// [`super::ResponseKind::SignedUrl`] endpoints.
    pub fn cache_key(&self) -> Option<&Bytes> {
        self.cache_key.as_ref()
    }

    /// Returns the callId, if the interface has one (flat, or in `msgBody`).
    pub fn call_id(&self) -> Option<&str> {
        self.call_id.as_deref()
    }

    /// Returns an owned copy of the callId.
    pub fn owned_call_id(&self) -> Option<CompactString> {
        self.call_id.clone()
    }

    /// Returns the name of the file that the body asks for, at most [`MAX_NAME_CHARACTERS`] characters.
    pub fn file_name(&self) -> Option<&str> {
        self.file_name.as_deref()
    }

    /// Returns the times as they are sent.
    pub fn sent_times(&self) -> SentTimes {
        self.sent_times
    }
}

impl Endpoint {
    /// Validates a body by the rules of this endpoint and brings it into the one form that is always legal:
    /// tenant-local times and version "2.0". A body in that form is sent unchanged; of any other, only the
    /// members that must change do.
    ///
    /// # Errors
    /// What CC-FS itself would reject.
    pub fn normalize(&self, raw: &Bytes, tenant: &Tenant) -> Result<Payload, InvalidRequest> {
        match self.body {
            BodyKind::Envelope => envelope::normalize(raw, tenant),
            BodyKind::Flat => flat::normalize(raw, tenant),
            BodyKind::Opaque => Ok(Payload::unparsed(raw.clone())),
        }
    }
}

/// A replacement of one range of the source.
struct Edit<'a> {
    /// Byte offsets in the source.
    start: usize,
    end: usize,
    text: &'a str,
}

impl<'a> Edit<'a> {
    /// Replaces a value of an object that starts at `base`.
    fn replace(base: usize, value: &Member, text: &'a str) -> Self {
        Self {
            start: base + value.raw.start as usize,
            end: base + value.raw.end as usize,
            text,
        }
    }

    /// Appends a member, given with a leading comma, to an object that starts at `base`.
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

/// Appended to an object without a version.
const VERSION_MEMBER: &str = r#","version":"2.0""#;

/// Returns the first [`MAX_NAME_CHARACTERS`] characters of a name.
fn shortened(name: &str) -> &str {
    let end = name.char_indices().nth(MAX_NAME_CHARACTERS);
    end.map_or(name, |(end, _)| name.get(..end).unwrap_or(name))
}

/// How much of a file name or a refused callId is kept. The longest documented file name has 225
/// characters (pages 4224 and 4225 / 0816 and 0817).
pub const MAX_NAME_CHARACTERS: usize = 256;

/// Applies the edits; everything else stays byte for byte.
fn splice(raw: &Bytes, mut edits: Vec<Edit<'_>>) -> Bytes {
    if edits.is_empty() {
        return raw.clone();
    }
    edits.sort_by_key(|edit| edit.start);
    let added: usize = edits.iter().map(|edit| edit.text.len()).sum();
    let mut outgoing = Vec::with_capacity(raw.len() + added);
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
