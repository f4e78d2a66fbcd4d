//! Is the store there? One place that all workers look at and one task keeps up to date.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use redis::RedisError;
use tokio::sync::Notify;

use super::connection::{self, Connection};

/// What is between a replica and the store.
#[derive(Debug, Default)]
pub(super) struct SessionHandle {
    /// Somebody to ask; none while the store is away or suspected to be.
    current: ArcSwapOption<Session>,
    failure: Notify,
    status: ArcSwap<Status>,
}

/// One connection, from its log-in to its end.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: Connection,
    /// One line in the log for each session that refuses something.
    has_logged_rejection: AtomicBool,
}

/// How the store is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Status {
    /// Not found yet.
    #[default]
    Connecting,
    /// At work.
    Connected,
    /// Why it is away.
    Unavailable(String),
}

impl SessionHandle {
    /// Whom to ask.
    pub(super) fn current(&self) -> Option<Arc<Session>> {
        self.current.load_full()
    }

    /// From now on, this one is asked.
    pub(super) fn set_connected(&self, connection: &Connection) {
        let session = Session {
            connection: connection.clone(),
            has_logged_rejection: AtomicBool::new(false),
        };
        self.current.store(Some(Arc::new(session)));
        self.status.store(Arc::new(Status::Connected));
    }

    /// Nobody is asked any more.
    pub(super) fn set_unavailable(&self, why: &str) {
        self.current.store(None);
        self.status
            .store(Arc::new(Status::Unavailable(why.to_owned())));
    }

    /// Did not answer in time: nobody else shall wait for it before it was looked at.
    pub(super) fn mark_unresponsive(&self, session: &Arc<Session>) {
        // Only the session that was asked: a new one may be there already.
        self.current.compare_and_swap(session, None);
        self.failure.notify_one();
    }

    /// Answered with an error. A refusal says nothing about others; a broken connection does.
    pub(super) fn on_error(&self, session: &Arc<Session>, error: &RedisError) {
        if error.code().is_none() {
            self.mark_unresponsive(session);
        } else if !session.has_logged_rejection.swap(true, Ordering::Relaxed) {
            let why = connection::describe_error(error);
            tracing::warn!(%why, "the shared store refuses a command; working on without it (README.md lists what its user needs)");
        }
    }

    /// Resolves when somebody has lost his patience with the store.
    pub(super) async fn session_failed(&self) {
        self.failure.notified().await;
    }

    /// How it is.
    pub(super) fn status(&self) -> Status {
        Status::clone(&self.status.load())
    }
}
