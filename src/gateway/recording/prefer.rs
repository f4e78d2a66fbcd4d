//! `Prefer: wait=N` (RFC 7240): how long a client wants to wait for a recording.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use crate::http_fields::PREFER;

/// Returns the wait that a client asks for, at least a second and at most `max_wait`. `None` without a
/// preference, or where it is no whole number of seconds, or zero. Of several the first counts.
pub(super) fn wait(headers: &HeaderMap, max_wait: Duration) -> Option<Duration> {
    let values = headers.get_all(PREFER).iter();
    let preferences = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(split_list);
    let mut waits = preferences.filter_map(|preference| {
        // Parameters of a preference follow a semicolon.
        let preference = preference.split(';').next().unwrap_or_default();
        let (name, value) = preference.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then_some(value)
    });
    let seconds = waits.next()?.trim();
    let quoted = seconds
        .strip_prefix('"')
        .and_then(|it| it.strip_suffix('"'));
    let seconds = quoted.unwrap_or(seconds);
    if seconds.is_empty() || !seconds.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // More digits than fit are more than any limit.
    let seconds = seconds.parse().unwrap_or(u64::MAX);
    let wait = Duration::from_secs(seconds).min(max_wait);
    (!wait.is_zero()).then_some(wait)
}

/// Splits a list at its commas, except those in quoted strings (RFC 9110, 5.6.1 and 5.6.4).
fn split_list(list: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    list.split(move |character| {
        let was_escaped = std::mem::take(&mut is_escaped);
        match character {
            '\\' if is_quoted && !was_escaped => is_escaped = true,
            '"' if !was_escaped => is_quoted = !is_quoted,
            ',' => return !is_quoted,
            _ => {}
        }
        false
    })
}

/// Returns the value of `Preference-Applied` after a wait: whole seconds, rounded down.
pub(super) fn applied(waited: Duration) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("wait={}", waited.as_secs())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_seconds_are_read_and_cut() {
        for (fields, seconds) in [
            (&["wait=5"][..], Some(5)),
            (&["Wait = 5"], Some(5)),
            (&["wait=\"5\""], Some(5)),
            (&["wait=005"], Some(5)),
            (&["respond-async, wait=5; x=1"], Some(5)),
            (&["foo; wait=5"], None),
            (&["foo=\"a,wait=7\", wait=5"], Some(5)),
            (&["foo=\"a\\\",wait=7\", wait=5"], Some(5)),
            (&["return=minimal", "wait=5"], Some(5)),
            (&["wait=5, wait=7"], Some(5)),
            (&["wait=31"], Some(30)),
            (&["wait=99999999999999999999999"], Some(30)),
            (&["wait=0"], None),
            (&["wait"], None),
            (&["wait="], None),
            (&["wait=-1"], None),
            (&["wait=+1"], None),
            (&["wait=1.5"], None),
            (&["wait=soon, wait=5"], None),
            (&["waits=5"], None),
            (&[], None),
        ] {
            let values = fields
                .iter()
                .map(|value| (PREFER, HeaderValue::from_static(value)));
            let headers = values.fold(HeaderMap::new(), |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            });
            let found = wait(&headers, Duration::from_secs(30)).map(|wait| wait.as_secs());
            assert_eq!(found, seconds, "{fields:?}");
        }
    }

    #[test]
    fn without_room_nothing_is_waited_for() {
        let headers = HeaderMap::from_iter([(PREFER, HeaderValue::from_static("wait=5"))]);
        assert_eq!(wait(&headers, Duration::ZERO), None);
    }
}
