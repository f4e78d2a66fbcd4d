//! Serves one HTTP/1 connection: hyper reads and writes messages between the [`Gate`] and the
//! handler; the driver here decides, after every step, whether the connection may go on.

pub(super) mod state;
mod timeouts;
mod validating_io;

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use http::header::{CONNECTION, EXPECT};
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, ReadBuf};

use self::state::Http1State;
use self::timeouts::{End, Http1Timeouts};
use self::validating_io::ValidatingIo;
use super::body::RequestBody;
use super::connection::{ConnectionContext, ListenerContext};
use super::fuzzing::ScanOutcome;
use super::head::HeadLimits;
use super::head::request::to_origin_form;
use super::linger::{close, linger};
use super::stream::Stream;
use super::{ConnectionInfo, Handler, raw_response};
use crate::drain::{CloseAfterResponse, Phase, PhaseListener, Watch};
use crate::metrics::ConnectionEndReason;

/// Serves until the connection ends. No async function, whose future would keep room for what it was
/// given beside what it makes of it: this one is what an idle connection costs.
pub(super) fn serve<H: Handler>(
    stream: Stream,
    front: Arc<ListenerContext<H>>,
    life: ConnectionContext,
) -> impl Future<Output = ()> + Send {
    let exchange = Arc::new(Http1State::new(front.settings.max_discarded));
    let gate = ValidatingIo::new(stream, exchange.clone(), front.settings.head);
    let exchanges = Http1Service(Arc::new(ServiceContext {
        listener: front.clone(),
        info: life.info.clone(),
        state: exchange.clone(),
        drain: life.drain.clone(),
    }));
    let mut connection =
        builder(front.settings.head).serve_connection(TokioIo::new(gate), exchanges);
    async move {
        let end = drive(&mut connection, &front, &life, &exchange).await;
        if let Some(fault) = exchange.error() {
            fault.count(&front.metrics);
        }
        if let End::Abort(reason) | End::CloseCleanly(reason) = end {
            front.metrics.count(reason);
        }
        let time = front.settings.linger_timeout;
        let stream = connection.into_parts().io.into_inner().into_stream();
        match end {
            End::Abort(_) | End::ResponseBroken => stream.abort(),
            End::CloseCleanly(_) => Box::pin(close(stream, time)).await,
            // Nobody is left to read an answer.
            End::Finished if exchange.has_ended() => {}
            End::Finished => Box::pin(linger(stream, time)).await,
            End::Rejected => {
                if let Some(fault) = exchange.error() {
                    let answer = front.handler.reject(&life.info, &fault.error);
                    Box::pin(raw_response::send(stream, answer, time)).await;
                }
            }
        }
    }
}

fn builder(head: HeadLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // Deadlines are the driver's, and it counts with a finer clock.
    builder.header_read_timeout(None);
    builder.max_buf_size(head.size + MAX_WRITE_BUFFER);
    if head.fields > HYPER_DEFAULT_MAX_HEADERS {
        builder.max_headers(head.fields);
    }
    builder
}

/// Polls the connection and asks the pace after each step.
async fn drive<H: Handler>(
    connection: &mut http1::Connection<TokioIo<ValidatingIo<Stream>>, Http1Service<H>>,
    front: &ListenerContext<H>,
    life: &ConnectionContext,
    exchange: &Arc<Http1State>,
) -> End {
    let mut sleep = pin!(tokio::time::sleep(front.settings.header_timeout));
    let mut pace = Http1Timeouts::new(exchange.clone(), &front.settings, life, sleep.as_mut());
    let mut watch = life.drain.clone();
    let forced = pin!(watch.reached(Phase::Forced));
    let mut drain = PhaseListener::new(forced);
    std::future::poll_fn(|context| {
        if drain.poll_phase(context) {
            life.permit.activity().set_waker(context.waker());
        }
        if life.drain.phase() == Phase::Forced {
            return Poll::Ready(End::Abort(ConnectionEndReason::Drain));
        }
        loop {
            let polled = catch_unwind(AssertUnwindSafe(|| {
                Pin::new(&mut *connection).poll(context)
            }));
            match polled {
                Err(_) => return Poll::Ready(End::Abort(ConnectionEndReason::Panic)),
                Ok(Poll::Ready(Err(error))) if error.is_user() => {
                    return Poll::Ready(End::ResponseBroken);
                }
                Ok(Poll::Ready(_)) => return Poll::Ready(End::Finished),
                Ok(Poll::Pending) => {}
            }
            match pace.check(context) {
                Poll::Ready(Some(end)) => return Poll::Ready(end),
                Poll::Ready(None) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

/// The service that hyper calls for each request.
struct Http1Service<H>(Arc<ServiceContext<H>>);

/// What the requests of a connection share.
struct ServiceContext<H> {
    listener: Arc<ListenerContext<H>>,
    info: Arc<ConnectionInfo>,
    state: Arc<Http1State>,
    drain: Watch,
}

impl<H: Handler> Service<Request<Incoming>> for Http1Service<H> {
    type Response = Response<CountedBody<H::Body>>;
    type Error = Infallible;
    type Future = ResponseFuture<H>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let ends = self.0.clone();
        let (mut head, incoming) = request.into_parts();
        to_origin_form(&mut head);
        let waits = head.headers.contains_key(EXPECT);
        let body = RequestBody::http1(incoming, ends.state.clone(), waits);
        let request = Request::from_parts(head, body);
        ResponseFuture {
            response: Box::pin(ends.listener.handler.handle(&ends.info, request)),
            context: ends,
        }
    }
}

/// A request that is being answered.
struct ResponseFuture<H: Handler> {
    /// Boxed, so that an idle connection does not keep room for a request in flight.
    response: Pin<Box<dyn Future<Output = Response<H::Body>> + Send>>,
    context: Arc<ServiceContext<H>>,
}

impl<H: Handler> Future for ResponseFuture<H> {
    type Output = Result<Response<CountedBody<H::Body>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(self.response.as_mut().poll(context));
        let exchange = self.context.state.clone();
        let said = response.extensions().get::<CloseAfterResponse>().is_some();
        if said || closes_after_response(&exchange, &self.context.drain) {
            exchange.close_after_response();
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(response.map(|body| CountedBody {
            body,
            state: exchange,
        })))
    }
}

/// Will the connection take no request after this answer?
fn closes_after_response(exchange: &Http1State, watch: &Watch) -> bool {
    exchange.closes_after_response()
        || exchange.is_body_broken()
        || watch.phase() >= Phase::Notified
        || exchange.cannot_discard_unread_body()
}

/// The body of an answer; tells when hyper has taken all of it.
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
        self.state.count_response();
    }
}

/// All that the gate lets through of a stream that is never pending.
pub(super) fn scan_all(stream: impl AsyncRead + Unpin, limits: HeadLimits) -> ScanOutcome {
    let exchange = Arc::new(Http1State::new(0));
    let mut gate = ValidatingIo::new(stream, exchange.clone(), limits);
    let mut passed = Vec::new();
    let mut room = [0; 512];
    loop {
        let mut buffer = ReadBuf::new(&mut room);
        let mut context = Context::from_waker(Waker::noop());
        let polled = Pin::new(&mut gate).poll_read(&mut context, &mut buffer);
        passed.extend_from_slice(buffer.filled());
        if !matches!(polled, Poll::Ready(Ok(()))) || buffer.filled().is_empty() {
            return ScanOutcome {
                forwarded: passed,
                heads: exchange.heads(),
                error: exchange.error().map(|fault| fault.error.clone()),
            };
        }
    }
}

/// Of an answer that the client reads slowly, besides room for a head. hyper would hold 400 KiB, in
/// pieces that keep several times as much alive.
const MAX_WRITE_BUFFER: usize = 32 * 1024;

/// Above it hyper needs to be told, and allocates for each request.
const HYPER_DEFAULT_MAX_HEADERS: usize = 100;
