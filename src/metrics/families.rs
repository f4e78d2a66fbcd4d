//! The metric families whose labels are closed sets, and these sets.

/// A label value of one counter family.
pub trait Label: Copy {
    /// Returns the index of its counter in a shard.
    fn counter_index(self) -> usize;
}

/// A family as it is exposed on `/metrics`.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Without the prefix `ccfs_gateway_` and the suffix `_total`.
    pub name: &'static str,
    /// The help text.
    pub help: &'static str,
    /// Label names, separated by commas; empty for a family of one counter.
    pub labels: &'static str,
    /// Label values in the order of the counters, each separated by commas like the names.
    pub values: &'static [&'static str],
    /// The index of its first counter in a shard.
    pub(super) first_index: usize,
}

#[macro_use]
mod declare;
mod sets;

pub use sets::{Limiter, RequestOutcome, ResultClass, StatusClass};

/// The number of counters in a shard.
pub(super) const TOTAL: usize = LAYOUT.total;

families! {
    /// The result of a TLS handshake.
    HandshakeResult("handshakes", "TLS handshakes by result", "result") {
        /// Completed.
        Ok = "ok",
        /// Rejected, or the connection was closed.
        Failed = "failed",
        /// Not completed before the timeout.
        Timeout = "timeout",
        /// The client sent HTTP without TLS, which was answered with 400.
        PlainHttp = "plain_http",
    }
    /// Why the gateway closed a connection.
    ConnectionEndReason("connections_ended", "Connections closed by the gateway, by reason", "reason") {
        /// The limit of all connections or handshakes was reached.
        ConnectionLimit = "cap",
        /// The request head was not complete before the timeout.
        HeaderTimeout = "header_timeout",
        /// The idle timeout.
        IdleTimeout = "idle",
        /// The maximum connection age.
        MaxAge = "age",
        /// Invalid HTTP.
        Malformed = "malformed",
        /// An HTTP/2 protocol error, or too many resets.
        ProtocolError = "protocol",
        /// More HTTP/2 control frames than the budget allows.
        ControlFlood = "control_flood",
        /// The client reads responses too slowly.
        SlowReader = "slow_reader",
        /// Graceful shutdown.
        Drain = "drain",
        /// The limit of one client address was reached.
        AddressLimit = "address_cap",
        /// A panic in the connection task.
        Panic = "panic",
    }
    /// Why a request was rejected as malformed.
    MalformedReason("malformed_requests", "Requests rejected as invalid HTTP, by reason", "reason") {
        /// The request line.
        RequestLine = "request_line",
        /// The request target, path traversal included.
        Target = "target",
        /// `Host` or `:authority`.
        Host = "host",
        /// `Content-Length` or `Transfer-Encoding`.
        Framing = "framing",
        /// The name of a field.
        FieldName = "field_name",
        /// The value of a field.
        FieldValue = "field_value",
        /// Larger than the limit.
        TooLarge = "too_large",
        /// An invalid chunked body.
        Body = "body",
        /// Neither HTTP/1.1 nor HTTP/1.0.
        Version = "version",
    }
    /// The result of verifying a caller's signature.
    AuthResult("auth", "Signature verifications by result", "result") {
        /// Verified.
        Ok = "ok",
        /// No `Authorization`.
        Missing = "missing",
        /// An invalid `Authorization`, or signed fields that are missing.
        Malformed = "malformed",
        /// Another authentication scheme.
        OtherScheme = "other_scheme",
        /// A timestamp outside the clock window.
        Stale = "stale",
        /// An unknown access key.
        UnknownKey = "unknown_key",
        /// A disabled access key.
        Disabled = "disabled",
        /// A signature that does not match.
        WrongSignature = "wrong_signature",
        /// Forwarded unverified.
        Forwarded = "forwarded",
        /// Not verified, and forwarded by shadow authentication.
        Shadowed = "shadowed",
        /// More than one credential where callers without a secret key may ask.
        SeveralCredentials = "several_credentials",
        /// A credential of a caller without a secret key that identifies none.
        WrongCredential = "wrong_credential",
    }
    /// How a caller without a secret key was identified.
    CallerWay("caller_auth", "Requests of callers without a secret key that were identified, by way", "way") {
        /// By its client certificate.
        Certificate = "certificate",
        /// By an API key.
        ApiKey = "api_key",
        /// By a JSON Web Token.
        Jwt = "jwt",
        /// By an SDK-HMAC-SHA256 signature.
        SdkHmac = "sdk_hmac",
        /// By a ticket.
        Ticket = "ticket",
    }
    /// The mistake of a client whose signature did not verify, where the doctor worked on its case.
    SignatureHint("signature_hints", "Signatures that did not verify, by the mistake that was found", "class") {
        /// The client signed Host without the port that it sent.
        HostWithoutPort = "host-without-port",
        /// The client signed Host with a port that it did not send.
        HostWithPort = "host-with-port",
        /// The client signed the Host of a node.
        HostOfNode = "host-of-node",
        /// The client signed the address of the listener as Host.
        HostOfListener = "host-of-listener",
        /// The client signed the path without its context root.
        PathWithoutRoot = "path-without-root",
        /// The client signed the path with a context root that it did not send.
        PathWithRoot = "path-with-root",
        /// The client signed the path of `downloadRecordFile`.
        PathOldName = "path-old-name",
        /// The client did not sign the query.
        QueryLeftOut = "query-left-out",
        /// The client signed an empty line where it has no query.
        QueryEmptyLine = "query-empty-line",
        /// The client signed path and query in one line.
        QueryInPath = "query-in-path",
        /// The client signed the body without blanks.
        BodyCompact = "body-compact",
        /// The client signed the body with a blank behind colons and commas.
        BodySpaced = "body-spaced",
        /// The client signed the body with line breaks and indentation.
        BodyPretty = "body-pretty",
        /// The client signed the body with its members sorted.
        BodySorted = "body-sorted",
        /// The client signed the body with `\/` for `/`, or the other way round.
        BodySlashEscaped = "body-slash-escaped",
        /// The client signed the body with or without a line end.
        BodyLineEnd = "body-line-end",
        /// The client signed the body with or without a byte-order mark.
        BodyBom = "body-bom",
        /// The client signed the body in GBK.
        BodyGbk = "body-gbk",
        /// The client signed the body in UTF-16.
        BodyUtf16 = "body-utf16",
        /// The client used the signed names in two orders.
        NamesUnsorted = "names-unsorted",
        /// The client signed other names than it says.
        NamesOther = "names-other",
        /// The timestamp has milliseconds that are not in the key.
        TimestampMilliseconds = "timestamp-milliseconds",
        /// The timestamp is local time.
        TimestampLocal = "timestamp-local",
        /// The client's secret has a line end.
        SecretLineEnd = "secret-line-end",
        /// The client's secret has blanks around it.
        SecretBlanks = "secret-blanks",
        /// The client used the signing key as bytes, not as hex digits.
        RawKey = "raw-key",
        /// No single change makes the signature fit.
        NothingFitted = "nothing-fitted",
    }
    /// How the cache handled a request (RFC 9211).
    CacheStatus("cache_requests", "Recording-URL requests by cache status", "status") {
        /// Served from the cache.
        Hit = "hit",
        /// Fetched and stored.
        Stored = "stored",
        /// Fetched and not stored.
        Miss = "miss",
        /// Coalesced with a fetch in progress.
        Collapsed = "collapsed",
        /// The client sent `no-cache`.
        NoCache = "no_cache",
        /// Served inside the expiry margin in place of an error.
        StaleIfError = "stale_if_error",
        /// A cached negative response ("no data yet").
        Negative = "negative",
        /// Not cacheable.
        Bypass = "bypass",
        /// Not cached, and no response could be fetched.
        Failed = "failed",
    }
    /// The result of a background refresh.
    RefreshResult("cache_refresh", "Background refreshes of cache entries by result", "result") {
        /// The new response was stored.
        Ok = "ok",
        /// The old entry was kept.
        Failed = "failed",
    }
    /// Why a request was shed.
    ShedReason("shed", "Requests shed because a limit of the gateway was reached, by limit", "reason") {
        /// Requests in flight.
        InFlight = "in_flight",
        /// Buffered request bodies.
        Buffered = "buffered",
    }
    /// The result of one attempt at a node.
    Attempt("upstream_tries", "Attempts at nodes by result", "result") {
        /// A response.
        Ok = "ok",
        /// A response with a 5xx status.
        ServerError = "server_error",
        /// Flow control.
        FlowControl = "busy",
        /// No connection could be made.
        ConnectFailed = "unreachable",
        /// The connection was closed before the response was complete.
        ConnectionClosed = "broken",
        /// An invalid response.
        InvalidResponse = "garbage",
        /// 401 or 403 to a request whose signature the gateway had verified or made.
        Refused = "refused",
        /// The attempt timed out.
        Timeout = "timeout",
        /// The client disconnected.
        Cancelled = "cancelled",
    }
    /// Why a recording-URL request is invalid.
    ValidationReject("validation_rejects", "Recording-URL requests rejected by validation, by reason", "reason") {
        /// Null or missing.
        Null = "null",
        /// An empty string.
        Empty = "empty",
        /// Too long.
        TooLong = "too_long",
        /// A wrong format.
        Format = "format",
        /// An unsupported version.
        Version = "version",
        /// The begin is after the end.
        Order = "order",
        /// A span of more than three days.
        Span = "span",
        /// A body that is not one JSON object.
        Body = "body",
    }
    /// Invalid requests that shadow mode forwarded.
    Shadow("shadow_invalid", "Invalid requests forwarded in shadow mode", "mode") {
        /// Forwarded unchanged.
        Forwarded = "forwarded",
    }
    /// The result of writing an access-log line.
    AccessLogLines("access_log_lines", "Access-log lines by result", "result") {
        /// Written.
        Written = "written",
        /// Dropped because the queue was full.
        Dropped = "dropped",
    }
    /// The result of writing a line of the audit log.
    AuditLines("audit_lines", "Lines of the audit log by result", "result") {
        /// Written.
        Written = "written",
        /// Lost because the queue or the disk was full; a line of the log says how many.
        Lost = "lost",
    }
    /// The result of exporting a span of a sampled trace.
    TraceSpans("trace_spans", "Spans of sampled traces by export result", "result") {
        /// Accepted by the collector.
        Exported = "exported",
        /// Dropped because the queue was full.
        Dropped = "dropped",
        /// Lost because the collector did not accept it.
        Failed = "failed",
    }
    /// Why a request was retried: the result of the attempt before.
    RetryReason("upstream_retries", "Retries by the result of the attempt before", "reason") {
        /// The connection was closed before the response was complete.
        ConnectionClosed = "broken",
        /// Flow control.
        FlowControl = "busy",
        /// An invalid response of the interface.
        InvalidResponse = "garbage",
        /// A stale kept-alive connection; retried on a new one to the same node.
        Reconnected = "reconnected",
        /// A 5xx status, or a resultCode that means a failed node.
        ServerError = "server_error",
        /// The attempt timed out.
        Timeout = "timeout",
        /// 401 to a request whose signature the gateway had verified; retried signed anew.
        Unauthorized = "unauthorized",
        /// No connection could be made.
        ConnectFailed = "unreachable",
    }
    /// Why a retry was not made.
    RetryOverflow("retry_budget_exhausted", "Retries not made because the retry budget was exhausted", "") {
        /// The retry budget was exhausted.
        BudgetExhausted = "",
    }
    /// The decision of a limiter.
    Decision("ratelimit_decisions", "Decisions of the limiters, by the source of the limit", "limiter,decision,source") {
        /// The rate limit of the access key: allowed.
        AccessKeyAllowed = "access_key,allowed,local",
        /// The rate limit of the access key: refused.
        AccessKeyRefused = "access_key,refused,local",
        /// The rate limit of the access key over all replicas: allowed.
        SharedAllowed = "access_key,allowed,shared",
        /// The rate limit of the access key over all replicas: refused.
        SharedRefused = "access_key,refused,shared",
        /// The ceiling of the access key: allowed.
        CeilingAllowed = "ceiling,allowed,local",
        /// The ceiling of the access key: refused.
        CeilingRefused = "ceiling,refused,local",
        /// The in-flight limit of the access key: allowed.
        InFlightAllowed = "access_key_in_flight,allowed,local",
        /// The in-flight limit of the access key: refused.
        InFlightRefused = "access_key_in_flight,refused,local",
        /// The rate limit of the client address: allowed.
        AddressAllowed = "address,allowed,local",
        /// The rate limit of the client address: refused.
        AddressRefused = "address,refused,local",
        /// The rate limit of the access key: would be refused without `dry_run`.
        AccessKeyWouldRefuse = "access_key,would_refuse,local",
        /// The rate limit of the access key over all replicas: would be refused without `dry_run`.
        SharedWouldRefuse = "access_key,would_refuse,shared",
        /// The ceiling of the access key: would be refused without `dry_run`.
        CeilingWouldRefuse = "ceiling,would_refuse,local",
        /// The in-flight limit of the access key: would be refused without `dry_run`.
        InFlightWouldRefuse = "access_key_in_flight,would_refuse,local",
        /// The rate limit of the client address: would be refused without `dry_run` or shadow
        /// authentication.
        AddressWouldRefuse = "address,would_refuse,local",
        /// The rate limit of the caller: allowed.
        CallerAllowed = "caller,allowed,local",
        /// The rate limit of the caller: refused.
        CallerRefused = "caller,refused,local",
        /// The rate limit of the caller: would be refused without `dry_run`.
        CallerWouldRefuse = "caller,would_refuse,local",
        /// The ceiling of the caller: allowed.
        CallerCeilingAllowed = "caller_ceiling,allowed,local",
        /// The ceiling of the caller: refused.
        CallerCeilingRefused = "caller_ceiling,refused,local",
        /// The ceiling of the caller: would be refused without `dry_run`.
        CallerCeilingWouldRefuse = "caller_ceiling,would_refuse,local",
        /// The in-flight limit of the caller: allowed.
        CallerInFlightAllowed = "caller_in_flight,allowed,local",
        /// The in-flight limit of the caller: refused.
        CallerInFlightRefused = "caller_in_flight,refused,local",
        /// The in-flight limit of the caller: would be refused without `dry_run`.
        CallerInFlightWouldRefuse = "caller_in_flight,would_refuse,local",
    }
    /// Why there is no session with the shared store.
    SharedStoreDisconnect("shared_disconnects", "Sessions with the shared store that ended or could not begin, by reason", "reason") {
        /// No connection, or the login failed.
        Connect = "connect",
        /// No response in time.
        Timeout = "timeout",
        /// The store closed the connection.
        Closed = "closed",
        /// Purges arrived faster than they could be applied.
        Overflow = "overflow",
        /// READONLY: the server is a replica, as after a failover.
        ReadOnly = "readonly",
        /// OOM: its memory is used up, and its policy evicts nothing.
        OutOfMemory = "oom",
        /// LOADING: it reads its data from disk or from a primary.
        Loading = "loading",
        /// MASTERDOWN: a replica without a connection to its primary.
        MasterDown = "masterdown",
        /// It rejects all commands with another error code.
        Rejected = "rejected",
    }
    /// A use of the shared store.
    SharedStoreUse("shared_requests", "Operations on the shared store by result", "operation,result") {
        /// A usable value was found.
        LookupHit = "look_up,hit",
        /// No usable value was found.
        LookupMiss = "look_up,miss",
        /// A value was found that was not sealed for this key, was purged or too old.
        LookupUnusable = "look_up,unusable",
        /// Waited for another replica that was fetching.
        LookupWaited = "look_up,waited",
        /// The query timed out or was rejected.
        LookupFailed = "look_up,failed",
        /// Not queried, because the store is unavailable.
        LookupSkipped = "look_up,skipped",
        /// A value was written.
        WriteOk = "store,ok",
        /// The query timed out or was rejected.
        WriteFailed = "store,failed",
        /// Not queried, because the store is unavailable.
        WriteSkipped = "store,skipped",
        /// The shared rate limit decided.
        RateLimitOk = "budget,ok",
        /// Timed out or rejected: the local rate limit decided.
        RateLimitFailed = "budget,failed",
        /// Not queried, because the store is unavailable: the local rate limit decided.
        RateLimitSkipped = "budget,skipped",
    }
}
