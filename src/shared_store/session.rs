//! Is the store there? One place that all workers look at and one task keeps up to date.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use redis::RedisError;
use tokio::sync::Notify;

use super::connection::{self, Connection};

/// What is between a replica and the store.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// Somebody to ask; none while the store is away or suspected to be.
    session: ArcSwapOption<Session>,
    trouble: Notify,
    status: ArcSwap<Status>,
}

/// One connection, from its log-in to its end.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: Connection,
    /// One line in the log for each session that refuses something.
    refused: AtomicBool,
}

/// How the store is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Status {
    /// Not found yet.
    #[default]
    Sought,
    /// At work.
    Connected,
    /// Why it is away.
    Away(String),
}

impl Link {
    /// Whom to ask.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.session.load_full()
    }

    /// From now on, this one is asked.
    pub(super) fn open(&self, connection: &Connection) {
        let session = Session {
            connection: connection.clone(),
            refused: AtomicBool::new(false),
        };
        self.session.store(Some(Arc::new(session)));
        self.status.store(Arc::new(Status::Connected));
    }

    /// Nobody is asked any more.
    pub(super) fn close(&self, why: &str) {
        self.session.store(None);
        self.status.store(Arc::new(Status::Away(why.to_owned())));
    }

    /// Did not answer in time: nobody else shall wait for it before it was looked at.
    pub(super) fn suspect(&self, session: &Arc<Session>) {
        // Only the session that was asked: a new one may be there already.
        self.session.compare_and_swap(session, None);
        self.trouble.notify_one();
    }

    /// Answered with an error. A refusal says nothing about others; a broken connection does.
    pub(super) fn failed(&self, session: &Arc<Session>, error: &RedisError) {
        if error.code().is_none() {
            self.suspect(session);
        } else if !session.refused.swap(true, Ordering::Relaxed) {
            let why = connection::told(error);
            tracing::warn!(%why, "the shared store refuses a command; working on without it (README.md lists what its user needs)");
        }
    }

    /// Resolves when somebody has lost his patience with the store.
    pub(super) async fn trouble(&self) {
        self.trouble.notified().await;
    }

    /// How it is.
    pub(super) fn status(&self) -> Status {
        Status::clone(&self.status.load())
    }
}
