//! Pre-signed URLs in the forms of object stores, signed with a key that grants no access. Each URL is
//! unique: its path contains a sequence number, so that a cached response differs from a fresh one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;
use data_encoding::{BASE64, HEXLOWER};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use super::object_store::PREFIX;

/// The signature scheme of a URL, which determines where its expiry is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum UrlForm {
    /// A link of another service, without a readable expiry.
    Lss,
    /// OBS: `AccessKeyId`, `Expires`, `Signature`; the URL contains the port.
    #[default]
    Obs,
    /// `AWSAccessKeyId`, `Expires`, `Signature`.
    S3V2,
    /// `X-Amz-Date`, `X-Amz-Expires`, `X-Amz-Signature`.
    S3V4,
}

impl UrlForm {
    /// Parses `lss`, `obs`, `s3v2` or `s3v4`.
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

/// How several URLs are packed into one response; CC-FS does not document it.
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
    /// Parses `array`, `joined` or `members`.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "array" => Self::Array,
            "joined" => Self::Joined,
            "members" => Self::Members,
            _ => return None,
        })
    }
}

/// The URLs of a response, unless the request selects others.
#[derive(Clone, Copy, Debug)]
pub struct UrlStyle {
    /// The signature scheme.
    pub form: UrlForm,
    /// Number of URLs.
    pub count: usize,
    /// How several URLs are packed.
    pub packing: Packing,
    /// How long the URLs are valid.
    pub lifetime: Duration,
    /// Whether OBS links lead to the node itself, which has a recording there.
    pub opens: bool,
}

impl Default for UrlStyle {
    /// Returns one OBS link that is valid for eight hours, the default of CC-FS.
    fn default() -> Self {
        Self {
            form: UrlForm::default(),
            count: 1,
            packing: Packing::default(),
            lifetime: Duration::from_secs(8 * 3600),
            opens: false,
        }
    }
}

/// Creates the URLs of one node.
#[derive(Debug)]
pub(super) struct Presigner {
    node: u16,
    next: AtomicU64,
}

impl Presigner {
    /// Creates a presigner; every URL contains `node` (its port), so that URLs of two nodes differ.
    pub(super) fn new(node: u16) -> Self {
        Self {
            node,
            next: AtomicU64::new(1),
        }
    }

    /// Returns the `resultData` of a successful response.
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
        let path = format!("{PREFIX}{}/{number}/{name}.V3", self.node);
        let lifetime = i64::try_from(style.lifetime.as_secs()).unwrap_or(i64::MAX);
        let expires = now.as_second().saturating_add(lifetime);
        match style.form {
            UrlForm::Lss => format!("https://lss.example.com{path}?token={}", hmac_hex(&path)),
            UrlForm::Obs => {
                let host = if style.opens {
                    format!("127.0.0.1:{}", self.node)
                } else {
                    "record-bucket.obs.example.com:443".to_owned()
                };
                format!(
                    "https://{host}{path}?AccessKeyId={KEY_ID}&Expires={expires}&Signature={}",
                    escaped(&signature_v2(&path, expires))
                )
            }
            UrlForm::S3V2 => format!(
                "https://obs.example.com/record-bucket{path}\
                 ?Signature={}&AWSAccessKeyId={KEY_ID}&Expires={expires}",
                escaped(&signature_v2(&path, expires))
            ),
            UrlForm::S3V4 => url_v4(&path, lifetime, now),
        }
    }
}

/// Returns the signature of OBS and S3 version 2.
pub(super) fn signature_v2(path: &str, expires: i64) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, SIGNING_KEY);
    let text = format!("GET\n\n\n{expires}\n/record-bucket{path}");
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

/// Writes a signature in a query.
fn escaped(signature: &[u8]) -> String {
    utf8_percent_encode(&BASE64.encode(signature), NON_ALPHANUMERIC).to_string()
}

/// Returns a URL of S3 version 4.
fn url_v4(path: &str, lifetime: i64, now: Timestamp) -> String {
    let instant = now
        .to_zoned(TimeZone::UTC)
        .strftime("%Y%m%dT%H%M%SZ")
        .to_string();
    let day = instant.get(..8).unwrap_or_default();
    format!(
        "https://record-bucket.obs.example.com:443{path}?X-Amz-Algorithm=AWS4-HMAC-SHA256\
         &X-Amz-Credential={KEY_ID}%2F{day}%2Fregion%2Fs3%2Faws4_request\
         &X-Amz-Date={instant}&X-Amz-Expires={lifetime}&X-Amz-SignedHeaders=host\
         &X-Amz-Signature={}",
        hmac_hex(&format!("{instant}{lifetime}{path}"))
    )
}

/// Returns the HMAC-SHA256 of `text` in lower-case hex; also authenticates play tokens.
pub(super) fn hmac_hex(text: &str) -> String {
    let tag = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, SIGNING_KEY),
        text.as_bytes(),
    );
    HEXLOWER.encode(tag.as_ref())
}

/// Replaces the characters that a path may not contain.
fn path_safe(c: char) -> char {
    if c.is_ascii_alphanumeric() || c == '-' {
        c
    } else {
        '_'
    }
}

const KEY_ID: &str = "STANDINEXAMPLEKEY000";
const SIGNING_KEY: &[u8] = b"opens no object store";

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
    fn every_form_has_its_parameters() {
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
    fn urls_are_unique_and_packed_as_requested() {
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
}
