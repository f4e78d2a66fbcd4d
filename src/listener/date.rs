//! The Date header of responses (RFC 9110, 6.6.1), formatted once per second and thread.

use std::cell::RefCell;

use http::HeaderValue;
use jiff::Timestamp;

thread_local! {
    static CACHED: RefCell<Option<(i64, HeaderValue)>> = const { RefCell::new(None) };
}

/// Returns the Date of now.
#[expect(clippy::disallowed_methods, reason = "an edge: the Date of a response")]
pub(super) fn header_value() -> HeaderValue {
    let now = Timestamp::try_from(std::time::SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH);
    CACHED.with_borrow_mut(|cached| match cached {
        Some((second, value)) if *second == now.as_second() => value.clone(),
        _ => {
            let value = format(now);
            *cached = Some((now.as_second(), value.clone()));
            value
        }
    })
}

fn format(now: Timestamp) -> HeaderValue {
    jiff::fmt::rfc2822::DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&now)
        .ok()
        .and_then(|text| HeaderValue::from_str(&text).ok())
        .unwrap_or_else(|| HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}
