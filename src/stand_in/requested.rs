//! What a request may wish for by the name it asks about. A callId, or a fileName without folder
//! and extension, is read as words joined by `_`; words that mean nothing here mean nothing.
//!
//! | word | wish |
//! |---|---|
//! | `code-0300009` | this resultCode |
//! | `form-obs`, `form-s3v2`, `form-s3v4`, `form-lss` | the form of the URLs |
//! | `urls-2`, `array-2`, `members-2` | so many URLs: joined by commas, as an array, as numbered members |
//! | `life-90` | URLs that are good for 90 seconds |
//! | `size-1048576`, `64KiB`, `5MiB`, `1GiB` | a file of this size |
//!
//! `urls-2_form-s3v4_life-90` has the 25 characters that a callId may have.

use std::time::Duration;

use super::presign::{Packing, UrlForm};

/// What a name wishes for.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Wishes<'a> {
    pub(super) code: Option<&'a str>,
    pub(super) form: Option<UrlForm>,
    pub(super) urls: Option<(Packing, usize)>,
    pub(super) life: Option<Duration>,
    pub(super) size: Option<u64>,
}

impl<'a> Wishes<'a> {
    /// Reads a callId or a fileName.
    pub(super) fn read(name: &'a str) -> Self {
        let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let mut wishes = Self::default();
        for word in stem.split('_') {
            wishes.add(word);
        }
        wishes
    }

    fn add(&mut self, word: &'a str) {
        let Some((kind, value)) = word.split_once('-') else {
            self.size = size(word).or(self.size);
            return;
        };
        let number = || value.parse::<u64>().ok();
        let count = || value.parse().ok().filter(|count| *count <= MOST_URLS);
        match kind {
            "code" if is_code(value) => self.code = Some(value),
            "form" => self.form = UrlForm::named(value).or(self.form),
            "urls" => self.urls = count().map(|count| (Packing::Joined, count)),
            "array" => self.urls = count().map(|count| (Packing::Array, count)),
            "members" => self.urls = count().map(|count| (Packing::Members, count)),
            "life" => self.life = number().map(Duration::from_secs),
            "size" => self.size = number(),
            _ => {}
        }
    }
}

/// Reads `17B`, `64KiB`, `5MiB`, `1GiB`, or a bare number of bytes behind `size-`.
pub(super) fn size(text: &str) -> Option<u64> {
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

/// Enough for every test, and not a way to make a stand-in build a large answer.
pub(super) const MOST_URLS: usize = 64;

fn is_code(text: &str) -> bool {
    (1..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wishes() {
        let wishes = Wishes::read("urls-2_form-s3v4_life-90");
        assert_eq!(wishes.urls, Some((Packing::Joined, 2)));
        assert_eq!(wishes.form, Some(UrlForm::S3V4));
        assert_eq!(wishes.life, Some(Duration::from_secs(90)));
        assert_eq!(Wishes::read("code-0300009_b").code, Some("0300009"));
        assert_eq!(Wishes::read("a/b/size-17.wav").size, Some(17));
        assert_eq!(Wishes::read("2026/1GiB.wav").size, Some(1 << 30));
    }

    #[test]
    fn an_ordinary_name_wishes_nothing() {
        for name in [
            "1637742300-1234",
            "",
            "code-x",
            "20210101_12.zip",
            "form-",
            "urls-9999",
        ] {
            assert_eq!(Wishes::read(name), Wishes::default(), "{name}");
        }
    }
}
