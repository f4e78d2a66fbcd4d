//! Where the limits of an access key are written.

/// Where each limit of an access key is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LimitOrigins {
    /// Of `rate_limit`.
    pub rate_limit: LimitOrigin,
    /// Of `ceiling`.
    pub ceiling: LimitOrigin,
    /// Of `in_flight`.
    pub in_flight: LimitOrigin,
}

/// Where a limit of an access key is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LimitOrigin {
    /// In its own table.
    Own,
    /// In its plan.
    Plan,
    /// In `[access_key_defaults]`.
    Defaults,
    /// Nowhere: the default of the key.
    #[default]
    Unwritten,
}

/// Returns the first limit that is written, and where.
pub(super) fn first_written<T>(
    own: Option<T>,
    plan: Option<T>,
    defaults: Option<T>,
) -> (Option<T>, LimitOrigin) {
    match (own, plan, defaults) {
        (own @ Some(_), ..) => (own, LimitOrigin::Own),
        (None, plan @ Some(_), _) => (plan, LimitOrigin::Plan),
        (None, None, defaults @ Some(_)) => (defaults, LimitOrigin::Defaults),
        (None, None, None) => (None, LimitOrigin::Unwritten),
    }
}
