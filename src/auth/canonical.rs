//! Method, path, query, fields and body to the canonical bytes that are signed.
