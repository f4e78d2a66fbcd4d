//! The state of the connection to the store: read by all workers, written by the supervisor task.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use redis::RedisError;
use tokio::sync::Notify;

use super::connection::Connection;
use super::session_error::{SessionError, session_error_kind};

/// The current session, if any, and the status for operators.
#[derive(Debug, Default)]
pub(super) struct SessionHandle {
    /// `None` while the store is unavailable or does not respond.
    current: ArcSwapOption<Session>,
    failure: Notify,
    status: ArcSwap<Status>,
}

/// One connection, from its login to its end.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: Connection,
    /// Limits the log to one line for each session in which the store rejects commands.
    has_logged_rejection: AtomicBool,
}

/// The status of the connection to the store.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Status {
    /// The first connection is not established yet.
    #[default]
    Connecting,
    /// Queries are sent.
    Connected,
    /// No queries are sent, for this reason.
    Unavailable(String),
}

impl SessionHandle {
    /// Returns the session to query.
    pub(super) fn current(&self) -> Option<Arc<Session>> {
        self.current.load_full()
    }

    /// Starts a session: queries use this connection from now on.
    pub(super) fn set_connected(&self, connection: &Connection) {
        let session = Session {
            connection: connection.clone(),
            has_logged_rejection: AtomicBool::new(false),
        };
        self.current.store(Some(Arc::new(session)));
        self.status.store(Arc::new(Status::Connected));
    }

    /// Ends the session: no queries are sent from now on.
    pub(super) fn set_unavailable(&self, reason: &str) {
        self.current.store(None);
        self.status
            .store(Arc::new(Status::Unavailable(reason.to_owned())));
    }

    /// Suspends queries after one has failed in a way that concerns all of them; the supervisor then
    /// checks the connection.
    pub(super) fn mark_unresponsive(&self, session: &Arc<Session>) {
        // Compares with the session that was queried: a new one may be in place already.
        self.current.compare_and_swap(session, None);
        self.failure.notify_one();
    }

    /// Handles the error of one query. An error without a code comes from the connection, and some codes
    /// mean that the server rejects all commands. Any other code concerns this command alone.
    pub(super) fn on_error(&self, session: &Arc<Session>, error: &RedisError) {
        if error
            .code()
            .is_none_or(|code| session_error_kind(code).is_some())
        {
            self.mark_unresponsive(session);
        } else if !session.has_logged_rejection.swap(true, Ordering::Relaxed) {
            let SessionError { reason, .. } = error.into();
            tracing::warn!(%reason, "the shared store rejected a command; continuing without it (deploy/operations.md lists the permissions that its user needs)");
        }
    }

    /// Resolves when a query has failed in a way that concerns all of them.
    pub(super) async fn session_failed(&self) {
        self.failure.notified().await;
    }

    /// Returns the status for operators.
    pub(super) fn status(&self) -> Status {
        Status::clone(&self.status.load())
    }
}
