//! The families that need no labels but closed ones, and the closed sets themselves.

/// A label value of one counter family.
pub trait Label: Copy {
    /// Its place among all counters of a shard.
    fn slot(self) -> usize;
}

/// A family as it is exposed.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Without prefix and `_total`.
    pub name: &'static str,
    /// The help text.
    pub help: &'static str,
    /// Label names, separated by commas; empty for a family of one counter.
    pub labels: &'static str,
    /// Label values in the order of the counters, each separated by commas like the names.
    pub values: &'static [&'static str],
    /// The place of its first counter in a shard.
    pub(super) first: usize,
}

/// Declares closed sets.
macro_rules! closed {
    ($( $(#[$doc:meta])* $set:ident { $( $(#[$vdoc:meta])* $value:ident = $text:literal ),+ $(,)? } )+) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum $set { $( $(#[$vdoc])* $value ),+ }

        impl $set {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[ $( Self::$value ),+ ];

            /// The label's text.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$value => $text ),+ }
            }
        }
    )+ };
}

/// Declares families: metric name, help text, label names, and a closed set of values.
macro_rules! families {
    ($( $(#[$doc:meta])* $family:ident($name:literal, $help:literal, $labels:literal)
        { $( $(#[$vdoc:meta])* $value:ident = $text:literal ),+ $(,)? } )+) => {
        closed! { $( $(#[$doc])* $family { $( $(#[$vdoc])* $value = $text ),+ } )+ }

        /// Where each family begins in a shard.
        #[allow(non_snake_case, reason = "one field per family, named after it")]
        struct Layout { $( $family: usize, )+ total: usize }

        #[allow(non_snake_case, reason = "one place per family, named after it")]
        const LAYOUT: Layout = {
            let mut next = 0;
            $( let $family = next; next += $family::ALL.len(); )+
            Layout { $( $family, )+ total: next }
        };

        $(
            impl Label for $family {
                fn slot(self) -> usize { LAYOUT.$family + self as usize }
            }
        )+

        /// Every family.
        pub(super) const FAMILIES: &[Family] = &[ $( Family {
            name: $name, help: $help, labels: $labels,
            values: &[ $( $text ),+ ], first: LAYOUT.$family,
        } ),+ ];
    };
}

mod sets;

pub use sets::{Limiter, RequestOutcome, ResultClass, StatusClass};

/// How many counters a shard has.
pub(super) const TOTAL: usize = LAYOUT.total;

families! {
    /// TLS handshakes.
    HandshakeResult("handshakes", "TLS handshakes by result", "result") {
        /// Done.
        Ok = "ok",
        /// Refused or broken off.
        Failed = "failed",
        /// Not done in time.
        Timeout = "timeout",
    }
    /// What ended a connection before its peer did.
    ConnectionEndReason("connections_ended", "Connections that the gateway ended, by reason", "reason") {
        /// Over the cap of all connections or of one address.
        ConnectionLimit = "cap",
        /// Head not in time.
        HeaderTimeout = "header_timeout",
        /// Nothing asked for too long.
        IdleTimeout = "idle",
        /// Older than allowed.
        MaxAge = "age",
        /// Not legal HTTP.
        Malformed = "malformed",
        /// HTTP/2 that breaks a rule of the protocol, or floods.
        ProtocolError = "protocol",
        /// HTTP/2 control frames beyond what an honest client sends.
        ControlFlood = "control_flood",
        /// Reads too slowly.
        SlowReader = "slow_reader",
        /// A drain.
        Drain = "drain",
        /// The cap of one address.
        AddressLimit = "address_cap",
        /// A panic was caught.
        Panic = "panic",
    }
    /// Why a head was refused.
    MalformedReason("malformed_requests", "Requests refused because their head was not legal HTTP, by reason", "reason") {
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
    AuthResult("auth", "Verification of callers by result", "result") {
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
    CacheStatus("cache_requests", "Recording-URL requests by what the cache did", "status") {
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
        StaleIfError = "stale_if_error",
        /// "No data yet", held for a moment.
        Negative = "negative",
        /// Not cacheable at all.
        Bypass = "bypass",
    }
    /// Renewals in the background.
    RefreshResult("cache_refresh", "Background renewals of cache entries by result", "result") {
        /// Stored anew.
        Ok = "ok",
        /// The old entry stays.
        Failed = "failed",
    }
    /// Load that was shed.
    ShedReason("shed", "Requests refused because the gateway is at a cap, by cap", "reason") {
        /// Requests in flight.
        InFlight = "in_flight",
        /// Buffered request bodies.
        Buffered = "buffered",
    }
    /// Tries at nodes.
    Attempt("upstream_tries", "Tries at nodes by result", "result") {
        /// Answered.
        Ok = "ok",
        /// 5xx.
        ServerError = "server_error",
        /// Flow control.
        FlowControl = "busy",
        /// No connection.
        ConnectFailed = "unreachable",
        /// Broke off.
        ConnectionClosed = "broken",
        /// Garbage.
        InvalidResponse = "garbage",
        /// Too late.
        Timeout = "timeout",
        /// The client left.
        Cancelled = "cancelled",
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
    /// Spans of recorded traces.
    TraceSpans("trace_spans", "Spans of recorded traces by what became of them", "result") {
        /// Taken by the collector.
        Exported = "exported",
        /// Dropped because too many were waiting.
        Dropped = "dropped",
        /// Lost because the collector did not take them.
        Failed = "failed",
    }
    /// Retries.
    RetryReason("upstream_retries", "Repetitions of a request, by what had become of the try before", "reason") {
        /// The connection ended before the answer did.
        ConnectionClosed = "broken",
        /// Flow control.
        FlowControl = "busy",
        /// Not what the interface answers.
        InvalidResponse = "garbage",
        /// A stale keep-alive connection, replaced by a new one to the same node.
        Reconnected = "reconnected",
        /// 5xx, or a result code that means a broken node.
        ServerError = "server_error",
        /// Too late.
        Timeout = "timeout",
        /// No connection.
        ConnectFailed = "unreachable",
    }
    /// Retries that were not made.
    RetryOverflow("retry_budget_exhausted", "Retries that the budget refused", "") {
        /// No budget left.
        BudgetExhausted = "",
    }
    /// What limiters said.
    Decision("ratelimit_decisions", "What the limiters said, and by whose budget", "limiter,decision,source") {
        /// The ak's rate: yes.
        AccessKeyAllowed = "access_key,allowed,local",
        /// The ak's rate: no.
        AccessKeyRefused = "access_key,refused,local",
        /// The ak's rate over all replicas: yes.
        SharedAllowed = "access_key,allowed,shared",
        /// The ak's rate over all replicas: no.
        SharedRefused = "access_key,refused,shared",
        /// The ak's ceiling: yes.
        CeilingAllowed = "ceiling,allowed,local",
        /// The ak's ceiling: no.
        CeilingRefused = "ceiling,refused,local",
        /// The ak's requests in flight: yes.
        InFlightAllowed = "access_key_in_flight,allowed,local",
        /// The ak's requests in flight: no.
        InFlightRefused = "access_key_in_flight,refused,local",
        /// The client address: yes.
        AddressAllowed = "address,allowed,local",
        /// The client address: no.
        AddressRefused = "address,refused,local",
    }
    /// The store that replicas share.
    SharedStoreUse("shared_requests", "What was asked of the store that replicas share, and what became of it", "operation,result") {
        /// An answer was there, and was good.
        LookupHit = "look_up,hit",
        /// None was there.
        LookupMiss = "look_up,miss",
        /// What was there was not sealed by us for this key, or was purged or too old.
        LookupUnusable = "look_up,unusable",
        /// Another replica was fetching it: waited for.
        LookupWaited = "look_up,waited",
        /// The store did not answer, or refused.
        LookupFailed = "look_up,failed",
        /// Not asked: the store is away.
        LookupSkipped = "look_up,skipped",
        /// An answer was written.
        WriteOk = "store,ok",
        /// The store did not answer, or refused.
        WriteFailed = "store,failed",
        /// Not asked: the store is away.
        WriteSkipped = "store,skipped",
        /// The shared budget answered.
        RateLimitOk = "budget,ok",
        /// It did not, or refused: the local one decided.
        RateLimitFailed = "budget,failed",
        /// Not asked: the store is away, and the local one decided.
        RateLimitSkipped = "budget,skipped",
    }
}
