//! The task of one HTTP/2 stream: request and response.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{HeaderMap, Method, Request, Response};
use tokio::time::{Duration, timeout};

use super::incoming::Http2Incoming;
use super::response_body::{BodySender, ResponseBody};
use super::response_fields;
use super::send_deadline::SendDeadline;
use super::state::{Http2State, StreamGuard};
use super::stream_progress::StreamProgress;
use crate::drain::{ClientAborted, CloseAfterResponse};
use crate::listener::body::RequestBody;
use crate::listener::context::ListenerContext;
use crate::listener::head::request;
use crate::listener::unread_body::{DiscardOutcome, UnreadBody};
use crate::listener::{ConnectionInfo, Handler};
use crate::metrics::{ConnectionEndReason, MalformedReason};

/// Serves one stream to its end. If its client reads too slowly, the stream is dropped, which resets it; a
/// panic ends the stream and closes the connection.
///
/// A future written by hand: a task is moved several times before it first runs, and the one of an `async fn`
/// held the request five times and the response four.
pub(super) struct StreamTask<H: Handler> {
    listener: Arc<ListenerContext<H>>,
    info: Arc<ConnectionInfo>,
    state: Arc<Http2State>,
    progress: Arc<StreamProgress>,
    /// The response to HEAD has no body (RFC 9110, 9.3.2).
    is_head_request: bool,
    stage: Stage<H>,
    /// What the handler left unread of the request, while the response is sent.
    unread: Option<UnreadBody>,
    deadline: SendDeadline,
    /// Dropped last: the connection may be idle then.
    _guard: StreamGuard,
}

/// What a stream is doing.
///
/// ```text
/// Accepted ─► Handling ─► Sending ─► Discarding ─► Ended
///     └── rejected ──────────┘
/// ```
///
/// Sending is left out for a response without a body, Discarding when nothing is unread. A reset by the
/// client before the response, and malformed trailers, lead to Ended; a slow reader and a panic end the task
/// in any stage.
enum Stage<H: Handler> {
    /// The handler has not been called.
    Accepted(Option<Request<RecvStream>>),
    /// The handler is at work.
    Handling(Pin<Box<dyn Future<Output = Response<H::Body>> + Send>>),
    /// The head of the response is sent, its body is being sent.
    Sending(BodySender<H::Body>),
    /// The response is sent; what was left unread of the request is discarded.
    Discarding(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// Nothing is left to do.
    Ended,
}

impl<H: Handler> StreamTask<H> {
    pub(super) fn new(
        listener: Arc<ListenerContext<H>>,
        info: Arc<ConnectionInfo>,
        state: Arc<Http2State>,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
    ) -> Self {
        let settings = &listener.settings;
        let progress = StreamProgress::new(state.clone(), respond, settings.max_discarded);
        Self {
            progress: Arc::new(progress),
            is_head_request: *request.method() == Method::HEAD,
            stage: Stage::Accepted(Some(request)),
            unread: None,
            deadline: SendDeadline::new(settings),
            // Counted here and not when the task first runs: other streams of the same read start before.
            _guard: state.begin_stream(),
            listener,
            info,
            state,
        }
    }

    fn poll_stages(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            self.stage = match &mut self.stage {
                Stage::Accepted(request) => {
                    // Rapid reset (CVE-2023-44487): a stream that was reset right behind its head costs no more.
                    if self.progress.poll_reset(context).is_ready() {
                        self.state.count_reset();
                        Stage::Ended
                    } else if let Some(request) = request.take() {
                        self.begin(request)
                    } else {
                        Stage::Ended
                    }
                }
                Stage::Handling(handling) => match handling.as_mut().poll(context) {
                    Poll::Ready(response) => {
                        // Puts what the handler left unread of the request where `send` finds it.
                        self.stage = Stage::Ended;
                        self.respond(response)
                    }
                    Poll::Pending => {
                        ready!(self.progress.poll_reset(context));
                        self.state.count_reset();
                        Stage::Ended
                    }
                },
                Stage::Sending(sender) => {
                    // How it ended is recorded by the body's own drop.
                    let _ = ready!(sender.poll_send(context));
                    self.after_response()
                }
                Stage::Discarding(discarding) => {
                    ready!(discarding.as_mut().poll(context));
                    self.finish()
                }
                Stage::Ended => return Poll::Ready(()),
            }
        }
    }

    /// Calls the handler, or rejects the request.
    fn begin(&mut self, request: Request<RecvStream>) -> Stage<H> {
        let (mut head, incoming) = request.into_parts();
        let validated = request::validate(&mut head, self.listener.settings.head);
        let body = self.request_body(&head.headers, incoming);
        if let Err(error) = validated {
            drop(body);
            error.count(&self.listener.metrics);
            let rejection = self.listener.handler.reject(&self.info, &error.error);
            self.progress.set_last();
            return self.send(rejection.map(ResponseBody::Rejection));
        }
        let request = Request::from_parts(head, body);
        Stage::Handling(Box::pin(self.listener.handler.handle(&self.info, request)))
    }

    /// Begins the handler's response.
    fn respond(&mut self, response: Response<H::Body>) -> Stage<H> {
        if self.progress.has_malformed_trailers() {
            self.reset_malformed();
            return Stage::Ended;
        }
        let extensions = response.extensions();
        if extensions.get::<CloseAfterResponse>().is_some() {
            self.progress.set_last();
        }
        if extensions.get::<ClientAborted>().is_some() {
            self.state.count_reset();
        }
        self.send(response.map(ResponseBody::Handler))
    }

    /// Begins a response. To HEAD the body is dropped; its length stays announced.
    ///
    /// The response comes before what the handler left unread is discarded: a client that is still sending
    /// its body sees it, and stops. curl 7.88 (Debian 12) loses a response that is followed at once by
    /// RST_STREAM or GOAWAY, so that both wait until the unread body has ended, or [`discard`] gives up.
    fn send(&mut self, response: Response<ResponseBody<H::Body>>) -> Stage<H> {
        self.unread = self.progress.unread.take();
        if self.progress.is_last() && self.unread.is_none() {
            self.state.start_goaway();
        }
        let (mut head, body) = response.into_parts();
        let has_body = !body.is_end_stream();
        let is_end = !has_body || self.is_head_request;
        response_fields::complete(
            &mut head.headers,
            body.size_hint().exact().filter(|_| has_body),
        );
        self.progress.set_pending(!is_end);
        let head = Response::from_parts(head, ());
        if let Some(mut respond) = self.progress.take_respond() {
            match respond.send_response(head, is_end) {
                Ok(stream) if !is_end => {
                    let progress = self.progress.clone();
                    return Stage::Sending(BodySender::new(body, stream, progress));
                }
                Ok(_) => {}
                Err(_) => respond.send_reset(h2::Reason::INTERNAL_ERROR),
            }
        }
        self.after_response()
    }

    /// Returns the stage that follows a response: the unread rest of the request is discarded, if there is any.
    fn after_response(&mut self) -> Stage<H> {
        match self.unread.take() {
            Some(unread) => {
                let linger = self.listener.settings.linger_timeout;
                Stage::Discarding(Box::pin(discard(unread, linger)))
            }
            None => self.finish(),
        }
    }

    /// Closes the connection if this was its last response, and returns the last stage.
    fn finish(&self) -> Stage<H> {
        if self.progress.is_last() {
            self.state.start_goaway();
        }
        Stage::Ended
    }

    /// Resets the stream instead of a response, as h2 does for what it finds malformed itself.
    fn reset_malformed(&self) {
        self.listener.metrics.count(MalformedReason::Body);
        if let Some(mut respond) = self.progress.take_respond() {
            respond.send_reset(h2::Reason::PROTOCOL_ERROR);
        }
    }

    fn request_body(&self, headers: &HeaderMap, incoming: RecvStream) -> RequestBody {
        let expects_continue = headers.contains_key(EXPECT) && !incoming.is_end_stream();
        let content_length = headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        let content_length = content_length.or(incoming.is_end_stream().then_some(0));
        let incoming = Http2Incoming::new(incoming, content_length);
        RequestBody::http2(incoming, self.progress.clone(), expects_continue)
    }

    /// Drops what is left of the stream, which resets it unless it was sent to its end, and records why it
    /// failed.
    fn end(&mut self, failure: Option<ConnectionEndReason>) {
        if let Some(reason) = failure {
            self.listener.metrics.count(reason);
        }
        match failure {
            Some(ConnectionEndReason::Panic) => self.state.start_goaway(),
            Some(_) => self.state.record_slow_reader(),
            None => {}
        }
        self.stage = Stage::Ended;
        self.state.forget_findings(self.progress.stream());
    }
}

impl<H: Handler> Future for StreamTask<H> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let failure = match catch_unwind(AssertUnwindSafe(|| this.poll_stages(context))) {
            Ok(Poll::Ready(())) => None,
            Ok(Poll::Pending) => {
                let settings = &this.listener.settings;
                ready!(
                    this.deadline
                        .poll_exceeded(&this.progress, settings, context)
                );
                Some(ConnectionEndReason::SlowReader)
            }
            Err(_) => Some(ConnectionEndReason::Panic),
        };
        this.end(failure);
        Poll::Ready(())
    }
}

/// Discards an unread body until it has ended, up to `max_discarded` and `linger`. If it is larger, the
/// client is given [`RESET_DELAY`] to read the response; then the stream is reset.
async fn discard(mut unread: UnreadBody, linger: Duration) {
    let discard = std::future::poll_fn(|context| unread.poll_discard(context));
    if let Ok(DiscardOutcome::Incomplete) = timeout(linger, discard).await {
        let ended = std::future::poll_fn(|context| unread.poll_ended(context));
        let _ = timeout(linger.min(RESET_DELAY), ended).await;
    }
}

/// Time for a client with a large upload to read the response before its stream is reset: several
/// round trips, and short enough not to hold the connection's receive window.
const RESET_DELAY: Duration = Duration::from_secs(1);
