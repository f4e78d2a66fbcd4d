//! Formats how long the URLs of a response are valid.

use jiff::Timestamp;
use serde_json::{Value, json};

/// A URL of a response, and how long it is valid.
#[derive(Debug)]
pub(super) struct UrlValidity {
    url: String,
    /// The expiry, and the seconds until then; `None` if the URL has no readable expiry.
    expiry: Option<(Timestamp, i64)>,
}

impl UrlValidity {
    pub(super) fn new((url, expires): (String, Option<Timestamp>), now: Timestamp) -> Self {
        let seconds_left = |expires: Timestamp| expires.as_second() - now.as_second();
        Self {
            url,
            expiry: expires.map(|expires| (expires, seconds_left(expires))),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let (expires_at, seconds_left) = self.expiry.unzip();
        json!({
            "url": self.url,
            "expires_at": expires_at.map(|time| time.to_string()),
            "seconds_left": seconds_left,
        })
    }

    fn line(&self, name: &str) -> String {
        match self.expiry {
            None => format!("{name} has no readable expiry"),
            Some((expires, seconds)) if seconds > 0 => {
                let left = format_seconds(seconds);
                format!("{name} is valid for {left}, until {expires}")
            }
            Some((expires, _)) => format!("{name} has expired: it was valid until {expires}"),
        }
    }
}

/// Returns one line per URL; several URLs are numbered from 1.
pub(super) fn validity_lines(urls: &[UrlValidity]) -> Vec<String> {
    match urls {
        [url] => vec![url.line("the URL")],
        urls => (1..)
            .zip(urls)
            .map(|(number, url)| url.line(&format!("URL {number}")))
            .collect(),
    }
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
    use super::*;

    #[test]
    fn the_remaining_validity_is_formatted() {
        let line = |seconds: Option<i64>| {
            let expires = seconds.map(|seconds| Timestamp::from_second(seconds).unwrap());
            let url = UrlValidity::new((String::new(), expires), Timestamp::UNIX_EPOCH);
            validity_lines(&[url]).remove(0)
        };
        assert_eq!(
            line(Some(28_799)),
            "the URL is valid for 7 h 59 min, until 1970-01-01T07:59:59Z"
        );
        assert!(line(Some(0)).contains("expired"));
        assert!(line(None).contains("no readable expiry"));
        assert_eq!(format_seconds(59), "59 s");
        assert_eq!(format_seconds(61), "1 min 1 s");
        assert_eq!(format_seconds(90_000), "1 d 1 h");
    }
}
