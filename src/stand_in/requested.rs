//! Behaviour that a request selects by a name. A callId, or a fileName without folder and extension,
//! is split into words at `_`; unknown words are ignored.
//!
//! | word | behaviour |
//! |---|---|
//! | `code-0300009` | this resultCode |
//! | `form-obs`, `form-s3v2`, `form-s3v4`, `form-lss` | the form of the URLs |
//! | `urls-2`, `array-2`, `members-2` | this many URLs: joined by commas, as an array, as numbered members |
//! | `life-90` | URLs that are valid for 90 seconds |
//! | `size-1048576`, `64KiB`, `5MiB`, `1GiB` | a file of this size |
//!
//! `urls-2_form-s3v4_life-90` has 25 characters, the maximum length of a callId.

use std::time::Duration;

use super::presign::{Packing, UrlForm};

/// The behaviour that a name selects.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct RequestedBehavior<'a> {
    pub(super) result_code: Option<&'a str>,
    pub(super) url_form: Option<UrlForm>,
    pub(super) urls: Option<(Packing, usize)>,
    pub(super) url_lifetime: Option<Duration>,
    pub(super) file_size: Option<u64>,
}

impl<'a> RequestedBehavior<'a> {
    /// Parses a callId or a fileName.
    pub(super) fn parse(name: &'a str) -> Self {
        let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let mut requested = Self::default();
        for word in stem.split('_') {
            requested.apply_word(word);
        }
        requested
    }

    fn apply_word(&mut self, word: &'a str) {
        let Some((kind, value)) = word.split_once('-') else {
            self.file_size = parse_size(word).or(self.file_size);
            return;
        };
        let number = || value.parse::<u64>().ok();
        let count = || value.parse().ok().filter(|count| *count <= MAX_URLS);
        match kind {
            "code" if is_result_code(value) => self.result_code = Some(value),
            "form" => self.url_form = UrlForm::from_name(value).or(self.url_form),
            "urls" => self.urls = count().map(|count| (Packing::Joined, count)),
            "array" => self.urls = count().map(|count| (Packing::Array, count)),
            "members" => self.urls = count().map(|count| (Packing::Members, count)),
            "life" => self.url_lifetime = number().map(Duration::from_secs),
            "size" => self.file_size = number(),
            _ => {}
        }
    }
}

/// Parses `17B`, `64KiB`, `5MiB` or `1GiB`.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Maximum number of URLs of a response: more than any test needs, and still a small response.
pub(super) const MAX_URLS: usize = 64;

fn is_result_code(text: &str) -> bool {
    (1..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_request_behavior() {
        let requested = RequestedBehavior::parse("urls-2_form-s3v4_life-90");
        assert_eq!(requested.urls, Some((Packing::Joined, 2)));
        assert_eq!(requested.url_form, Some(UrlForm::S3V4));
        assert_eq!(requested.url_lifetime, Some(Duration::from_secs(90)));
        assert_eq!(
            RequestedBehavior::parse("code-0300009_b").result_code,
            Some("0300009")
        );
        assert_eq!(
            RequestedBehavior::parse("a/b/size-17.wav").file_size,
            Some(17)
        );
        assert_eq!(
            RequestedBehavior::parse("2026/1GiB.wav").file_size,
            Some(1 << 30)
        );
    }

    #[test]
    fn an_ordinary_name_requests_nothing() {
        for name in [
            "1637742300-1234",
            "",
            "code-x",
            "20210101_12.zip",
            "form-",
            "urls-9999",
        ] {
            assert_eq!(
                RequestedBehavior::parse(name),
                RequestedBehavior::default(),
                "{name}"
            );
        }
    }
}
