//! The JSON Schema of `/status`. A scenario test holds a real status against it, and finds members that it
//! does not name.

/// The schema, for programs that read `/status`. Members are only ever added to it.
pub const STATUS_SCHEMA: &str = include_str!("status.schema.json");
