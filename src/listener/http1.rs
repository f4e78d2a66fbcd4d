//! Serves one HTTP/1 connection: hyper reads and writes messages between [`ValidatingIo`] and the
//! handler; the driver decides after every step whether the connection may go on, and takes the socket
//! from hyper while the client is quiet.

mod socket;
pub(super) mod state;
mod timeouts;
pub(super) mod validating_io;
pub(super) mod waker;

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::{CONNECTION, EXPECT};
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::Service;

use self::socket::Socket;
use self::state::{Http1State, Reading};
use self::timeouts::{End, Http1Timeouts, Step};
use self::validating_io::ValidatingIo;
use super::body::RequestBody;
use super::context::{ConnectionContext, ListenerContext};
use super::driver::{self, drive};
use super::head::request::to_origin_form;
use super::linger::{close, linger};
use super::stream::Stream;
use super::{ConnectionInfo, Handler, raw_response};
use crate::drain::{CloseAfterResponse, Phase, Watch};
use crate::metrics::ConnectionEndReason;

/// Serves until the connection has ended.
///
/// Returns `impl Future` instead of being an `async fn`, whose future would store its arguments besides
/// the values made from them: the size of this future is the memory of an idle connection.
pub(super) fn serve<H: Handler>(
    stream: Stream,
    listener: Arc<ListenerContext<H>>,
    context: ConnectionContext,
) -> impl Future<Output = ()> + Send {
    let state = Arc::new(Http1State::new(listener.settings.max_discarded));
    let io = ValidatingIo::new(stream, state.clone(), listener.settings.head);
    let service = Http1Service(Arc::new(ServiceContext {
        listener: listener.clone(),
        info: context.info.clone(),
        state: state.clone(),
        drain: context.drain.clone(),
    }));
    let mut socket = Socket::new(io, service, listener.settings.head);
    async move {
        let end = {
            let mut sleep = pin!(tokio::time::sleep(listener.settings.header_timeout));
            let http1 = Http1Connection {
                socket: &mut socket,
                timeouts: Http1Timeouts::new(
                    state.clone(),
                    &listener.settings,
                    &context,
                    sleep.as_mut(),
                ),
            };
            drive(http1, &context).await
        };
        // Count why it ended.
        if let Some(error) = state.error() {
            error.count(&listener.metrics);
        }
        if let End::Abort(reason) | End::CloseCleanly(reason) = end {
            listener.metrics.count(reason);
        }
        // Close the socket as the end demands.
        let time = listener.settings.linger_timeout;
        let Some(stream) = socket.into_stream() else {
            return;
        };
        match end {
            End::Abort(_) | End::ResponseBroken => stream.abort(),
            End::CloseCleanly(_) => Box::pin(close(stream, time)).await,
            // The client has closed its side and reads no response.
            End::Finished if state.is_eof() => {}
            End::Finished => Box::pin(linger(stream, time)).await,
            End::Rejected => {
                if let Some(error) = state.error() {
                    let response = listener.handler.reject(&context.info, &error.error);
                    let message = if state.is_head_request() {
                        raw_response::serialize_head(&response)
                    } else {
                        raw_response::serialize(&response)
                    };
                    Box::pin(raw_response::send(stream, message, time)).await;
                }
            }
        }
    }
}

/// The socket with its timeouts, driven by [`drive`].
struct Http1Connection<'a, H: Handler> {
    socket: &'a mut Socket<H>,
    timeouts: Http1Timeouts<'a>,
}

impl<H: Handler> driver::Connection for Http1Connection<'_, H> {
    type End = End;

    fn poll_protocol(&mut self, context: &mut Context<'_>) -> Poll<End> {
        match ready!(self.socket.poll(context)) {
            Err(error) if error.is_user() => Poll::Ready(End::ResponseBroken),
            _ => Poll::Ready(End::Finished),
        }
    }

    fn poll_timeouts(&mut self, context: &mut Context<'_>) -> Poll<Option<End>> {
        match ready!(self.timeouts.check(self.socket.is_parked(), context)) {
            Step::PollAgain => Poll::Ready(None),
            Step::Park => {
                self.socket.park();
                Poll::Ready(None)
            }
            Step::End(end) => Poll::Ready(Some(end)),
        }
    }

    fn aborted(reason: ConnectionEndReason) -> End {
        End::Abort(reason)
    }
}

/// The service that hyper calls for each request.
struct Http1Service<H>(Arc<ServiceContext<H>>);

impl<H> Clone for Http1Service<H> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Shared by the requests of one connection.
struct ServiceContext<H> {
    listener: Arc<ListenerContext<H>>,
    info: Arc<ConnectionInfo>,
    state: Arc<Http1State>,
    drain: Watch,
}

impl<H> ServiceContext<H> {
    /// Whether the connection takes no further request after the current response.
    fn closes_after_response(&self) -> bool {
        self.state.closes_after_response()
            || self.state.reading() == Reading::RejectedBody
            || self.drain.phase() >= Phase::Notified
            || self.state.unread.cannot_be_discarded()
    }
}

impl<H: Handler> Service<Request<Incoming>> for Http1Service<H> {
    type Response = Response<CountedBody<H::Body>>;
    type Error = Infallible;
    type Future = ResponseFuture<H>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let context = self.0.clone();
        let (mut head, incoming) = request.into_parts();
        to_origin_form(&mut head);
        let expects_continue = head.headers.contains_key(EXPECT);
        let body = RequestBody::http1(incoming, context.state.clone(), expects_continue);
        let request = Request::from_parts(head, body);
        ResponseFuture {
            response: Box::pin(context.listener.handler.handle(&context.info, request)),
            context,
        }
    }
}

/// A request in flight; resolves to its response.
struct ResponseFuture<H: Handler> {
    /// Boxed, so that an idle connection does not hold the memory of a request in flight.
    response: Pin<Box<dyn Future<Output = Response<H::Body>> + Send>>,
    context: Arc<ServiceContext<H>>,
}

impl<H: Handler> Future for ResponseFuture<H> {
    type Output = Result<Response<CountedBody<H::Body>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(self.response.as_mut().poll(context));
        let state = self.context.state.clone();
        let close_requested = response.extensions().get::<CloseAfterResponse>().is_some();
        if close_requested || self.context.closes_after_response() {
            state.close_after_response();
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(response.map(|body| CountedBody { body, state })))
    }
}

/// A response body; counts the response when hyper has taken all of it, or drops it.
#[derive(Debug)]
struct CountedBody<B> {
    body: B,
    state: Arc<Http1State>,
}

impl<B: Body + Unpin> Body for CountedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for CountedBody<B> {
    fn drop(&mut self) {
        self.state.progress.count_response();
    }
}
