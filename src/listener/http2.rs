//! Serves one HTTP/2 connection. Each stream is a task of its own, reset when its reader is too slow;
//! the driver bounds what the connection as a whole may do: first request, header blocks, idle time,
//! age, drains.

mod control_frame_budget;
mod frame_counter;
mod response_body;
pub(super) mod state;
mod timeouts;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use http::header::EXPECT;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Duration, Instant, Sleep, timeout};

use self::response_body::Answer;
use self::state::{Multiplex, Progress, Watched};
use self::timeouts::{Pace, Step};
use super::body::{Leftover, RequestBody};
use super::connection::{Front, Life};
use super::deadline::SendRate;
use super::head::request;
use super::stream::Stream;
use super::{Handler, Peer, Settings};
use crate::drain::{Follower, GivenUp, LastAnswer, Phase};
use crate::metrics::{ConnectionEnded, Shard};

/// Serves until the connection ends.
pub(super) async fn serve<H: Handler>(stream: Stream, front: Arc<Front<H>>, life: Life) {
    let multiplex = Arc::new(Multiplex::default());
    let streams = Streams {
        front: front.clone(),
        peer: life.peer.clone(),
        multiplex: multiplex.clone(),
    };
    let executor = Tasks {
        multiplex: multiplex.clone(),
        metrics: front.metrics.clone(),
        settings: front.settings.clone(),
    };
    let io = TokioIo::new(Watched::new(stream, multiplex.clone()));
    let mut connection = pin!(builder(executor, &front.settings).serve_connection(io, streams));
    let mut sleep = pin!(tokio::time::sleep(front.settings.header_timeout));
    let mut watch = life.watch.clone();
    let forced = pin!(watch.reached(Phase::Forced));
    let mut drain = Follower::new(forced);
    let mut pace = Pace::new(&multiplex, &front.settings, &life, sleep.as_mut());
    let ended = std::future::poll_fn(|context| {
        if drain.follow(context) {
            life.permit.pulse().wake(context.waker());
        }
        loop {
            let polled = catch_unwind(AssertUnwindSafe(|| connection.as_mut().poll(context)));
            match polled {
                Err(_) => return Poll::Ready(Some(ConnectionEnded::Panic)),
                Ok(Poll::Ready(_)) if multiplex.is_flooded() => {
                    tracing::debug!(address = %life.peer.address, "a flood of HTTP/2 control frames");
                    return Poll::Ready(Some(ConnectionEnded::ControlFlood));
                }
                Ok(Poll::Ready(Err(error))) if !is_of_the_socket(&error) => {
                    tracing::debug!(address = %life.peer.address, %error, "HTTP/2 was broken or abused");
                    return Poll::Ready(Some(ConnectionEnded::Protocol));
                }
                Ok(Poll::Ready(_)) => return Poll::Ready(None),
                Ok(Poll::Pending) => {}
            }
            match pace.check(context) {
                Step::Wait => return Poll::Pending,
                Step::Leave(reason) => {
                    if let Some(reason) = reason {
                        front.metrics.count(reason);
                    }
                    connection.as_mut().graceful_shutdown();
                }
                Step::Drop(reason) => return Poll::Ready(reason),
            }
        }
    })
    .await;
    if let Some(reason) = ended {
        front.metrics.count(reason);
    }
}

/// The client is gone; anything else is h2's verdict on what it sent.
fn is_of_the_socket(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    source.is_none_or(|source| source.is::<std::io::Error>())
}

fn builder(executor: Tasks, settings: &Settings) -> http2::Builder<Tasks> {
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.http2.max_concurrent_streams)
        .max_header_list_size(HEADER_LIST)
        .max_pending_accept_reset_streams(settings.http2.max_resets)
        .max_local_error_reset_streams(settings.http2.max_resets)
        .initial_stream_window_size(settings.http2.stream_window)
        .initial_connection_window_size(settings.http2.connection_window)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(settings.http2.ping_interval)
        .keep_alive_timeout(settings.http2.ping_interval);
    builder
}

/// The service that hyper calls for each stream.
struct Streams<H> {
    front: Arc<Front<H>>,
    peer: Arc<Peer>,
    multiplex: Arc<Multiplex>,
}

impl<H: Handler> Service<Request<Incoming>> for Streams<H> {
    type Response = Response<Answer<H::Body>>;
    type Error = h2::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, h2::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if self.multiplex.is_leaving() {
            self.multiplex.refuse();
            let refused = h2::Error::from(h2::Reason::REFUSED_STREAM);
            return Box::pin(std::future::ready(Err(refused)));
        }
        let progress = self.multiplex.announce();
        let front = self.front.clone();
        let peer = &self.peer;
        let (mut head, incoming) = request.into_parts();
        if let Err(fault) = request::judge(&mut head, front.settings.head) {
            fault.count(&front.metrics);
            self.multiplex.leave();
            progress.set_last();
            let answer = front.handler.refuse(peer, &fault.violation);
            let answer = answer.map(|body| Answer::refused(body, progress));
            return Box::pin(std::future::ready(Ok(answer)));
        }
        let waits = head.headers.contains_key(EXPECT);
        let max_discarded = front.settings.max_discarded;
        let body = RequestBody::http2(incoming, progress.clone(), max_discarded, waits);
        let request = Request::from_parts(head, body);
        let multiplex = self.multiplex.clone();
        // In a box of its own: moved into the other one, it would take its room twice.
        let handling = Box::pin(front.handler.handle(peer, request));
        Box::pin(async move {
            let response = handling.await;
            let extensions = response.extensions();
            let most = front.settings.http2.max_resets as u64;
            if extensions.get::<LastAnswer>().is_some()
                || extensions.get::<GivenUp>().is_some() && multiplex.give_up() > most
            {
                multiplex.leave();
                progress.set_last();
            }
            if let Some(leftover) = progress.take_leftover() {
                Box::pin(discard(leftover)).await;
            }
            Ok(response.map(|body| Answer::handled(body, progress)))
        })
    }
}

/// Reads what is on its way of a body that the handler did not want. Else the answer would race with
/// it: a stream that is reset for an unread rest (RFC 9113, 8.1) looks failed to many clients, and what
/// is wrong with the rest would be noticed or not, as it happens.
async fn discard(mut leftover: Leftover) {
    let discarded = std::future::poll_fn(|context| leftover.poll_discard(context));
    let _ = timeout(ON_ITS_WAY, discarded).await;
}

/// Runs each stream as a task of its own, with its deadline.
#[derive(Clone, Debug)]
struct Tasks {
    multiplex: Arc<Multiplex>,
    metrics: Arc<Shard>,
    settings: Arc<Settings>,
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    #[expect(
        clippy::disallowed_methods,
        reason = "a spawn site: the task ends with its stream, which ends with its connection"
    )]
    fn execute(&self, stream: F) {
        // At once: other streams of the same read are announced before the task first runs.
        let (live, progress) = self.multiplex.enter();
        let tasks = self.clone();
        tokio::spawn(async move {
            run(stream, &tasks, &progress).await;
            drop(live);
        });
    }
}

/// Runs a stream to its end, or drops it, which resets it.
async fn run(stream: impl Future<Output = ()>, tasks: &Tasks, progress: &Progress) {
    let mut stream = pin!(stream);
    let mut rate = SendRate::new(&tasks.settings);
    let mut hurries = false;
    // Made when an answer first has to wait, so that most streams have no timer.
    let mut sleep: Option<Pin<Box<Sleep>>> = None;
    std::future::poll_fn(|context| {
        match catch_unwind(AssertUnwindSafe(|| stream.as_mut().poll(context))) {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(())) => return Poll::Ready(()),
            Err(_) => {
                tasks.metrics.count(ConnectionEnded::Panic);
                tasks.multiplex.leave();
                return Poll::Ready(());
            }
        }
        loop {
            let waits = progress.is_waiting();
            if !waits && sleep.is_none() {
                return Poll::Pending;
            }
            if progress.is_last() && !hurries {
                hurries = true;
                rate = SendRate::of_last(&tasks.settings);
            }
            match rate.observe(Instant::now(), progress.sent(), waits) {
                Err(_) => {
                    tasks.metrics.count(ConnectionEnded::SlowReader);
                    return Poll::Ready(());
                }
                Ok(None) => return Poll::Pending,
                Ok(Some(deadline)) => {
                    let sleep =
                        sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
                    if sleep.deadline() != deadline {
                        sleep.as_mut().reset(deadline);
                    }
                    if sleep.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    })
    .await;
}

/// Above our own limit of a head, since h2 refuses without an envelope.
const HEADER_LIST: u32 = 64 * 1024;

/// A client sends a small body right behind its head; who has not ended by then waits for an answer.
const ON_ITS_WAY: Duration = Duration::from_millis(100);

/// Of one stream's answer.
const SEND_BUFFER: usize = 64 * 1024;
