//! Reading a node's JSON answer.

use jiff::Timestamp;

/// A whole JSON answer of CC-FS: one JSON object, nothing behind it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Json {
    /// `resultCode`, if it is a string.
    pub result_code: Option<String>,
    /// The earliest expiry of the URLs in `resultData`; `None` if there is no URL or any of them has
    /// no readable expiry.
    pub expires_at: Option<Timestamp>,
}

/// What a result code says about the node and the request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// 0300008 or 0300009: nothing was done; another node may be tried.
    Busy,
    /// 0300012: no data (yet).
    NoData,
    /// Anything else.
    Other,
}

impl Json {
    /// Reads an answer; `None` if it is not exactly one JSON object.
    pub fn read(body: &[u8]) -> Option<Self> {
        let _ = body;
        None
    }

    /// What the result code says.
    pub fn verdict(&self) -> Verdict {
        Verdict::Other
    }
}

/// The envelope of CC-FS, around a refusal of our own.
pub fn envelope(code: &str, text: &str) -> bytes::Bytes {
    let _ = (code, text);
    bytes::Bytes::new()
}
