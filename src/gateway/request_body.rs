//! Reads a request body whole: bounded in bytes, in time, and together with all other bodies.

use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;

use super::{Rejection, RequestContext};
use crate::ccfs::Endpoint;
use crate::config;
use crate::metrics::ShedReason;

/// Why a body did not come whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BodyReadError {
    /// The client is gone.
    #[error("the client left")]
    ClientGone,
    /// Its framing is broken.
    #[error("the framing of the body is broken")]
    Malformed,
}

/// What holds for one body.
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

    /// Refuses a body whose announced length is over the limit, before a byte of it is read.
    pub(super) fn check_content_length(&self, body: &impl Body) -> Result<(), Rejection> {
        let announced = body.size_hint().lower();
        if usize::try_from(announced).is_ok_and(|size| size <= self.max_size) {
            Ok(())
        } else {
            Err(Rejection::BodyTooLarge {
                limit: self.max_size,
            })
        }
    }

    /// Reads all of it. A body that came with its head costs no timer and no copy.
    pub(super) async fn read<B>(
        &self,
        body: &mut B,
        exchange: &mut RequestContext,
    ) -> Result<Bytes, Rejection>
    where
        B: Body<Data = Bytes, Error = BodyReadError> + Unpin,
    {
        if self.is_upload {
            // Nobody is verified before his body is read: strangers' uploads must not keep out the
            // small bodies of the main job.
            exchange.guards.buffered.leave_quarter_free();
        }
        let mut whole = std::pin::pin!(self.collect(body, exchange));
        let at_once = std::future::poll_fn(|cx| match whole.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => Poll::Ready(None),
        });
        if let Some(done) = at_once.await {
            return done;
        }
        tokio::time::timeout(self.timeout, whole)
            .await
            .unwrap_or(Err(Rejection::RequestTimeout))
    }

    async fn collect<B>(
        &self,
        body: &mut B,
        exchange: &mut RequestContext,
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
                BodyReadError::Malformed => Rejection::Malformed("the body's framing is broken"),
            })?;
            // Trailers carry nothing that is signed: they end here.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if first.len() + rest.len() + data.len() > self.max_size {
                return Err(Rejection::BodyTooLarge {
                    limit: self.max_size,
                });
            }
            if !exchange.guards.buffered.try_grow(data.len()) {
                return Err(Rejection::Overloaded(ShedReason::Buffered));
            }
            exchange.record.body_in += data.len() as u64;
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
