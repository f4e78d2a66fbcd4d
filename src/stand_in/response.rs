//! A response of a node before faults are applied, and the pacing of its body.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use serde_json::{Value, json};
use tokio::time::Sleep;

use super::files;
use super::flow_limits::FlowPermit;

/// A response of a node.
#[derive(Clone, Debug)]
pub(super) struct StandInResponse {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) content: Content,
}

impl StandInResponse {
    /// Creates a 200 response with a JSON object.
    pub(super) fn json(value: &Value) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: JSON_CONTENT_TYPE,
            content: Content::Full(value.to_string().into()),
        }
    }

    /// Creates an error envelope. CC-FS uses HTTP 200 for all errors but an invalid signature.
    pub(super) fn failure(status: StatusCode, code: &str, text: &str) -> Self {
        Self {
            status,
            ..Self::json(&json!({"resultData": null, "resultCode": code, "resultDesc": text}))
        }
    }

    /// Creates a response with a file of this size in bytes.
    pub(super) fn file(size: u64) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: FILE_CONTENT_TYPE,
            content: Content::Generated(size),
        }
    }

    /// Creates an HTML page, as of a proxy in front of the node.
    pub(super) fn html_page(status: StatusCode) -> Self {
        Self {
            status,
            content_type: "text/html",
            content: Content::Full(format!("<html><body>{status}</body></html>").into()),
        }
    }
}

/// The body of a response.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Generated from the file pattern while it is sent; its length in bytes.
    Generated(u64),
    /// In memory.
    Full(Bytes),
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Generated(size) => *size,
            Self::Full(bytes) => bytes.len() as u64,
        }
    }

    /// Returns at most `longest` bytes from `offset`; empty at the end.
    pub(super) fn chunk(&self, offset: u64, longest: usize) -> Bytes {
        let remaining = usize::try_from(self.len().saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = longest.min(remaining);
        match self {
            Self::Generated(_) => files::chunk(offset, length),
            Self::Full(bytes) => {
                let from = bytes.len() - remaining;
                bytes.slice(from..from + length)
            }
        }
    }
}

/// How the body of a response is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyPacing {
    /// Delay before the first chunk.
    pub(super) initial_delay: Duration,
    /// Maximum size of a chunk in bytes.
    pub(super) chunk_size: usize,
    /// Delay between two chunks.
    pub(super) chunk_interval: Duration,
    /// Whether the response has a Content-Length; otherwise it is chunked.
    pub(super) has_content_length: bool,
}

impl Default for BodyPacing {
    fn default() -> Self {
        Self {
            initial_delay: Duration::ZERO,
            chunk_size: DEFAULT_CHUNK_SIZE,
            chunk_interval: Duration::ZERO,
            has_content_length: true,
        }
    }
}

/// A response body that is sent in paced chunks, in constant memory.
#[derive(Debug)]
pub(super) struct PacedBody {
    content: Content,
    offset: u64,
    pacing: BodyPacing,
    wait: Option<Pin<Box<Sleep>>>,
    /// Counts the request as one at once until its body is sent.
    _permit: Option<FlowPermit>,
}

impl PacedBody {
    pub(super) fn new(content: Content, pacing: BodyPacing, permit: Option<FlowPermit>) -> Self {
        let wait = sleep_unless_zero(pacing.initial_delay);
        Self {
            content,
            offset: 0,
            pacing,
            wait,
            _permit: permit,
        }
    }
}

impl Body for PacedBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(wait) = self.wait.as_mut() {
            ready!(wait.as_mut().poll(context));
            self.wait = None;
        }
        let chunk = self.content.chunk(self.offset, self.pacing.chunk_size);
        if chunk.is_empty() {
            return Poll::Ready(None);
        }
        self.offset += chunk.len() as u64;
        self.wait = sleep_unless_zero(self.pacing.chunk_interval);
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.offset == self.content.len()
    }

    fn size_hint(&self) -> SizeHint {
        if self.pacing.has_content_length {
            SizeHint::with_exact(self.content.len() - self.offset)
        } else {
            SizeHint::default()
        }
    }
}

fn sleep_unless_zero(duration: Duration) -> Option<Pin<Box<Sleep>>> {
    (!duration.is_zero()).then(|| Box::pin(tokio::time::sleep(duration)))
}

/// The content type of JSON as CC-FS writes it.
pub(super) const JSON_CONTENT_TYPE: &str = "application/json;charset=UTF-8";

/// The content type of files as CC-FS writes it, with this capital letter.
pub(super) const FILE_CONTENT_TYPE: &str = "Application/Octet-stream;charset=UTF-8";

const DEFAULT_CHUNK_SIZE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_body_has_the_length_it_announced() {
        for size in [0, 1, 65_521, 200_000] {
            let body = PacedBody::new(Content::Generated(size), BodyPacing::default(), None);
            assert_eq!(body.size_hint().exact(), Some(size));
            let bytes = body.collect().await.unwrap().to_bytes();
            assert_eq!(bytes.len() as u64, size);
            assert!(files::matches(0, &bytes));
        }
    }

    #[tokio::test]
    async fn a_paced_body_keeps_its_delays() {
        let start = tokio::time::Instant::now();
        let pacing = BodyPacing {
            initial_delay: Duration::from_millis(3),
            chunk_size: 1,
            chunk_interval: Duration::from_millis(1),
            has_content_length: false,
        };
        let body = PacedBody::new(Content::Full("abcd".into()), pacing, None);
        assert_eq!(body.size_hint().exact(), None);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abcd");
        assert!(start.elapsed() >= Duration::from_millis(6));
    }
}
