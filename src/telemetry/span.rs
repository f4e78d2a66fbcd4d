//! Finished spans on their way to a collector: a worker puts its own into a bounded queue, somebody
//! who is no worker takes them out. A request never waits for a collector and never wakes a thread;
//! when the collector cannot keep up, spans are dropped and counted.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;
use jiff::Timestamp;

use super::{SampleRatio, TraceContext};
use crate::metrics::{Shard, TraceSpans};

/// The finished spans of one worker.
#[derive(Debug)]
pub struct SpanQueue {
    queue: Mutex<VecDeque<Span>>,
    sample_ratio: SampleRatio,
    /// Since somebody last asked.
    dropped: AtomicU64,
    metrics: Arc<Shard>,
}

impl SpanQueue {
    /// An empty queue; `share` of the traces that begin here are recorded, and `metrics` counts what
    /// is dropped.
    pub fn new(share: SampleRatio, metrics: Arc<Shard>) -> Self {
        Self {
            queue: Mutex::default(),
            sample_ratio: share,
            dropped: AtomicU64::new(0),
            metrics,
        }
    }

    /// The share of the traces begun here that is recorded.
    pub fn sample_ratio(&self) -> SampleRatio {
        self.sample_ratio
    }

    /// Puts a span in; drops it if the queue is full.
    pub fn push(&self, span: Span) {
        let mut queue = self.lock();
        if queue.len() < QUEUE_LIMIT {
            queue.push_back(span);
        } else {
            drop(queue);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            self.metrics.count(TraceSpans::Dropped);
        }
    }

    /// Takes at most `most` out, oldest first.
    pub fn take(&self, most: usize) -> Vec<Span> {
        let mut queue = self.lock();
        let count = most.min(queue.len());
        queue.drain(..count).collect()
    }

    /// How many were dropped since this was asked last.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Span>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A span that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Its ids.
    pub context: TraceContext,
    /// Which end of an exchange it tells of.
    pub kind: Kind,
    /// Of few values.
    pub name: Cow<'static, str>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Did the gateway, or a node, fail?
    pub failed: bool,
    /// What is known of it.
    pub attributes: Attributes,
}

/// Which end of an exchange a span tells of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The end that asked.
    Client,
    /// The end that answered.
    Server,
}

impl Span {
    /// A span that began at `started_at` and took `elapsed`.
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

    /// A span that ends now and took `elapsed`.
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

    /// The same with attributes.
    #[must_use]
    pub fn with(self, attributes: Attributes) -> Self {
        Self { attributes, ..self }
    }

    /// The same, failed or not.
    #[must_use]
    pub fn failed(self, failed: bool) -> Self {
        Self { failed, ..self }
    }
}

/// Names and values. A text from outside is cut to `TEXT_LIMIT` bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes(Vec<(&'static str, Value)>);

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A label.
    Static(&'static str),
    /// A number.
    Number(i64),
    /// A name of the configuration, or one that was verified.
    Shared(Arc<str>),
    /// Text from outside.
    Text(String),
}

/// Each method adds an attribute, or none for no value.
impl Attributes {
    /// A label.
    pub fn fixed(&mut self, name: &'static str, value: impl Into<Option<&'static str>>) {
        self.add(name, value.into().map(Value::Static));
    }

    /// A number.
    pub fn number(&mut self, name: &'static str, value: impl Into<Option<i64>>) {
        self.add(name, value.into().map(Value::Number));
    }

    /// A name of the configuration, or one that was verified.
    pub fn shared<'a>(&mut self, name: &'static str, value: impl Into<Option<&'a Arc<str>>>) {
        self.add(name, value.into().cloned().map(Value::Shared));
    }

    /// Text from outside.
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

/// The name of a method as OpenTelemetry wants it: of a closed set.
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

/// Per worker: some 8 MB of ordinary spans, twice that at worst; 20,000 spans a second fit.
const QUEUE_LIMIT: usize = 4096;

/// Of one attribute.
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
    fn a_long_text_is_cut_between_two_characters() {
        let mut attributes = Attributes::default();
        let long = "x".to_owned() + &"\u{e9}".repeat(TEXT_LIMIT);
        attributes.text("a", &*long);
        attributes.text("b", None);
        let cut = Value::Text(long[..TEXT_LIMIT - 1].to_owned());
        assert_eq!(attributes.into_iter().collect::<Vec<_>>(), [("a", cut)]);
    }

    #[test]
    fn a_span_ends_when_its_time_is_over() {
        assert_eq!(span().ended_at.as_millisecond(), 5);
    }
}
