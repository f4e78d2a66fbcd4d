//! An answer of a node, before anything goes wrong with it, and its body as it is sent.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use serde_json::{Value, json};
use tokio::time::Sleep;

use super::files;

/// What a node has to say.
#[derive(Clone, Debug)]
pub(super) struct StandInResponse {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) content: Content,
}

impl StandInResponse {
    /// One JSON object with HTTP 200.
    pub(super) fn json(value: &Value) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: JSON_CONTENT_TYPE,
            content: Content::Full(value.to_string().into()),
        }
    }

    /// The envelope of a failure. CC-FS says everything with HTTP 200 but a wrong signature.
    pub(super) fn failure(status: StatusCode, code: &str, text: &str) -> Self {
        Self {
            status,
            ..Self::json(&json!({"resultData": null, "resultCode": code, "resultDesc": text}))
        }
    }

    /// A file of so many bytes.
    pub(super) fn file(size: u64) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: FILE_CONTENT_TYPE,
            content: Content::Generated(size),
        }
    }

    /// The page of something in front of the node that knows nothing of CC-FS.
    pub(super) fn html_page(status: StatusCode) -> Self {
        Self {
            status,
            content_type: "text/html",
            content: Content::Full(format!("<html><body>{status}</body></html>").into()),
        }
    }
}

/// The bytes of an answer.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Made from the file pattern while it is sent.
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

    /// The piece at `offset`, at most `longest` bytes; empty at the end.
    pub(super) fn chunk(&self, offset: u64, longest: usize) -> Bytes {
        let left = usize::try_from(self.len().saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = longest.min(left);
        match self {
            Self::Generated(_) => files::chunk(offset, length),
            Self::Full(bytes) => {
                let from = bytes.len() - left;
                bytes.slice(from..from + length)
            }
        }
    }
}

/// How an answer's body is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyPacing {
    /// Wait so long before the first byte.
    pub(super) initial_delay: Duration,
    /// Send at most so many bytes at once.
    pub(super) chunk_size: usize,
    /// Wait so long between two pieces.
    pub(super) chunk_interval: Duration,
    /// Say the length beforehand? Otherwise the answer is chunked.
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

/// The body of an answer, in pieces; constant memory whatever its length.
#[derive(Debug)]
pub(super) struct PacedBody {
    content: Content,
    offset: u64,
    pace: BodyPacing,
    wait: Option<Pin<Box<Sleep>>>,
}

impl PacedBody {
    pub(super) fn new(content: Content, pace: BodyPacing) -> Self {
        let wait = sleep_unless_zero(pace.initial_delay);
        Self {
            content,
            offset: 0,
            pace,
            wait,
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
        let piece = self.content.chunk(self.offset, self.pace.chunk_size);
        if piece.is_empty() {
            return Poll::Ready(None);
        }
        self.offset += piece.len() as u64;
        self.wait = sleep_unless_zero(self.pace.chunk_interval);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.offset == self.content.len()
    }

    fn size_hint(&self) -> SizeHint {
        if self.pace.has_content_length {
            SizeHint::with_exact(self.content.len() - self.offset)
        } else {
            SizeHint::default()
        }
    }
}

fn sleep_unless_zero(duration: Duration) -> Option<Pin<Box<Sleep>>> {
    (!duration.is_zero()).then(|| Box::pin(tokio::time::sleep(duration)))
}

/// As CC-FS writes it.
pub(super) const JSON_CONTENT_TYPE: &str = "application/json;charset=UTF-8";

/// As CC-FS writes it, with this capital letter.
pub(super) const FILE_CONTENT_TYPE: &str = "Application/Octet-stream;charset=UTF-8";

const DEFAULT_CHUNK_SIZE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_body_has_the_length_it_announced() {
        for size in [0, 1, 65_521, 200_000] {
            let body = PacedBody::new(Content::Generated(size), BodyPacing::default());
            assert_eq!(body.size_hint().exact(), Some(size));
            let bytes = body.collect().await.unwrap().to_bytes();
            assert_eq!(bytes.len() as u64, size);
            assert!(files::matches(0, &bytes));
        }
    }

    #[tokio::test]
    async fn a_dripping_body_takes_its_time() {
        let begin = tokio::time::Instant::now();
        let pace = BodyPacing {
            initial_delay: Duration::from_millis(3),
            chunk_size: 1,
            chunk_interval: Duration::from_millis(1),
            has_content_length: false,
        };
        let body = PacedBody::new(Content::Full("abcd".into()), pace);
        assert_eq!(body.size_hint().exact(), None);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abcd");
        assert!(begin.elapsed() >= Duration::from_millis(6));
    }
}
