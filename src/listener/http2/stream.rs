//! The task of one HTTP/2 stream: request, response, and the deadline of a slow reader.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::{
    CONNECTION, CONTENT_LENGTH, DATE, EXPECT, HeaderName, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use tokio::time::{Duration, Instant, Sleep, timeout};

use super::incoming::Http2Incoming;
use super::response_body::{BodySender, ResponseBody};
use super::state::Http2State;
use super::stream_progress::StreamProgress;
use crate::drain::{ClientAborted, CloseAfterResponse};
use crate::listener::body::RequestBody;
use crate::listener::context::ListenerContext;
use crate::listener::deadline::SendRateMonitor;
use crate::listener::head::request;
use crate::listener::unread_body::{DiscardOutcome, UnreadBody};
use crate::listener::{ConnectionInfo, Handler, Settings, date};
use crate::metrics::{ConnectionEndReason, MalformedReason};

/// Serves one stream.
pub(super) struct StreamTask<H> {
    listener: Arc<ListenerContext<H>>,
    info: Arc<ConnectionInfo>,
    state: Arc<Http2State>,
    progress: Arc<StreamProgress>,
    /// The response to HEAD has no body (RFC 9110, 9.3.2).
    is_head_request: bool,
}

impl<H: Handler> StreamTask<H> {
    pub(super) fn new(
        listener: Arc<ListenerContext<H>>,
        info: Arc<ConnectionInfo>,
        state: Arc<Http2State>,
        respond: SendResponse<Bytes>,
    ) -> Self {
        let max_discarded = listener.settings.max_discarded;
        let progress = StreamProgress::new(state.clone(), respond, max_discarded);
        Self {
            listener,
            info,
            state,
            progress: Arc::new(progress),
            is_head_request: false,
        }
    }

    /// Serves the stream to its end. If its client reads too slowly, the stream is dropped, which
    /// resets it; a panic ends the stream and closes the connection.
    pub(super) async fn run(self, request: Request<RecvStream>) {
        let (listener, state) = (self.listener.clone(), self.state.clone());
        let mut deadline = SendDeadline::new(self.progress.clone(), listener.settings.clone());
        let mut serve = pin!(self.serve(request));
        let failed = std::future::poll_fn(|context| {
            match catch_unwind(AssertUnwindSafe(|| serve.as_mut().poll(context))) {
                Ok(Poll::Ready(())) => Poll::Ready(None),
                Ok(Poll::Pending) => deadline
                    .poll_exceeded(context)
                    .map(|()| Some(ConnectionEndReason::SlowReader)),
                Err(_) => Poll::Ready(Some(ConnectionEndReason::Panic)),
            }
        })
        .await;
        if let Some(reason) = failed {
            listener.metrics.count(reason);
        }
        match failed {
            Some(ConnectionEndReason::Panic) => state.start_goaway(),
            Some(_) => state.record_slow_reader(),
            None => {}
        }
    }

    async fn serve(mut self, request: Request<RecvStream>) {
        // Rapid reset (CVE-2023-44487): a stream that was reset right behind its head costs no more.
        let was_reset =
            std::future::poll_fn(|context| Poll::Ready(self.progress.poll_reset(context)));
        if was_reset.await.is_ready() {
            self.state.count_reset();
            return;
        }
        let (mut head, incoming) = request.into_parts();
        self.is_head_request = head.method == Method::HEAD;
        let validated = request::validate(&mut head, self.listener.settings.head);
        let body = self.request_body(&head.headers, incoming);
        if let Err(error) = validated {
            drop(body);
            error.count(&self.listener.metrics);
            let rejection = self.listener.handler.reject(&self.info, &error.error);
            self.progress.set_last();
            return self.finish(rejection.map(ResponseBody::Rejection)).await;
        }
        let request = Request::from_parts(head, body);
        // Boxed: moved into this future by value it would take its size twice.
        let handling = Box::pin(self.listener.handler.handle(&self.info, request));
        let Some(response) = self.until_reset(handling).await else {
            self.state.count_reset();
            return;
        };
        if self.progress.has_malformed_trailers() {
            return self.reset_malformed();
        }
        let extensions = response.extensions();
        if extensions.get::<CloseAfterResponse>().is_some() {
            self.progress.set_last();
        }
        if extensions.get::<ClientAborted>().is_some() {
            self.state.count_reset();
        }
        self.finish(response.map(ResponseBody::Handler)).await;
    }

    /// Sends the response, then discards what the handler left unread of the request.
    ///
    /// The response comes first: a client that is still sending its body sees it, and stops. curl 7.88
    /// (Debian 12) loses a response that is followed at once by RST_STREAM or GOAWAY, so that both
    /// wait until the unread body has ended, or [`Self::discard_unread`] gives up.
    async fn finish(&self, response: Response<ResponseBody<H::Body>>) {
        let unread = self.progress.unread.take();
        let is_last = self.progress.is_last();
        if is_last && unread.is_none() {
            self.state.start_goaway();
        }
        self.send(response).await;
        if let Some(unread) = unread {
            Box::pin(self.discard_unread(unread)).await;
        }
        if is_last {
            self.state.start_goaway();
        }
    }

    /// Discards an unread body until it has ended, up to `max_discarded` and `linger_timeout`. If it is
    /// larger, the client is given [`RESET_DELAY`] to read the response; then the stream is reset.
    async fn discard_unread(&self, mut unread: UnreadBody) {
        let linger = self.listener.settings.linger_timeout;
        let discard = std::future::poll_fn(|context| unread.poll_discard(context));
        if let Ok(DiscardOutcome::Incomplete) = timeout(linger, discard).await {
            let ended = std::future::poll_fn(|context| unread.poll_ended(context));
            let _ = timeout(linger.min(RESET_DELAY), ended).await;
        }
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

    /// Waits for the handler's response; `None` once the client has reset the stream.
    async fn until_reset<T>(&self, mut handling: impl Future<Output = T> + Unpin) -> Option<T> {
        std::future::poll_fn(|context| {
            if let Poll::Ready(response) = Pin::new(&mut handling).poll(context) {
                return Poll::Ready(Some(response));
            }
            self.progress.poll_reset(context).map(|()| None)
        })
        .await
    }

    /// Sends a response with its body. To HEAD the body is dropped; its length stays announced.
    async fn send(&self, response: Response<ResponseBody<H::Body>>) {
        let (mut head, body) = response.into_parts();
        let has_body = !body.is_end_stream();
        let is_end = !has_body || self.is_head_request;
        complete_headers(
            &mut head.headers,
            body.size_hint().exact().filter(|_| has_body),
        );
        self.progress.set_pending(!is_end);
        let head = Response::from_parts(head, ());
        let Some(mut respond) = self.progress.take_respond() else {
            return;
        };
        match respond.send_response(head, is_end) {
            Ok(stream) if !is_end => {
                let mut sender = BodySender::new(body, stream, self.progress.clone());
                // How it ended is recorded by the body's own drop.
                let _ = std::future::poll_fn(|context| sender.poll_send(context)).await;
            }
            Ok(_) => {}
            Err(_) => respond.send_reset(h2::Reason::INTERNAL_ERROR),
        }
    }
}

/// Removes the connection-specific fields (RFC 9113, 8.2.2) and adds Date and Content-Length where
/// they are missing.
fn complete_headers(headers: &mut HeaderMap, content_length: Option<u64>) {
    for name in CONNECTION_SPECIFIC {
        headers.remove(name);
    }
    headers.entry(DATE).or_insert_with(date::header_value);
    if let Some(length) = content_length {
        headers
            .entry(CONTENT_LENGTH)
            .or_insert_with(|| HeaderValue::from(length));
    }
}

/// RFC 9113, 8.2.2.
const CONNECTION_SPECIFIC: [HeaderName; 5] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The deadline of a response whose client reads too slowly.
struct SendDeadline {
    progress: Arc<StreamProgress>,
    settings: Arc<Settings>,
    rate: SendRateMonitor,
    /// `rate` is the one for a connection's last response.
    is_last: bool,
    /// Created when a response first has to wait, so that most streams have no timer.
    timer: Option<Pin<Box<Sleep>>>,
}

impl SendDeadline {
    fn new(progress: Arc<StreamProgress>, settings: Arc<Settings>) -> Self {
        Self {
            rate: SendRateMonitor::new(&settings),
            progress,
            settings,
            is_last: false,
            timer: None,
        }
    }

    /// Ready when the client has read too slowly. Call it after each poll of the stream.
    fn poll_exceeded(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let has_pending = self.progress.has_pending();
            if !has_pending && self.timer.is_none() {
                return Poll::Pending;
            }
            if self.progress.is_last() && !self.is_last {
                self.is_last = true;
                self.rate = SendRateMonitor::for_last_response(&self.settings);
            }
            let sent = self.progress.sent();
            let deadline = match self.rate.observe(Instant::now(), sent, has_pending) {
                Err(_) => return Poll::Ready(()),
                Ok(None) => return Poll::Pending,
                Ok(Some(deadline)) => deadline,
            };
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

/// Time for a client with a large upload to read the response before its stream is reset: several
/// round trips, and short enough not to hold the connection's receive window.
const RESET_DELAY: Duration = Duration::from_secs(1);
