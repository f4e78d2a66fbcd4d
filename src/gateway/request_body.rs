//! Reads a request body completely: bounded in bytes, in time, and together with all other bodies.

use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;

use super::{Rejection, RequestContext};
use crate::ccfs::Endpoint;
use crate::config;
use crate::metrics::ShedReason;

/// Why a request body is incomplete.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BodyReadError {
    /// The client disconnected.
    #[error("the client disconnected")]
    ClientGone,
    /// Its framing is invalid.
    #[error("the framing of the body is invalid")]
    Malformed,
}

/// The limits of one body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    max_size: usize,
    timeout: Duration,
    is_upload: bool,
}

impl Limits {
    pub(super) fn new(limits: &config::Limits, endpoint: &Endpoint) -> Self {
        let size = if endpoint.is_upload {
            limits.max_upload_size
        } else {
            limits.max_body_size
        };
        Self {
            max_size: size,
            timeout: limits.body_timeout,
            is_upload: endpoint.is_upload,
        }
    }

    /// Rejects a body whose Content-Length is over the limit, before a byte of it is read.
    pub(super) fn check_content_length(&self, body: &impl Body) -> Result<(), Rejection> {
        let content_length = body.size_hint().lower();
        if usize::try_from(content_length).is_ok_and(|size| size <= self.max_size) {
            Ok(())
        } else {
            Err(Rejection::BodyTooLarge {
                limit: self.max_size,
            })
        }
    }

    /// Reads the body. One that arrived together with its head costs no timer and no copy.
    pub(super) async fn read<B>(
        &self,
        body: &mut B,
        context: &mut RequestContext,
    ) -> Result<Bytes, Rejection>
    where
        B: Body<Data = Bytes, Error = BodyReadError> + Unpin,
    {
        if self.is_upload {
            // A client is verified only after its body is read: uploads of unverified clients must not
            // keep out the small bodies of the recording-URL interface.
            context.guards.buffered.leave_quarter_free();
        }
        let mut collect = std::pin::pin!(self.collect(body, context));
        let poll_once = std::future::poll_fn(|cx| match collect.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => Poll::Ready(None),
        });
        if let Some(done) = poll_once.await {
            return done;
        }
        tokio::time::timeout(self.timeout, collect)
            .await
            .unwrap_or(Err(Rejection::RequestTimeout))
    }

    async fn collect<B>(
        &self,
        body: &mut B,
        context: &mut RequestContext,
    ) -> Result<Bytes, Rejection>
    where
        B: Body<Data = Bytes, Error = BodyReadError> + Unpin,
    {
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
        {
            let frame = frame.map_err(|error| match error {
                BodyReadError::ClientGone => Rejection::ClientGone,
                BodyReadError::Malformed => {
                    Rejection::Malformed("the framing of the body is invalid")
                }
            })?;
            // Trailers are never signed, so they end at this hop.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if first.len() + rest.len() + data.len() > self.max_size {
                return Err(Rejection::BodyTooLarge {
                    limit: self.max_size,
                });
            }
            if !context.guards.buffered.try_grow(data.len()) {
                return Err(Rejection::Overloaded(ShedReason::Buffered));
            }
            context.record.body_in += data.len() as u64;
            if first.is_empty() && rest.is_empty() {
                first = data;
            } else {
                rest.extend_from_slice(&std::mem::take(&mut first));
                rest.extend_from_slice(&data);
            }
            if body.is_end_stream() {
                break;
            }
        }
        Ok(if rest.is_empty() {
            first
        } else {
            rest.freeze()
        })
    }
}
