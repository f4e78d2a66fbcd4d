//! Prints how long the URLs of a response are valid.

use jiff::Timestamp;
use serde_json::Value;

use crate::ccfs::presigned_url;

/// Returns one line per URL in the `resultData` of a response.
pub(super) fn validity_lines(response: &Value, now: Timestamp) -> Vec<String> {
    let mut urls = Vec::new();
    collect_urls(
        response.get("resultData").unwrap_or(&Value::Null),
        &mut urls,
    );
    let several = urls.len() > 1;
    let line = |(number, url): (usize, &&str)| {
        let which = if several {
            format!("URL {number}")
        } else {
            "the URL".to_owned()
        };
        validity_line(&which, presigned_url::expires_at(url), now)
    };
    (1..).zip(&urls).map(line).collect()
}

fn validity_line(which: &str, expires: Option<Timestamp>, now: Timestamp) -> String {
    let Some(expires) = expires else {
        return format!("{which} has no readable expiry");
    };
    match expires.as_second() - now.as_second() {
        seconds if seconds > 0 => format!(
            "{which} is valid for {}, until {expires}",
            format_seconds(seconds)
        ),
        _ => format!("{which} has expired: it was valid until {expires}"),
    }
}

fn collect_urls<'a>(value: &'a Value, urls: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => urls.extend(split_urls(text)),
        Value::Array(values) => values.iter().for_each(|value| collect_urls(value, urls)),
        Value::Object(members) => members.values().for_each(|value| collect_urls(value, urls)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Splits several URLs in one string: each begins where `http` follows a comma.
fn split_urls(text: &str) -> impl Iterator<Item = &str> {
    let mut remaining = text;
    std::iter::from_fn(move || {
        let end = remaining.find(",http").unwrap_or(remaining.len());
        let (url, tail) = remaining.split_at(end);
        remaining = tail.trim_start_matches(',');
        url.starts_with("http").then_some(url)
    })
}

/// Formats a duration with its two largest units.
fn format_seconds(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    if days > 0 {
        format!("{days} d {} h", hours % 24)
    } else if hours > 0 {
        format!("{hours} h {} min", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes} min {} s", seconds % 60)
    } else {
        format!("{seconds} s")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn urls_are_found_in_every_packing() {
        let mut urls = Vec::new();
        let data = json!({"url": "https://a?x=1,2,https://b", "more": ["http://c"], "n": 1});
        collect_urls(&data, &mut urls);
        assert_eq!(urls, ["https://a?x=1,2", "https://b", "http://c"]);
    }

    #[test]
    fn the_remaining_validity_is_formatted() {
        let now = Timestamp::UNIX_EPOCH;
        let at = |seconds| Some(Timestamp::from_second(seconds).unwrap());
        assert_eq!(
            validity_line("the URL", at(28_799), now),
            "the URL is valid for 7 h 59 min, until 1970-01-01T07:59:59Z"
        );
        assert!(validity_line("the URL", at(0), now).contains("expired"));
        assert!(validity_line("the URL", None, now).contains("no readable expiry"));
        assert_eq!(format_seconds(59), "59 s");
        assert_eq!(format_seconds(61), "1 min 1 s");
        assert_eq!(format_seconds(90_000), "1 d 1 h");
    }
}
