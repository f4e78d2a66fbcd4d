//! One try at one node: a connection, the request, the answer. Tries the same node twice in one case
//! only: a kept connection turned out to be stale.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use http::Response;
use hyper::body::Incoming;
use jiff::Timestamp;
use tokio::time::{Duration, Instant};

use super::connect::connect;
use super::failure_reason::{self, Why};
use super::pool::Lease;
use super::request;
use super::response::{self, Answer};
use super::{Reading, Upstream};
use crate::ccfs::Repeat;
use crate::cluster::{Node, Pick};
use crate::message::{Cause, Delivery};
use crate::metrics::Retry;
use crate::telemetry::TraceContext;

/// A try that brought no answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trouble {
    pub(super) cause: Cause,
    /// May the node have acted on the request?
    pub(super) sent: bool,
    /// Another try needs nothing from the budget: the node is plainly not there (refused, or ended
    /// before it answered anything), or at its cap, or the try was paid for already.
    pub(super) free: bool,
}

/// A try as it is seen from outside: its span, and how far it has come when its time is up.
#[derive(Debug)]
pub(super) struct Progress {
    trace: TraceContext,
    began: Instant,
    sent: AtomicBool,
    /// Why it failed, where more is known than the [`Cause`].
    why: Mutex<Option<Why>>,
}

impl Progress {
    /// Nothing is sent yet.
    pub(super) fn begin(trace: TraceContext, began: Instant) -> Self {
        Self {
            trace,
            began,
            sent: AtomicBool::new(false),
            why: Mutex::new(None),
        }
    }

    /// May the node have got the request?
    pub(super) fn sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }

    /// Why it failed, if that is known.
    pub(super) fn why(&self) -> Option<Why> {
        let mut why = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        why.take()
    }

    fn explain(&self, why: Why) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    fn set_sent(&self, sent: bool) {
        self.sent.store(sent, Ordering::Relaxed);
    }
}

impl Upstream {
    /// Tries the picked node.
    pub(super) async fn attempt(
        &self,
        delivery: &Delivery,
        pick: Pick,
        reading: Reading,
        progress: &Progress,
    ) -> Result<Answer, Trouble> {
        let (response, lease) = self.exchange(delivery, pick.node(), progress).await?;
        let answer = match reading {
            Reading::Whole => {
                response::read_whole(response, lease, delivery, self.settings.max_answer).await
            }
            Reading::Stream => {
                let rate = self.settings.min_receive_rate;
                response::read_start(response, lease, pick, delivery, rate).await
            }
        };
        answer.map_err(|cause| Trouble {
            cause,
            sent: true,
            free: false,
        })
    }

    /// Sends the request and waits for the head of the answer.
    async fn exchange(
        &self,
        delivery: &Delivery,
        node: &Node,
        progress: &Progress,
    ) -> Result<(Response<Incoming>, Lease), Trouble> {
        let mut stale = false;
        loop {
            let mut lease = self.checkout(delivery, node, stale, progress).await?;
            let request = request::request(delivery, node, progress.trace, now);
            let request = request.map_err(|error| {
                tracing::error!(%error, "a request could not be signed");
                not_sent(Cause::NoNode)
            })?;
            progress.set_sent(true);
            let mut error = match lease.send(request).await {
                Ok(response) => return Ok((response, lease)),
                Err(error) => error,
            };
            // Handed back: not a byte of it was written.
            if error.take_message().is_some() {
                progress.set_sent(false);
                if lease.reused() {
                    continue;
                }
                progress.explain(failure_reason::of_http(&error.into_error()));
                return Err(Trouble {
                    free: true,
                    ..not_sent(Cause::Unreachable)
                });
            }
            let answered = lease.has_answered();
            let repeatable = delivery.endpoint.repeat == Repeat::Always;
            if lease.reused() && !answered && repeatable && !stale {
                // The node closed a kept connection while our request was on its way.
                self.metrics.count(Retry::Reconnected);
                stale = true;
                continue;
            }
            let error = error.into_error();
            tracing::debug!(node = %node.name(), %error, "a try failed");
            progress.explain(failure_reason::of_http(&error));
            let cause = if error.is_parse() {
                Cause::Garbage
            } else {
                Cause::Broken
            };
            return Err(Trouble {
                cause,
                sent: true,
                free: !answered,
            });
        }
    }

    /// An idle connection that can be relied on, else a new one.
    async fn checkout(
        &self,
        delivery: &Delivery,
        node: &Node,
        only_new: bool,
        progress: &Progress,
    ) -> Result<Lease, Trouble> {
        let settings = delivery.cluster.settings();
        let careful = delivery.endpoint.repeat == Repeat::UnlessSent;
        let now = progress.began;
        let fresh = careful.then(|| now.checked_sub(JUST_USED)).flatten();
        if !only_new && let Some(lease) = self.pool.take(node.id(), settings, now, fresh) {
            if !careful {
                return Ok(lease);
            }
            // Looks at it: the runtime polls its sockets before it comes back here, so a
            // connection that the node has ended is known to be.
            tokio::task::yield_now().await;
            if !lease.is_closed() {
                return Ok(lease);
            }
        }
        let slot = node.open_slot().ok_or(Trouble {
            free: true,
            ..not_sent(Cause::NoNode)
        })?;
        let opening = Opening(Some(&slot));
        // Boxed: the future of a request is small, since most need no new connection.
        let connecting = Box::pin(connect(node, settings, slot.clone()));
        let sender = connecting.await.map_err(|why| {
            progress.explain(why);
            Trouble {
                free: true,
                ..not_sent(Cause::Unreachable)
            }
        })?;
        opening.done();
        Ok(self.pool.lease(node.id(), settings, sender, slot))
    }
}

/// Gives the place of a connection back if it never comes to be.
struct Opening<'a>(Option<&'a crate::cluster::Slot>);

impl Opening<'_> {
    fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            slot.close();
        }
    }
}

fn not_sent(cause: Cause) -> Trouble {
    Trouble {
        cause,
        sent: false,
        free: false,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a signature carries the time of the attempt that it is made for"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

/// For requests that may not be repeated: a connection this fresh was open just now.
const JUST_USED: Duration = Duration::from_secs(1);
