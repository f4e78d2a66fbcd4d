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
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) content: Content,
}

impl Answer {
    /// One JSON object with HTTP 200.
    pub(super) fn json(value: &Value) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: JSON,
            content: Content::Whole(value.to_string().into()),
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
            content_type: FILE,
            content: Content::Generated(size),
        }
    }

    /// The page of something in front of the node that knows nothing of CC-FS.
    pub(super) fn page(status: StatusCode) -> Self {
        Self {
            status,
            content_type: "text/html",
            content: Content::Whole(format!("<html><body>{status}</body></html>").into()),
        }
    }
}

/// The bytes of an answer.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Made from the file pattern while it is sent.
    Generated(u64),
    /// In memory.
    Whole(Bytes),
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Generated(size) => *size,
            Self::Whole(bytes) => bytes.len() as u64,
        }
    }

    /// The piece at `offset`, at most `longest` bytes; empty at the end.
    pub(super) fn piece(&self, offset: u64, longest: usize) -> Bytes {
        let left = usize::try_from(self.len().saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = longest.min(left);
        match self {
            Self::Generated(_) => files::piece(offset, length),
            Self::Whole(bytes) => {
                let from = bytes.len() - left;
                bytes.slice(from..from + length)
            }
        }
    }
}

/// How an answer's body is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Wait so long before the first byte.
    pub(super) before: Duration,
    /// Send at most so many bytes at once.
    pub(super) piece: usize,
    /// Wait so long between two pieces.
    pub(super) between: Duration,
    /// Say the length beforehand? Otherwise the answer is chunked.
    pub(super) sized: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            before: Duration::ZERO,
            piece: PIECE,
            between: Duration::ZERO,
            sized: true,
        }
    }
}

/// The body of an answer, in pieces; constant memory whatever its length.
#[derive(Debug)]
pub(super) struct AnswerBody {
    content: Content,
    offset: u64,
    pace: Pace,
    wait: Option<Pin<Box<Sleep>>>,
}

impl AnswerBody {
    pub(super) fn new(content: Content, pace: Pace) -> Self {
        let wait = pause(pace.before);
        Self {
            content,
            offset: 0,
            pace,
            wait,
        }
    }
}

impl Body for AnswerBody {
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
        let piece = self.content.piece(self.offset, self.pace.piece);
        if piece.is_empty() {
            return Poll::Ready(None);
        }
        self.offset += piece.len() as u64;
        self.wait = pause(self.pace.between);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.offset == self.content.len()
    }

    fn size_hint(&self) -> SizeHint {
        if self.pace.sized {
            SizeHint::with_exact(self.content.len() - self.offset)
        } else {
            SizeHint::default()
        }
    }
}

fn pause(duration: Duration) -> Option<Pin<Box<Sleep>>> {
    (!duration.is_zero()).then(|| Box::pin(tokio::time::sleep(duration)))
}

/// As CC-FS writes it.
pub(super) const JSON: &str = "application/json;charset=UTF-8";

/// As CC-FS writes it, with this capital letter.
pub(super) const FILE: &str = "Application/Octet-stream;charset=UTF-8";

const PIECE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_body_has_the_length_it_announced() {
        for size in [0, 1, 65_521, 200_000] {
            let body = AnswerBody::new(Content::Generated(size), Pace::default());
            assert_eq!(body.size_hint().exact(), Some(size));
            let bytes = body.collect().await.unwrap().to_bytes();
            assert_eq!(bytes.len() as u64, size);
            assert!(files::matches(0, &bytes));
        }
    }

    #[tokio::test]
    async fn a_dripping_body_takes_its_time() {
        let begin = tokio::time::Instant::now();
        let pace = Pace {
            before: Duration::from_millis(3),
            piece: 1,
            between: Duration::from_millis(1),
            sized: false,
        };
        let body = AnswerBody::new(Content::Whole("abcd".into()), pace);
        assert_eq!(body.size_hint().exact(), None);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abcd");
        assert!(begin.elapsed() >= Duration::from_millis(6));
    }
}
