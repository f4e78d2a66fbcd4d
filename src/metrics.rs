//! What is counted. Every family has a closed label set, known at compile time; each worker owns a
//! [`Shard`] of plain counters, so that counting shares no cache line, and the shards are summed when
//! somebody scrapes. Knows nobody: each stage counts what it sees.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A label value of one counter family.
pub trait Label: Copy {
    /// Its place among all counters of a shard.
    fn slot(self) -> usize;
}

/// Declares the families: metric name, help text, label name, and a closed set of values.
macro_rules! families {
    ($( $(#[$doc:meta])* $family:ident($name:literal, $help:literal, $label:literal)
        { $( $(#[$vdoc:meta])* $value:ident = $text:literal ),+ $(,)? } )+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, Eq, PartialEq)]
            pub enum $family { $( $(#[$vdoc])* $value ),+ }

            impl $family {
                /// Every value, in order.
                pub const ALL: &'static [Self] = &[ $( Self::$value ),+ ];

                /// The label's text.
                pub fn as_str(self) -> &'static str {
                    match self { $( Self::$value => $text ),+ }
                }
            }
        )+

        /// Where each family begins in a shard.
        struct Layout { $( $family: usize, )+ total: usize }

        const LAYOUT: Layout = {
            let mut next = 0;
            $( let $family = next; next += $family::ALL.len(); )+
            Layout { $( $family: $family, )+ total: next }
        };

        $(
            impl Label for $family {
                fn slot(self) -> usize { LAYOUT.$family + self as usize }
            }
        )+

        /// Every family: name, help, label name, first slot, label texts.
        fn families() -> Vec<(&'static str, &'static str, &'static str, usize, Vec<&'static str>)> {
            vec![ $( (
                $name, $help, $label, LAYOUT.$family,
                $family::ALL.iter().map(|value| value.as_str()).collect(),
            ) ),+ ]
        }
    };
}

#[allow(
    non_snake_case,
    reason = "the layout has one field per family, named after it"
)]
mod declared {
    use super::Label;

    families! {
        /// TLS handshakes.
        Handshake("handshakes", "TLS handshakes by result", "result") {
            /// Done.
            Ok = "ok",
            /// Refused or broken off.
            Failed = "failed",
            /// Not done in time.
            Timeout = "timeout",
        }
        /// What ended a connection before its peer did.
        ConnectionEnded("connections_ended", "Connections that the gateway ended, by reason", "reason") {
            /// Over the cap of all connections or of one address.
            Cap = "cap",
            /// Head not in time.
            HeaderTimeout = "header_timeout",
            /// Nothing asked for too long.
            Idle = "idle",
            /// Older than allowed.
            Age = "age",
            /// Not legal HTTP.
            Malformed = "malformed",
            /// Reads too slowly.
            SlowReader = "slow_reader",
            /// A drain.
            Drain = "drain",
            /// The cap of one address.
            AddressCap = "address_cap",
            /// A panic was caught.
            Panic = "panic",
        }
        /// Why a head was refused.
        Malformed("malformed_requests", "Requests refused because their head was not legal HTTP, by reason", "reason") {
            /// The request line.
            RequestLine = "request_line",
            /// The target, path games included.
            Target = "target",
            /// Host or :authority.
            Host = "host",
            /// Content-Length, Transfer-Encoding.
            Framing = "framing",
            /// A field name.
            FieldName = "field_name",
            /// A field value.
            FieldValue = "field_value",
            /// Too large.
            TooLarge = "too_large",
            /// Broken chunks.
            Body = "body",
            /// Neither HTTP/1.1 nor 1.0.
            Version = "version",
        }
        /// Verification of callers.
        Auth("auth", "Verification of callers by result", "result") {
            /// Verified.
            Ok = "ok",
            /// Without Authorization.
            Missing = "missing",
            /// Not of its form, or signed fields that were not sent.
            Malformed = "malformed",
            /// Another scheme.
            OtherScheme = "other_scheme",
            /// Outside the clock window.
            Stale = "stale",
            /// No such ak.
            UnknownKey = "unknown_key",
            /// A disabled ak.
            Disabled = "disabled",
            /// Wrong signature.
            WrongSignature = "wrong_signature",
            /// Forwarded as a stranger's.
            Forwarded = "forwarded",
        }
        /// What the cache did.
        CacheVerdict("cache_requests", "Recording-URL requests by what the cache did", "status") {
            /// Answered from the cache.
            Hit = "hit",
            /// Fetched and stored.
            Stored = "stored",
            /// Fetched, not stored.
            Miss = "miss",
            /// Waited for a fetch that was under way.
            Collapsed = "collapsed",
            /// The client said no-cache.
            NoCache = "no_cache",
            /// Inside the margin, given out because nodes failed.
            Stale = "stale_if_error",
            /// "No data yet", held for a moment.
            Negative = "negative",
            /// Not cacheable at all.
            Bypass = "bypass",
        }
        /// Renewals in the background.
        Refresh("cache_refresh", "Background renewals of cache entries by result", "result") {
            /// Stored anew.
            Ok = "ok",
            /// The old entry stays.
            Failed = "failed",
        }
        /// Limits.
        Limited("rate_limited", "Requests refused by a limit, by limiter", "limiter") {
            /// The ak's rate.
            AccessKey = "access_key",
            /// The ak's ceiling.
            Ceiling = "ceiling",
            /// The ak's requests in flight.
            InFlight = "access_key_in_flight",
            /// The client address.
            Address = "address",
        }
        /// Load that was shed.
        Shed("shed", "Requests refused because the gateway is at a cap, by cap", "reason") {
            /// Requests in flight.
            InFlight = "in_flight",
            /// Buffered request bodies.
            Buffered = "buffered",
        }
        /// Tries at nodes.
        Try("upstream_tries", "Tries at nodes by result", "result") {
            /// Answered.
            Ok = "ok",
            /// 5xx.
            ServerError = "server_error",
            /// Flow control.
            Busy = "busy",
            /// No connection.
            Unreachable = "unreachable",
            /// Broke off.
            Broken = "broken",
            /// Garbage.
            Garbage = "garbage",
            /// Too late.
            Timeout = "timeout",
            /// The client left.
            Cancelled = "cancelled",
        }
        /// Retries.
        Retry("upstream_retries", "Retries on another node, and those the budget refused", "result") {
            /// Made.
            Made = "made",
            /// No budget left.
            Exhausted = "budget_exhausted",
            /// A stale keep-alive connection, replaced by a new one to the same node.
            Reconnected = "reconnected",
        }
        /// The validation table.
        ValidationReject("validation_rejects", "Recording-URL requests refused as CC-FS would, by reason", "reason") {
            /// Null or missing.
            Null = "null",
            /// An empty string.
            Empty = "empty",
            /// Too long.
            TooLong = "too_long",
            /// The wrong form.
            Format = "format",
            /// The version.
            Version = "version",
            /// Begin later than end.
            Order = "order",
            /// More than three days.
            Span = "span",
            /// Not one JSON object.
            Body = "body",
        }
        /// Shadow mode.
        Shadow("shadow_invalid", "Invalid requests that shadow mode let through", "mode") {
            /// Forwarded as it came.
            Forwarded = "forwarded",
        }
        /// The access log.
        AccessLogLines("access_log_lines", "Access-log lines by what became of them", "result") {
            /// Written.
            Written = "written",
            /// Dropped because the writer could not keep up.
            Dropped = "dropped",
        }
        /// Every answer, by kind.
        Answered("requests", "Requests by outcome", "outcome") {
            /// A node's answer, passed through.
            Node = "node",
            /// From the cache.
            Cached = "cached",
            /// The validation table.
            InvalidRequest = "invalid_request",
            /// 400.
            Malformed = "malformed",
            /// 401.
            Unauthenticated = "unauthenticated",
            /// 404.
            NotFound = "not_found",
            /// 405.
            MethodNotAllowed = "method_not_allowed",
            /// 408.
            RequestTimeout = "request_timeout",
            /// 413.
            BodyTooLarge = "body_too_large",
            /// 415.
            UnsupportedMediaType = "unsupported_media_type",
            /// 431.
            HeadersTooLarge = "headers_too_large",
            /// 429.
            RateLimited = "rate_limited",
            /// 503.
            NoHealthyNode = "no_healthy_node",
            /// 503.
            Overloaded = "overloaded",
            /// 502.
            NodeFailed = "node_failed",
            /// 504.
            NodeTimeout = "node_timeout",
            /// 500.
            Internal = "internal",
            /// The client left before an answer.
            ClientGone = "client_gone",
        }
    }

    pub(super) const TOTAL: usize = LAYOUT.total;

    pub(super) fn all() -> Vec<(
        &'static str,
        &'static str,
        &'static str,
        usize,
        Vec<&'static str>,
    )> {
        families()
    }
}

pub use declared::{
    AccessLogLines, Answered, Auth, CacheVerdict, ConnectionEnded, Handshake, Limited, Malformed,
    Refresh, Retry, Shadow, Shed, Try, ValidationReject,
};

/// All shards of the program.
#[derive(Debug, Default)]
pub struct Metrics {
    shards: Mutex<Vec<Arc<Shard>>>,
}

impl Metrics {
    /// A further shard, for one worker.
    pub fn shard(&self) -> Arc<Shard> {
        let shard = Arc::new(Shard::new());
        self.lock().push(shard.clone());
        shard
    }

    /// The sum over all shards.
    pub fn sum(&self) -> Totals {
        let shards = self.lock();
        let mut totals = Totals {
            counters: vec![0; declared::TOTAL],
            durations: Histogram::default(),
        };
        for shard in shards.iter() {
            for (sum, counter) in totals.counters.iter_mut().zip(&shard.counters) {
                *sum += counter.load(Ordering::Relaxed);
            }
            totals.durations.add(&shard.durations);
        }
        totals
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Shard>>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The counters of one worker.
#[derive(Debug)]
pub struct Shard {
    counters: Box<[AtomicU64]>,
    durations: AtomicHistogram,
}

impl Shard {
    /// A shard that belongs to no program: for tests and tools.
    pub fn new() -> Self {
        Self {
            counters: (0..declared::TOTAL).map(|_| AtomicU64::new(0)).collect(),
            durations: AtomicHistogram::default(),
        }
    }

    /// Counts one.
    pub fn count(&self, label: impl Label) {
        if let Some(counter) = self.counters.get(label.slot()) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes the duration of one request.
    pub fn observe(&self, duration: Duration) {
        let bucket = BUCKETS_MS
            .iter()
            .position(|&limit| duration <= Duration::from_millis(limit));
        if let Some(counter) = self
            .durations
            .buckets
            .get(bucket.unwrap_or(BUCKETS_MS.len()))
        {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.durations
            .sum_micros
            .fetch_add(micros, Ordering::Relaxed);
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self::new()
    }
}

/// A sum over shards.
#[derive(Debug)]
pub struct Totals {
    counters: Vec<u64>,
    /// Durations of requests.
    pub durations: Histogram,
}

impl Totals {
    /// The count of one label value.
    pub fn get(&self, label: impl Label) -> u64 {
        self.counters.get(label.slot()).copied().unwrap_or_default()
    }

    /// Every family with its values: name, help, label name, and (label text, count) pairs.
    pub fn families(
        &self,
    ) -> impl Iterator<
        Item = (
            &'static str,
            &'static str,
            &'static str,
            Vec<(&'static str, u64)>,
        ),
    > {
        declared::all()
            .into_iter()
            .map(|(name, help, label, first, texts)| {
                let counts = self.counters.iter().skip(first).copied();
                (name, help, label, texts.into_iter().zip(counts).collect())
            })
    }
}

/// Upper bounds in milliseconds: denser where hits (1–50 ms) and node calls (0.2–8 s) live.
pub const BUCKETS_MS: [u64; 18] = [
    1, 2, 3, 5, 8, 12, 20, 35, 50, 100, 200, 400, 800, 1500, 3000, 5000, 8000, 30000,
];

/// Durations in buckets; the last bucket is everything above.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// One more than [`BUCKETS_MS`].
    pub buckets: [u64; BUCKETS_MS.len() + 1],
    /// Microseconds.
    pub sum_micros: u64,
}

impl Histogram {
    fn add(&mut self, other: &AtomicHistogram) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += bucket.load(Ordering::Relaxed);
        }
        self.sum_micros += other.sum_micros.load(Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct AtomicHistogram {
    buckets: [AtomicU64; BUCKETS_MS.len() + 1],
    sum_micros: AtomicU64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_summed_by_label() {
        let metrics = Metrics::default();
        let (one, two) = (metrics.shard(), metrics.shard());
        one.count(Auth::Ok);
        two.count(Auth::Ok);
        two.count(Auth::Stale);
        one.observe(Duration::from_millis(4));
        let totals = metrics.sum();
        assert_eq!(totals.get(Auth::Ok), 2);
        assert_eq!(totals.get(Auth::Stale), 1);
        assert_eq!(totals.get(Auth::Missing), 0);
        assert_eq!(totals.durations.buckets[3], 1);
        let (_, _, label, counts) = totals
            .families()
            .find(|(name, ..)| *name == "auth")
            .expect("declared above");
        assert_eq!(label, "result");
        assert!(counts.contains(&("ok", 2)));
    }
}
