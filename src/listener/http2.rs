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

use self::response_body::FramedBody;
use self::state::{CountingIo, Http2State, StreamProgress};
use self::timeouts::{Http2Timeouts, Next};
use super::body::{RequestBody, UnreadBody};
use super::connection::{ConnectionContext, ListenerContext};
use super::deadline::SendRateMonitor;
use super::head::request;
use super::stream::Stream;
use super::{ConnectionInfo, Handler, Settings};
use crate::drain::{ClientAborted, CloseAfterResponse, Phase, PhaseListener};
use crate::metrics::{ConnectionEndReason, Shard};

/// Serves until the connection ends.
pub(super) async fn serve<H: Handler>(
    stream: Stream,
    front: Arc<ListenerContext<H>>,
    life: ConnectionContext,
) {
    let multiplex = Arc::new(Http2State::default());
    let streams = Http2Service {
        listener: front.clone(),
        info: life.info.clone(),
        state: multiplex.clone(),
    };
    let executor = StreamExecutor {
        state: multiplex.clone(),
        metrics: front.metrics.clone(),
        settings: front.settings.clone(),
    };
    let io = TokioIo::new(CountingIo::new(stream, multiplex.clone()));
    let mut connection = pin!(builder(executor, &front.settings).serve_connection(io, streams));
    let mut sleep = pin!(tokio::time::sleep(front.settings.header_timeout));
    let mut watch = life.drain.clone();
    let forced = pin!(watch.reached(Phase::Forced));
    let mut drain = PhaseListener::new(forced);
    let mut pace = Http2Timeouts::new(&multiplex, &front.settings, &life, sleep.as_mut());
    let ended = std::future::poll_fn(|context| {
        if drain.poll_phase(context) {
            life.permit.activity().set_waker(context.waker());
        }
        loop {
            let polled = catch_unwind(AssertUnwindSafe(|| connection.as_mut().poll(context)));
            match polled {
                Err(_) => return Poll::Ready(Some(ConnectionEndReason::Panic)),
                Ok(Poll::Ready(_)) if multiplex.is_flooded() => {
                    tracing::debug!(address = %life.info.client_address, "a flood of HTTP/2 control frames");
                    return Poll::Ready(Some(ConnectionEndReason::ControlFlood));
                }
                Ok(Poll::Ready(Err(error))) if !is_io_error(&error) => {
                    tracing::debug!(address = %life.info.client_address, %error, "HTTP/2 was broken or abused");
                    return Poll::Ready(Some(ConnectionEndReason::ProtocolError));
                }
                Ok(Poll::Ready(_)) => return Poll::Ready(None),
                Ok(Poll::Pending) => {}
            }
            match pace.check(context) {
                Next::Wait => return Poll::Pending,
                Next::Goaway(reason) => {
                    if let Some(reason) = reason {
                        front.metrics.count(reason);
                    }
                    connection.as_mut().graceful_shutdown();
                }
                Next::Close(reason) => return Poll::Ready(reason),
            }
        }
    })
    .await;
    if let Some(reason) = ended {
        front.metrics.count(reason);
    }
}

/// The client is gone; anything else is h2's verdict on what it sent.
fn is_io_error(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    source.is_none_or(|source| source.is::<std::io::Error>())
}

fn builder(executor: StreamExecutor, settings: &Settings) -> http2::Builder<StreamExecutor> {
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.http2.max_concurrent_streams)
        .max_header_list_size(MAX_HEADER_LIST_SIZE)
        .max_pending_accept_reset_streams(settings.http2.max_resets)
        .max_local_error_reset_streams(settings.http2.max_resets)
        .initial_stream_window_size(settings.http2.stream_window)
        .initial_connection_window_size(settings.http2.connection_window)
        .max_send_buf_size(MAX_SEND_BUFFER)
        .keep_alive_interval(settings.http2.ping_interval)
        .keep_alive_timeout(settings.http2.ping_interval);
    builder
}

/// The service that hyper calls for each stream.
struct Http2Service<H> {
    listener: Arc<ListenerContext<H>>,
    info: Arc<ConnectionInfo>,
    state: Arc<Http2State>,
}

impl<H: Handler> Service<Request<Incoming>> for Http2Service<H> {
    type Response = Response<FramedBody<H::Body>>;
    type Error = h2::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, h2::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if self.state.is_going_away() {
            self.state.count_refused();
            let refused = h2::Error::from(h2::Reason::REFUSED_STREAM);
            return Box::pin(std::future::ready(Err(refused)));
        }
        let progress = self.state.register_stream();
        let front = self.listener.clone();
        let peer = &self.info;
        let (mut head, incoming) = request.into_parts();
        if let Err(fault) = request::validate(&mut head, front.settings.head) {
            fault.count(&front.metrics);
            self.state.start_goaway();
            progress.set_last();
            let answer = front.handler.reject(peer, &fault.error);
            let answer = answer.map(|body| FramedBody::from_rejection(body, progress));
            return Box::pin(std::future::ready(Ok(answer)));
        }
        let waits = head.headers.contains_key(EXPECT);
        let max_discarded = front.settings.max_discarded;
        let body = RequestBody::http2(incoming, progress.clone(), max_discarded, waits);
        let request = Request::from_parts(head, body);
        let multiplex = self.state.clone();
        // In a box of its own: moved into the other one, it would take its room twice.
        let handling = Box::pin(front.handler.handle(peer, request));
        Box::pin(async move {
            let response = handling.await;
            let extensions = response.extensions();
            let most = front.settings.http2.max_resets as u64;
            if extensions.get::<CloseAfterResponse>().is_some()
                || extensions.get::<ClientAborted>().is_some() && multiplex.count_reset() > most
            {
                multiplex.start_goaway();
                progress.set_last();
            }
            if let Some(leftover) = progress.take_unread_body() {
                Box::pin(discard_unread(leftover)).await;
            }
            Ok(response.map(|body| FramedBody::from_handler(body, progress)))
        })
    }
}

/// Reads what is on its way of a body that the handler did not want. Else the answer would race with
/// it: a stream that is reset for an unread rest (RFC 9113, 8.1) looks failed to many clients, and what
/// is wrong with the rest would be noticed or not, as it happens.
async fn discard_unread(mut leftover: UnreadBody) {
    let discarded = std::future::poll_fn(|context| leftover.poll_discard(context));
    let _ = timeout(UNREAD_BODY_WAIT, discarded).await;
}

/// Runs each stream as a task of its own, with its deadline.
#[derive(Clone, Debug)]
struct StreamExecutor {
    state: Arc<Http2State>,
    metrics: Arc<Shard>,
    settings: Arc<Settings>,
}

impl<F> hyper::rt::Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    #[expect(
        clippy::disallowed_methods,
        reason = "a spawn site: the task ends with its stream, which ends with its connection"
    )]
    fn execute(&self, stream: F) {
        // At once: other streams of the same read are announced before the task first runs.
        let (live, progress) = self.state.begin_stream();
        let tasks = self.clone();
        tokio::spawn(async move {
            run_stream(stream, &tasks, &progress).await;
            drop(live);
        });
    }
}

/// Runs a stream to its end, or drops it, which resets it.
async fn run_stream(
    stream: impl Future<Output = ()>,
    tasks: &StreamExecutor,
    progress: &StreamProgress,
) {
    let mut stream = pin!(stream);
    let mut rate = SendRateMonitor::new(&tasks.settings);
    let mut hurries = false;
    // Made when an answer first has to wait, so that most streams have no timer.
    let mut sleep: Option<Pin<Box<Sleep>>> = None;
    std::future::poll_fn(|context| {
        match catch_unwind(AssertUnwindSafe(|| stream.as_mut().poll(context))) {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(())) => return Poll::Ready(()),
            Err(_) => {
                tasks.metrics.count(ConnectionEndReason::Panic);
                tasks.state.start_goaway();
                return Poll::Ready(());
            }
        }
        loop {
            let waits = progress.has_pending();
            if !waits && sleep.is_none() {
                return Poll::Pending;
            }
            if progress.is_last() && !hurries {
                hurries = true;
                rate = SendRateMonitor::for_last_response(&tasks.settings);
            }
            match rate.observe(Instant::now(), progress.sent(), waits) {
                Err(_) => {
                    tasks.metrics.count(ConnectionEndReason::SlowReader);
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
const MAX_HEADER_LIST_SIZE: u32 = 64 * 1024;

/// A client sends a small body right behind its head; who has not ended by then waits for an answer.
const UNREAD_BODY_WAIT: Duration = Duration::from_millis(100);

/// Of one stream's answer.
const MAX_SEND_BUFFER: usize = 64 * 1024;
