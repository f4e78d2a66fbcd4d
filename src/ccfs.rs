//! The rules of CC-FS: its interfaces, their request bodies, and its responses.

mod endpoint;
mod json;
mod payload;
pub mod presigned_url;
mod recording_hint;
mod response;
mod times;

pub use endpoint::{
    BodyKind, ENDPOINTS, Endpoint, Lookup, PREFIX, ResponseKind, RetrySafety, find_endpoint,
};
pub use payload::{InvalidRequest, MAX_NAME_CHARACTERS, Payload, SentTimes, Tenant, Versionless};
pub use recording_hint::{Misreading, RecordingHint};
pub use response::{
    FILE_NOT_FOUND, NO_DATA, ParsedResponse, ResultKind, all_recording_urls, envelope,
    recording_urls,
};
pub use times::{offset_text, parse_zone, zone_name};
