//! What CC-FS is: its interfaces, the rules of their bodies, and how it answers.

mod endpoint;
mod json;
mod payload;
pub mod presigned_url;
mod reply;
mod times;

pub use endpoint::{
    BodyKind, ENDPOINTS, Endpoint, Lookup, ResponseKind, RetrySafety, find_endpoint,
};
pub use payload::{InvalidRequest, Payload, Tenant, Versionless};
pub use reply::{ParsedResponse, ResultKind, envelope, recording_urls};
pub use times::parse_zone;
