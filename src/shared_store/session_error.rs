//! Why a session with the store ended or could not begin.

use redis::RedisError;

use crate::metrics::SharedStoreDisconnect;

/// Why there is no session: the kind for the metric, and the text for the log and `/status`. The text
/// contains nothing that the store wrote, except an error code.
#[derive(Debug)]
pub(super) struct SessionError {
    pub(super) kind: SharedStoreDisconnect,
    pub(super) reason: String,
}

impl SessionError {
    pub(super) fn new(kind: SharedStoreDisconnect, reason: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.into(),
        }
    }

    /// The store closed the connection.
    pub(super) fn closed() -> Self {
        Self::new(SharedStoreDisconnect::Closed, "it closed the connection")
    }

    /// A response did not arrive in time.
    pub(super) fn timeout() -> Self {
        Self::new(SharedStoreDisconnect::Timeout, "it did not respond in time")
    }
}

impl From<&RedisError> for SessionError {
    /// Uses only the error code of the text that the store wrote, and only if it has the form of one.
    fn from(error: &RedisError) -> Self {
        let is_code =
            |code: &&str| code.len() <= 16 && code.bytes().all(|it| it.is_ascii_uppercase());
        match error.code() {
            Some(code) => {
                let kind = session_error_kind(code).unwrap_or(SharedStoreDisconnect::Rejected);
                let code = Some(code).filter(is_code).unwrap_or("an unknown error");
                Self::new(kind, format!("it rejects commands: {code}"))
            }
            None => Self::new(SharedStoreDisconnect::Closed, error.category()),
        }
    }
}

/// Returns the kind of an error code with which a server rejects all writes, or all commands, of every
/// user; `None` for a code that concerns one command, such as NOPERM or WRONGTYPE.
pub(super) fn session_error_kind(code: &str) -> Option<SharedStoreDisconnect> {
    match code {
        "READONLY" => Some(SharedStoreDisconnect::ReadOnly),
        "OOM" => Some(SharedStoreDisconnect::OutOfMemory),
        "LOADING" => Some(SharedStoreDisconnect::Loading),
        "MASTERDOWN" => Some(SharedStoreDisconnect::MasterDown),
        "BUSY" | "CLUSTERDOWN" | "MISCONF" | "NOAUTH" | "NOREPLICAS" => {
            Some(SharedStoreDisconnect::Rejected)
        }
        _ => None,
    }
}
