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

use self::state::Exchange;
use self::timeouts::{End, Pace};
use self::validating_io::Gate;
use super::body::RequestBody;
use super::connection::{Front, Life};
use super::fuzzing::Judged;
use super::head::HeadLimits;
use super::head::request::origin_form;
use super::linger::{close, linger};
use super::stream::Stream;
use super::{Handler, Peer, raw_response};
use crate::drain::{Follower, LastAnswer, Phase, Watch};
use crate::metrics::ConnectionEnded;

/// Serves until the connection ends. No async function, whose future would keep room for what it was
/// given beside what it makes of it: this one is what an idle connection costs.
pub(super) fn serve<H: Handler>(
    stream: Stream,
    front: Arc<Front<H>>,
    life: Life,
) -> impl Future<Output = ()> + Send {
    let exchange = Arc::new(Exchange::new(front.settings.max_discarded));
    let gate = Gate::new(stream, exchange.clone(), front.settings.head);
    let exchanges = Exchanges(Arc::new(Ends {
        front: front.clone(),
        peer: life.peer.clone(),
        exchange: exchange.clone(),
        watch: life.watch.clone(),
    }));
    let mut connection =
        builder(front.settings.head).serve_connection(TokioIo::new(gate), exchanges);
    async move {
        let end = drive(&mut connection, &front, &life, &exchange).await;
        if let Some(fault) = exchange.fault() {
            fault.count(&front.metrics);
        }
        if let End::By(reason) | End::Shut(reason) = end {
            front.metrics.count(reason);
        }
        let time = front.settings.linger_timeout;
        let stream = connection.into_parts().io.into_inner().into_stream();
        match end {
            End::By(_) | End::Cut => stream.abort(),
            End::Shut(_) => Box::pin(close(stream, time)).await,
            // Nobody is left to read an answer.
            End::Over if exchange.has_ended() => {}
            End::Over => Box::pin(linger(stream, time)).await,
            End::Refused => {
                if let Some(fault) = exchange.fault() {
                    let answer = front.handler.refuse(&life.peer, &fault.violation);
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
    builder.max_buf_size(head.size + BUFFER);
    if head.fields > HYPERS_MAX_HEADERS {
        builder.max_headers(head.fields);
    }
    builder
}

/// Polls the connection and asks the pace after each step.
async fn drive<H: Handler>(
    connection: &mut http1::Connection<TokioIo<Gate<Stream>>, Exchanges<H>>,
    front: &Front<H>,
    life: &Life,
    exchange: &Arc<Exchange>,
) -> End {
    let mut sleep = pin!(tokio::time::sleep(front.settings.header_timeout));
    let mut pace = Pace::new(exchange.clone(), &front.settings, life, sleep.as_mut());
    let mut watch = life.watch.clone();
    let forced = pin!(watch.reached(Phase::Forced));
    let mut drain = Follower::new(forced);
    std::future::poll_fn(|context| {
        if drain.follow(context) {
            life.permit.pulse().wake(context.waker());
        }
        if life.watch.phase() == Phase::Forced {
            return Poll::Ready(End::By(ConnectionEnded::Drain));
        }
        loop {
            let polled = catch_unwind(AssertUnwindSafe(|| {
                Pin::new(&mut *connection).poll(context)
            }));
            match polled {
                Err(_) => return Poll::Ready(End::By(ConnectionEnded::Panic)),
                Ok(Poll::Ready(Err(error))) if error.is_user() => return Poll::Ready(End::Cut),
                Ok(Poll::Ready(_)) => return Poll::Ready(End::Over),
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
struct Exchanges<H>(Arc<Ends<H>>);

/// What the requests of a connection share.
struct Ends<H> {
    front: Arc<Front<H>>,
    peer: Arc<Peer>,
    exchange: Arc<Exchange>,
    watch: Watch,
}

impl<H: Handler> Service<Request<Incoming>> for Exchanges<H> {
    type Response = Response<Answer<H::Body>>;
    type Error = Infallible;
    type Future = Handling<H>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let ends = self.0.clone();
        let (mut head, incoming) = request.into_parts();
        origin_form(&mut head);
        let waits = head.headers.contains_key(EXPECT);
        let body = RequestBody::http1(incoming, ends.exchange.clone(), waits);
        let request = Request::from_parts(head, body);
        Handling {
            response: Box::pin(ends.front.handler.handle(&ends.peer, request)),
            ends,
        }
    }
}

/// A request that is being answered.
struct Handling<H: Handler> {
    /// Boxed, so that an idle connection does not keep room for a request in flight.
    response: Pin<Box<dyn Future<Output = Response<H::Body>> + Send>>,
    ends: Arc<Ends<H>>,
}

impl<H: Handler> Future for Handling<H> {
    type Output = Result<Response<Answer<H::Body>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(self.response.as_mut().poll(context));
        let exchange = self.ends.exchange.clone();
        let said = response.extensions().get::<LastAnswer>().is_some();
        if said || is_last(&exchange, &self.ends.watch) {
            exchange.set_last();
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(response.map(|body| Answer { body, exchange })))
    }
}

/// Will the connection take no request after this answer?
fn is_last(exchange: &Exchange, watch: &Watch) -> bool {
    exchange.is_last()
        || exchange.is_body_broken()
        || watch.phase() >= Phase::Announced
        || exchange.is_leftover_hopeless()
}

/// The body of an answer; tells when hyper has taken all of it.
#[derive(Debug)]
struct Answer<B> {
    body: B,
    exchange: Arc<Exchange>,
}

impl<B: Body + Unpin> Body for Answer<B> {
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

impl<B> Drop for Answer<B> {
    fn drop(&mut self) {
        self.exchange.answered();
    }
}

/// All that the gate lets through of a stream that is never pending.
pub(super) fn judge_all(stream: impl AsyncRead + Unpin, limits: HeadLimits) -> Judged {
    let exchange = Arc::new(Exchange::new(0));
    let mut gate = Gate::new(stream, exchange.clone(), limits);
    let mut passed = Vec::new();
    let mut room = [0; 512];
    loop {
        let mut buffer = ReadBuf::new(&mut room);
        let mut context = Context::from_waker(Waker::noop());
        let polled = Pin::new(&mut gate).poll_read(&mut context, &mut buffer);
        passed.extend_from_slice(buffer.filled());
        if !matches!(polled, Poll::Ready(Ok(()))) || buffer.filled().is_empty() {
            return Judged {
                passed,
                heads: exchange.heads(),
                violation: exchange.fault().map(|fault| fault.violation.clone()),
            };
        }
    }
}

/// Of an answer that the client reads slowly, besides room for a head. hyper would hold 400 KiB, in
/// pieces that keep several times as much alive.
const BUFFER: usize = 32 * 1024;

/// Above it hyper needs to be told, and allocates for each request.
const HYPERS_MAX_HEADERS: usize = 100;
