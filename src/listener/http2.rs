//! Serves one HTTP/2 connection over h2. Each stream is a task of its own, reset when its client
//! reads too slowly; the driver bounds what the connection as a whole may do: first request, header
//! blocks, idle time, age, drain.

mod control_frame_budget;
mod counting_io;
mod frame;
pub(super) mod frame_counter;
pub(super) mod header_blocks;
mod hpack;
pub(super) mod incoming;
mod response_body;
mod response_fields;
mod send_deadline;
mod state;
mod stream;
pub(super) mod stream_progress;
mod timeouts;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use h2::{Ping, PingPong, RecvStream};
use http::Request;

use self::counting_io::CountingIo;
use self::header_blocks::Defect;
use self::state::Http2State;
use self::stream::StreamTask;
use self::timeouts::{Http2Timeouts, Next};
use super::context::{ConnectionContext, ListenerContext};
use super::driver::{self, drive};
use super::head::request::TargetHadFragment;
use super::stream::Stream;
use super::{Handler, Settings};
use crate::metrics::ConnectionEndReason;

/// Serves until the connection has ended.
pub(super) async fn serve<H: Handler>(
    stream: Stream,
    listener: Arc<ListenerContext<H>>,
    context: ConnectionContext,
) {
    let state = Arc::new(Http2State::new(listener.settings.http2.max_resets));
    let io = CountingIo::new(stream, state.clone());
    let mut sleep = pin!(tokio::time::sleep(listener.settings.header_timeout));
    let connection = Http2Connection {
        protocol: Protocol::Handshaking(builder(&listener.settings).handshake(io)),
        pings: None,
        timeouts: Http2Timeouts::new(&state, &listener.settings, &context, sleep.as_mut()),
        listener: &listener,
        context: &context,
        state: &state,
    };
    if let Some(reason) = drive(connection, &context).await {
        listener.metrics.count(reason);
    }
}

fn builder(settings: &Settings) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(settings.http2.max_concurrent_streams)
        .max_header_list_size(MAX_HEADER_LIST_SIZE)
        .max_pending_accept_reset_streams(settings.http2.max_resets)
        .max_local_error_reset_streams(Some(settings.http2.max_resets))
        .initial_window_size(settings.http2.stream_window)
        .initial_connection_window_size(settings.http2.connection_window)
        .max_send_buffer_size(MAX_SEND_BUFFER);
    builder
}

/// One HTTP/2 connection, driven by [`drive`].
struct Http2Connection<'a, H> {
    protocol: Protocol,
    /// Set once the connection preface has been exchanged.
    pings: Option<PingPong>,
    timeouts: Http2Timeouts<'a>,
    listener: &'a Arc<ListenerContext<H>>,
    context: &'a ConnectionContext,
    state: &'a Arc<Http2State>,
}

/// h2's two types for one connection.
enum Protocol {
    /// The connection preface (RFC 9113, 3.4) is being exchanged.
    Handshaking(Handshake<CountingIo<Stream>, Bytes>),
    Serving(Connection<CountingIo<Stream>, Bytes>),
}

impl<H: Handler> Http2Connection<'_, H> {
    /// Accepts streams until h2 has ended the connection.
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            match &mut self.protocol {
                Protocol::Handshaking(handshake) => {
                    let mut connection = ready!(Pin::new(handshake).poll(context))?;
                    self.pings = connection.ping_pong();
                    if self.timeouts.is_goaway_sent() {
                        connection.graceful_shutdown();
                    }
                    self.protocol = Protocol::Serving(connection);
                }
                Protocol::Serving(connection) => {
                    if self.state.has_too_many_resets() {
                        connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
                    }
                    match ready!(connection.poll_accept(context)) {
                        None => return Poll::Ready(Ok(())),
                        Some(accepted) => {
                            let (request, respond) = accepted?;
                            self.start_stream(request, respond);
                        }
                    }
                }
            }
        }
    }

    /// Spawns the task of a stream, or refuses the stream if the connection takes none.
    #[expect(
        clippy::disallowed_methods,
        reason = "a spawn site: the task ends with its stream, which ends with its connection"
    )]
    fn start_stream(&self, mut request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        if self.state.is_going_away() {
            self.state.count_refused();
            respond.send_reset(h2::Reason::REFUSED_STREAM);
            return;
        }
        if self.state.is_headers_undecodable() {
            respond.send_reset(h2::Reason::PROTOCOL_ERROR);
            return;
        }
        let stream = respond.stream_id().as_u32();
        if self.state.take_finding(stream, Defect::Fragment) {
            request.extensions_mut().insert(TargetHadFragment);
        }
        tokio::spawn(StreamTask::new(
            self.listener.clone(),
            self.context.info.clone(),
            self.state.clone(),
            request,
            respond,
        ));
    }

    fn end(&self, result: Result<(), h2::Error>) -> Option<ConnectionEndReason> {
        let address = self.context.info.client_address;
        match result {
            _ if self.state.is_flooded() => {
                tracing::debug!(%address, "HTTP/2 control frame flood");
                Some(ConnectionEndReason::ControlFlood)
            }
            _ if self.state.has_too_many_resets() => {
                tracing::debug!(%address, "too many HTTP/2 streams reset by the client");
                Some(ConnectionEndReason::ProtocolError)
            }
            Err(error) if !error.is_io() => {
                tracing::debug!(%address, %error, "HTTP/2 protocol error");
                Some(ConnectionEndReason::ProtocolError)
            }
            _ => None,
        }
    }

    /// Sends GOAWAY; before the preface it is sent right after it.
    fn send_goaway(&mut self) {
        if let Protocol::Serving(connection) = &mut self.protocol {
            connection.graceful_shutdown();
        }
    }

    /// Sends a final GOAWAY if the socket takes it at once; the connection is dropped next.
    fn close(&mut self, context: &mut Context<'_>) {
        if let Protocol::Serving(connection) = &mut self.protocol {
            connection.abrupt_shutdown(h2::Reason::NO_ERROR);
            let _ = connection.poll_closed(context);
        }
    }

    fn send_ping(&mut self, context: &mut Context<'_>) {
        if let Some(pings) = &mut self.pings {
            // h2 sends no PING before the acknowledgement of the one before has been taken.
            let _ = pings.poll_pong(context);
            // Should it fail, the connection is ending, which the next poll shows.
            let _ = pings.send_ping(Ping::opaque());
        }
    }
}

impl<H: Handler> driver::Connection for Http2Connection<'_, H> {
    /// The reason to count, unless it has been counted already.
    type End = Option<ConnectionEndReason>;

    fn poll_protocol(&mut self, context: &mut Context<'_>) -> Poll<Self::End> {
        let result = ready!(self.poll_accept(context));
        Poll::Ready(self.end(result))
    }

    fn poll_timeouts(&mut self, context: &mut Context<'_>) -> Poll<Option<Self::End>> {
        self.state.set_driver(context.waker());
        match self.timeouts.check(context) {
            Next::Wait => return Poll::Pending,
            Next::Close(reason) => {
                self.close(context);
                return Poll::Ready(Some(reason));
            }
            Next::Ping => self.send_ping(context),
            Next::Goaway(reason) => {
                if let Some(reason) = reason {
                    self.listener.metrics.count(reason);
                }
                self.send_goaway();
            }
        }
        Poll::Ready(None)
    }

    fn aborted(reason: ConnectionEndReason) -> Self::End {
        Some(reason)
    }
}

/// Above [`HeadLimits`](super::HeadLimits), which answer with our own error response; h2 answers 431
/// without a body.
const MAX_HEADER_LIST_SIZE: u32 = 64 * 1024;

/// Bytes that h2 buffers of one stream's response; four frames of the default size, so that a client
/// with a large window is kept busy while others have their turn.
const MAX_SEND_BUFFER: usize = 64 * 1024;
