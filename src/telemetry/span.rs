//! Finished spans and their queues. Each worker pushes to its own bounded queue, the export task drains
//! all of them. A request never waits for a collector and never wakes a thread; if the collector cannot
//! keep up, spans are dropped and counted.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use parking_lot::Mutex;

use super::{SampleRatio, TraceContext};
use crate::metrics::{Shard, TraceSpans};

/// The finished spans of one worker.
#[derive(Debug)]
pub struct SpanQueue {
    queue: Mutex<VecDeque<Span>>,
    sample_ratio: SampleRatio,
    /// Spans dropped since the last `take_dropped`.
    dropped: AtomicU64,
    metrics: Arc<Shard>,
}

impl SpanQueue {
    /// Creates an empty queue. `sample_ratio` applies to traces that start here; `metrics` counts dropped
    /// spans.
    pub fn new(sample_ratio: SampleRatio, metrics: Arc<Shard>) -> Self {
        Self {
            queue: Mutex::default(),
            sample_ratio,
            dropped: AtomicU64::new(0),
            metrics,
        }
    }

    /// Returns the ratio of recorded traces among those that start here.
    pub fn sample_ratio(&self) -> SampleRatio {
        self.sample_ratio
    }

    /// Appends a span, or drops it if the queue is full.
    pub fn push(&self, span: Span) {
        let mut queue = self.queue.lock();
        if queue.len() < QUEUE_LIMIT {
            queue.push_back(span);
        } else {
            drop(queue);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            self.metrics.count(TraceSpans::Dropped);
        }
    }

    /// Removes up to `most` spans, oldest first.
    pub fn take(&self, most: usize) -> Vec<Span> {
        let mut queue = self.queue.lock();
        let count = most.min(queue.len());
        queue.drain(..count).collect()
    }

    /// Returns and resets the number of dropped spans.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

/// A finished span.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Trace, span and parent ids.
    pub context: TraceContext,
    /// Client or server side.
    pub kind: Kind,
    /// The name, of low cardinality.
    pub name: Cow<'static, str>,
    /// Start time.
    pub started_at: Timestamp,
    /// End time.
    pub ended_at: Timestamp,
    /// Whether the gateway or a node failed.
    pub failed: bool,
    /// The attributes.
    pub attributes: Attributes,
}

/// The side of an exchange that a span describes (OpenTelemetry's span kind).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// An attempt at a node.
    Client,
    /// A request of a client.
    Server,
}

impl Span {
    /// Creates a span that started at `started_at` and took `elapsed`.
    pub fn new(
        context: TraceContext,
        started_at: Timestamp,
        elapsed: Duration,
        kind: Kind,
        name: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            context,
            kind,
            name: name.into(),
            started_at,
            ended_at: started_at.saturating_add(elapsed).unwrap_or(started_at),
            failed: false,
            attributes: Attributes::default(),
        }
    }

    /// Creates a span that ends now and took `elapsed`.
    pub fn ended_now(
        context: TraceContext,
        elapsed: Duration,
        kind: Kind,
        name: impl Into<Cow<'static, str>>,
    ) -> Self {
        #[expect(clippy::disallowed_methods, reason = "when a recorded try began")]
        let now = Timestamp::now();
        let started_at = now.saturating_sub(elapsed).unwrap_or(now);
        Self::new(context, started_at, elapsed, kind, name)
    }

    /// Returns the span with these attributes.
    #[must_use]
    pub fn with(self, attributes: Attributes) -> Self {
        Self { attributes, ..self }
    }

    /// Returns the span with the status failed or unset.
    #[must_use]
    pub fn failed(self, failed: bool) -> Self {
        Self { failed, ..self }
    }
}

/// Attribute names and values. Untrusted text is truncated to `TEXT_LIMIT` bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes(Vec<(&'static str, Value)>);

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A value of a closed set.
    Static(&'static str),
    /// A number.
    Number(i64),
    /// A configured or verified name.
    Shared(Arc<str>),
    /// Untrusted text, truncated.
    Text(String),
}

/// Each method adds an attribute; `None` adds nothing.
impl Attributes {
    /// Adds a value of a closed set.
    pub fn fixed(&mut self, name: &'static str, value: impl Into<Option<&'static str>>) {
        self.add(name, value.into().map(Value::Static));
    }

    /// Adds a number.
    pub fn number(&mut self, name: &'static str, value: impl Into<Option<i64>>) {
        self.add(name, value.into().map(Value::Number));
    }

    /// Adds a configured or verified name.
    pub fn shared<'a>(&mut self, name: &'static str, value: impl Into<Option<&'a Arc<str>>>) {
        self.add(name, value.into().cloned().map(Value::Shared));
    }

    /// Adds untrusted text, truncated.
    pub fn text<'a>(&mut self, name: &'static str, value: impl Into<Option<&'a str>>) {
        let cut = |text: &str| text[..text.floor_char_boundary(TEXT_LIMIT)].to_owned();
        self.add(name, value.into().map(cut).map(Value::Text));
    }

    fn add(&mut self, name: &'static str, value: Option<Value>) {
        self.0.extend(value.map(|value| (name, value)));
    }
}

impl IntoIterator for Attributes {
    type Item = (&'static str, Value);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Returns a method's name from OpenTelemetry's closed set (`http.request.method`).
pub fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::CONNECT => "CONNECT",
        Method::DELETE => "DELETE",
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::TRACE => "TRACE",
        _ => "_OTHER",
    }
}

/// Spans per worker: about 8 MB of typical spans, 16 MB at worst. 20,000 spans per second fit into one
/// flush interval.
const QUEUE_LIMIT: usize = 4096;

/// Bytes of one text attribute. Our choice: enough for a path or a user agent.
const TEXT_LIMIT: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn span() -> Span {
        let context = TraceContext::new_root(SampleRatio::new(1.0));
        Span::new(
            context,
            Timestamp::UNIX_EPOCH,
            Duration::from_millis(5),
            Kind::Server,
            "GET",
        )
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let metrics = Metrics::default();
        let spans = SpanQueue::new(SampleRatio::NONE, metrics.add_shard());
        for _ in 0..QUEUE_LIMIT + 3 {
            spans.push(span());
        }
        assert_eq!(metrics.sum().get(TraceSpans::Dropped), 3);
        assert_eq!((spans.take_dropped(), spans.take_dropped()), (3, 0));
        assert_eq!(spans.take(QUEUE_LIMIT - 1).len(), QUEUE_LIMIT - 1);
        assert_eq!(spans.take(100).len(), 1);
        assert!(spans.take(100).is_empty());
    }

    #[test]
    fn a_long_text_is_truncated_at_a_character_boundary() {
        let mut attributes = Attributes::default();
        let long = "x".to_owned() + &"\u{e9}".repeat(TEXT_LIMIT);
        attributes.text("a", &*long);
        attributes.text("b", None);
        let cut = Value::Text(long[..TEXT_LIMIT - 1].to_owned());
        assert_eq!(attributes.into_iter().collect::<Vec<_>>(), [("a", cut)]);
    }

    #[test]
    fn the_end_is_the_start_plus_the_duration() {
        assert_eq!(span().ended_at.as_millisecond(), 5);
    }
}
