//! Label sets of more than one family, or of families that also have configured labels.

use super::{CacheStatus, Decision};

label_sets! {
    /// The outcome of a request.
    RequestOutcome {
        /// The response of a node.
        Node = "node",
        /// A cached response.
        Cached = "cached",
        /// A ticket for a link that plays.
        Ticket = "ticket",
        /// Rejected by validation.
        InvalidRequest = "invalid_request",
        /// 400.
        Malformed = "malformed",
        /// 401.
        Unauthenticated = "unauthenticated",
        /// 403.
        Forbidden = "forbidden",
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
        /// 508.
        LoopDetected = "loop_detected",
        /// The client disconnected before a response.
        ClientDisconnected = "client_gone",
    }
    /// The class of a response's status.
    StatusClass {
        /// No response was sent.
        None = "none",
        /// 1xx.
        Informational = "1xx",
        /// 2xx.
        Success = "2xx",
        /// 3xx.
        Redirect = "3xx",
        /// 4xx.
        ClientError = "4xx",
        /// 5xx.
        ServerError = "5xx",
    }
    /// The limit that made a decision.
    Limiter {
        /// The rate limit of the access key.
        AccessKey = "access_key",
        /// The rate limit of the access key over all replicas.
        SharedAccessKey = "access_key",
        /// The ceiling of the access key: all requests, cache hits included.
        Ceiling = "ceiling",
        /// The in-flight limit of the access key.
        InFlight = "access_key_in_flight",
        /// The rate limit of the client address.
        Address = "address",
        /// The rate limit of the caller.
        Caller = "caller",
        /// The ceiling of the caller.
        CallerCeiling = "caller_ceiling",
        /// The in-flight limit of the caller.
        CallerInFlight = "caller_in_flight",
    }
    /// The class of the resultCode in a node's JSON response.
    ResultClass {
        /// 0.
        Success = "success",
        /// 0300008, 0300009.
        FlowControl = "flow_control",
        /// 0300012.
        NoData = "no_data",
        /// 0300011: the file does not exist.
        NotFound = "not_found",
        /// 0300001 to 0300007, 0300010, 0300013: the node does not accept a parameter.
        Parameter = "parameter",
        /// Any other code, or no readable one.
        Other = "other",
    }
}

impl StatusClass {
    /// Returns the class of a status; 0 means no response.
    pub fn of(status: u16) -> Self {
        let class = usize::from(status / 100);
        Self::ALL.get(class).copied().unwrap_or(Self::None)
    }
}

impl CacheStatus {
    /// Whether the cache answered.
    pub fn is_hit(self) -> bool {
        matches!(self, Self::Hit | Self::Negative | Self::StaleIfError)
    }
}

impl Limiter {
    /// Returns the name of the limit in `RateLimit` and `RateLimit-Policy`.
    pub fn policy(self) -> &'static str {
        match self {
            Self::AccessKey | Self::SharedAccessKey => "ak",
            Self::Caller => "caller",
            Self::Ceiling | Self::CallerCeiling => "ceiling",
            Self::InFlight | Self::CallerInFlight => "in_flight",
            Self::Address => "address",
        }
    }

    /// Returns the configuration key that holds the limit, as `gw.would_refuse` names it.
    pub fn key(self) -> &'static str {
        match self {
            Self::AccessKey | Self::SharedAccessKey => "rate_limit",
            Self::Ceiling => "ceiling",
            Self::InFlight => "in_flight",
            Self::Address => "per_address",
            Self::Caller | Self::CallerCeiling | Self::CallerInFlight => "caller",
        }
    }

    /// Whether it is a limit of a caller, not of its access key or address.
    pub fn is_of_caller(self) -> bool {
        matches!(
            self,
            Self::Caller | Self::CallerCeiling | Self::CallerInFlight
        )
    }
}

impl Decision {
    /// Returns the refusal by `limiter`.
    pub fn refused(limiter: Limiter) -> Self {
        match limiter {
            Limiter::AccessKey => Self::AccessKeyRefused,
            Limiter::SharedAccessKey => Self::SharedRefused,
            Limiter::Ceiling => Self::CeilingRefused,
            Limiter::InFlight => Self::InFlightRefused,
            Limiter::Address => Self::AddressRefused,
            Limiter::Caller => Self::CallerRefused,
            Limiter::CallerCeiling => Self::CallerCeilingRefused,
            Limiter::CallerInFlight => Self::CallerInFlightRefused,
        }
    }

    /// Returns what is counted where `limiter` would have refused.
    pub fn would_refuse(limiter: Limiter) -> Self {
        match limiter {
            Limiter::AccessKey => Self::AccessKeyWouldRefuse,
            Limiter::SharedAccessKey => Self::SharedWouldRefuse,
            Limiter::Ceiling => Self::CeilingWouldRefuse,
            Limiter::InFlight => Self::InFlightWouldRefuse,
            Limiter::Address => Self::AddressWouldRefuse,
            Limiter::Caller => Self::CallerWouldRefuse,
            Limiter::CallerCeiling => Self::CallerCeilingWouldRefuse,
            Limiter::CallerInFlight => Self::CallerInFlightWouldRefuse,
        }
    }
}
