//! Pre-signed URLs in the forms that object stores give out, signed with a key that opens nothing.
//! No two are alike: a number that never repeats stands in the path, so that an answer from a cache
//! can be told from a fresh one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

/// Whose signature a URL carries, and so where it says until when it is good.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum UrlForm {
    /// A link of another service, which does not say when it ends.
    Lss,
    /// OBS: `AccessKeyId`, `Expires`, `Signature`; the port stands in the URL.
    #[default]
    Obs,
    /// `AWSAccessKeyId`, `Expires`, `Signature`.
    S3V2,
    /// `X-Amz-Date`, `X-Amz-Expires`, `X-Amz-Signature`.
    S3V4,
}

impl UrlForm {
    /// The form of this name: `lss`, `obs`, `s3v2`, `s3v4`.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "lss" => Self::Lss,
            "obs" => Self::Obs,
            "s3v2" => Self::S3V2,
            "s3v4" => Self::S3V4,
            _ => return None,
        })
    }
}

/// How several URLs are packed into one answer; how CC-FS does it is not documented.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Packing {
    /// `"url":["…","…"]`
    Array,
    /// `"url":"…,…"`
    #[default]
    Joined,
    /// `"url":"…","url2":"…"`
    Members,
}

impl Packing {
    /// The packing of this name: `array`, `joined`, `members`.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "array" => Self::Array,
            "joined" => Self::Joined,
            "members" => Self::Members,
            _ => return None,
        })
    }
}

/// Which URLs an answer holds, unless the request wishes otherwise.
#[derive(Clone, Copy, Debug)]
pub struct UrlStyle {
    /// Whose signature.
    pub form: UrlForm,
    /// How many.
    pub count: usize,
    /// How several are packed.
    pub packing: Packing,
    /// How long they are good for.
    pub lifetime: Duration,
}

impl Default for UrlStyle {
    /// One OBS link for eight hours, as CC-FS does by default.
    fn default() -> Self {
        Self {
            form: UrlForm::default(),
            count: 1,
            packing: Packing::default(),
            lifetime: Duration::from_secs(8 * 3600),
        }
    }
}

/// Makes the URLs of one node.
#[derive(Debug)]
pub(super) struct Presigner {
    node: u16,
    next: AtomicU64,
}

impl Presigner {
    /// `node` (its port) stands in every URL, so that those of two nodes differ.
    pub(super) fn new(node: u16) -> Self {
        Self {
            node,
            next: AtomicU64::new(1),
        }
    }

    /// The `resultData` of a successful answer.
    pub(super) fn result_data(&self, call_id: &str, style: &UrlStyle, now: Timestamp) -> Value {
        let mut urls = (0..style.count).map(|_| self.url(call_id, style, now));
        let mut data = Map::new();
        match style.packing {
            Packing::Array => {
                data.insert("url".into(), urls.map(Value::from).collect());
            }
            Packing::Joined => {
                let urls: Vec<String> = urls.collect();
                data.insert("url".into(), urls.join(",").into());
            }
            Packing::Members => {
                let first = urls.next().unwrap_or_default();
                data.insert("url".into(), first.into());
                for (number, url) in (2..).zip(urls) {
                    data.insert(format!("url{number}"), url.into());
                }
            }
        }
        data.into()
    }

    fn url(&self, call_id: &str, style: &UrlStyle, now: Timestamp) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name: String = call_id.chars().map(path_safe).collect();
        let path = format!("/voice/{}/{number}/{name}.V3", self.node);
        let life = i64::try_from(style.lifetime.as_secs()).unwrap_or(i64::MAX);
        let expires = now.as_second().saturating_add(life);
        match style.form {
            UrlForm::Lss => format!("https://lss.example.com{path}?token={}", hmac_hex(&path)),
            UrlForm::Obs => format!(
                "https://record-bucket.obs.example.com:443{path}\
                 ?AccessKeyId={KEY_ID}&Expires={expires}&Signature={}",
                signature_v2(&path, expires)
            ),
            UrlForm::S3V2 => format!(
                "https://obs.example.com/record-bucket{path}\
                 ?Signature={}&AWSAccessKeyId={KEY_ID}&Expires={expires}",
                signature_v2(&path, expires)
            ),
            UrlForm::S3V4 => url_v4(&path, life, now),
        }
    }
}

fn signature_v2(path: &str, expires: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, SIGNING_KEY);
    let text = format!("GET\n\n\n{expires}\n/record-bucket{path}");
    percent(&base64(hmac::sign(&key, text.as_bytes()).as_ref()))
}

fn url_v4(path: &str, life: i64, now: Timestamp) -> String {
    let instant = now
        .to_zoned(TimeZone::UTC)
        .strftime("%Y%m%dT%H%M%SZ")
        .to_string();
    let day = instant.get(..8).unwrap_or_default();
    format!(
        "https://record-bucket.obs.example.com:443{path}?X-Amz-Algorithm=AWS4-HMAC-SHA256\
         &X-Amz-Credential={KEY_ID}%2F{day}%2Fregion%2Fs3%2Faws4_request\
         &X-Amz-Date={instant}&X-Amz-Expires={life}&X-Amz-SignedHeaders=host\
         &X-Amz-Signature={}",
        hmac_hex(&format!("{instant}{life}{path}"))
    )
}

/// The lower-case hex of a keyed hash; also what play tokens are sealed with.
pub(super) fn hmac_hex(text: &str) -> String {
    let tag = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, SIGNING_KEY),
        text.as_bytes(),
    );
    tag.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_usize, |bits, at| {
            bits << 8 | usize::from(group.get(at).copied().unwrap_or(0))
        });
        for place in 0..4 {
            let digit = DIGITS[bits >> (18 - 6 * place) & 63];
            text.push(if place <= group.len() {
                digit.into()
            } else {
                '='
            });
        }
    }
    text
}

fn percent(text: &str) -> String {
    text.replace('+', "%2B")
        .replace('/', "%2F")
        .replace('=', "%3D")
}

fn path_safe(c: char) -> char {
    if c.is_ascii_alphanumeric() || c == '-' {
        c
    } else {
        '_'
    }
}

const KEY_ID: &str = "STANDINEXAMPLEKEY000";
const SIGNING_KEY: &[u8] = b"no door has this key";

#[cfg(test)]
mod tests {
    use super::*;

    fn one(form: UrlForm) -> String {
        let style = UrlStyle {
            form,
            ..UrlStyle::default()
        };
        let data = Presigner::new(7).result_data("a/b", &style, Timestamp::UNIX_EPOCH);
        data["url"].as_str().unwrap().to_owned()
    }

    #[test]
    fn every_form_has_its_own_words() {
        let obs = one(UrlForm::Obs);
        assert!(
            obs.contains(".com:443/voice/7/1/a_b.V3?AccessKeyId="),
            "{obs}"
        );
        assert!(obs.contains("&Expires=28800&Signature="), "{obs}");
        assert!(one(UrlForm::S3V2).contains("AWSAccessKeyId="));
        let v4 = one(UrlForm::S3V4);
        assert!(
            v4.contains("&X-Amz-Date=19700101T000000Z&X-Amz-Expires=28800&"),
            "{v4}"
        );
        assert!(!one(UrlForm::Lss).contains("xpires"));
    }

    #[test]
    fn no_url_repeats_and_several_are_packed_as_asked() {
        let presigner = Presigner::new(7);
        let data = |packing| {
            let style = UrlStyle {
                count: 3,
                packing,
                ..UrlStyle::default()
            };
            presigner.result_data("a", &style, Timestamp::UNIX_EPOCH)
        };
        let joined = data(Packing::Joined);
        let joined: Vec<_> = joined["url"].as_str().unwrap().split(',').collect();
        assert_eq!(joined.len(), 3);
        assert_ne!(joined[0], joined[1]);
        assert_eq!(data(Packing::Array)["url"].as_array().unwrap().len(), 3);
        let members = data(Packing::Members);
        assert_ne!(members["url"], members["url3"]);
        assert_ne!(members["url2"], members["url3"]);
    }

    #[test]
    fn base64_pads() {
        assert_eq!(base64(b"any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw==");
        assert_eq!(base64(b"any carnal pleasu"), "YW55IGNhcm5hbCBwbGVhc3U=");
        assert_eq!(base64(b"any carnal pleasur"), "YW55IGNhcm5hbCBwbGVhc3Vy");
    }
}
