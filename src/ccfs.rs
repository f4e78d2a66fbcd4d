//! What CC-FS is: its interfaces, the rules of their bodies, and how it answers.

mod endpoint;
mod json;
mod payload;
pub mod presigned_url;
mod reply;
mod times;

pub use endpoint::{Answer, Body, Endpoint, Lookup, Repeat, TABLE, find};
pub use payload::{Invalid, Payload, Tenant, Versionless};
pub use reply::{Json, Verdict, envelope};
pub use times::parse_zone;
