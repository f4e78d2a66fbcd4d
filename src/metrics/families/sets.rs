//! Closed sets that are labels of more than one family, or of families with configured labels.

use super::Decision;

closed! {
    /// Every answer, by kind.
    RequestOutcome {
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
        ClientDisconnected = "client_gone",
    }
    /// The status of an answer.
    StatusClass {
        /// No answer was given.
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
    /// Limits.
    Limiter {
        /// The ak's rate.
        AccessKey = "access_key",
        /// The ak's rate over all replicas.
        SharedAccessKey = "access_key",
        /// The ak's ceiling.
        Ceiling = "ceiling",
        /// The ak's requests in flight.
        InFlight = "access_key_in_flight",
        /// The client address.
        Address = "address",
    }
    /// What a node said in a JSON answer, by its resultCode.
    ResultClass {
        /// 0.
        Success = "success",
        /// 0300008, 0300009.
        FlowControl = "flow_control",
        /// 0300012.
        NoData = "no_data",
        /// Any other code, or none that can be read.
        Other = "other",
    }
}

impl StatusClass {
    /// The class of a status; 0 is none.
    pub fn of(status: u16) -> Self {
        let class = usize::from(status / 100);
        Self::ALL.get(class).copied().unwrap_or(Self::None)
    }
}

impl Decision {
    /// What a limiter said.
    pub fn of(limiter: Limiter, allowed: bool) -> Self {
        match (limiter, allowed) {
            (Limiter::AccessKey, true) => Self::AccessKeyAllowed,
            (Limiter::AccessKey, false) => Self::AccessKeyRefused,
            (Limiter::SharedAccessKey, true) => Self::SharedAllowed,
            (Limiter::SharedAccessKey, false) => Self::SharedRefused,
            (Limiter::Ceiling, true) => Self::CeilingAllowed,
            (Limiter::Ceiling, false) => Self::CeilingRefused,
            (Limiter::InFlight, true) => Self::InFlightAllowed,
            (Limiter::InFlight, false) => Self::InFlightRefused,
            (Limiter::Address, true) => Self::AddressAllowed,
            (Limiter::Address, false) => Self::AddressRefused,
        }
    }
}
