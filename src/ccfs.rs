//! The rules of CC-FS: its interfaces, their request bodies, and its responses.

mod endpoint;
mod json;
mod payload;
pub mod presigned_url;
mod response;
mod times;

pub use endpoint::{
    BodyKind, ENDPOINTS, Endpoint, Lookup, ResponseKind, RetrySafety, find_endpoint,
};
pub use payload::{InvalidRequest, Payload, Tenant, Versionless};
pub use response::{ParsedResponse, ResultKind, envelope, recording_urls};
pub use times::parse_zone;
