//! The two forms of a time, the zone of a tenant, the three-day window.
