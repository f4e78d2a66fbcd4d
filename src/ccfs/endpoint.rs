//! The table: every interface of CC-FS, one row each. A new interface is one new row.

use http::Method;

/// One interface of CC-FS.
#[derive(Debug)]
pub struct Endpoint {
    /// The tail of the path, also the name in logs and metrics.
    pub name: &'static str,
    /// The only method it takes.
    pub method: Method,
    /// False for `playVoice`, which carries no Authorization.
    pub authenticated: bool,
    /// The shape of its body, and so what normalization may change.
    pub body: Body,
    /// Which limit holds for its body: uploads have their own.
    pub upload: bool,
    /// What comes back.
    pub answer: Answer,
    /// May a request be sent again when a node may already have acted on it?
    pub repeat: Repeat,
    /// The resultCode of "too many requests" on this interface: 0300008 downloads, 0300009 queries.
    pub flow_control_code: &'static str,
}

impl Endpoint {
    /// The row of paths that the table does not list?
    pub fn is_unlisted(&self) -> bool {
        todo!()
    }
}

/// The shape of a request body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Body {
    /// `{"request":{"version":"2.0"},"msgBody":{…}}`
    Envelope,
    /// The recording-URL request: one flat object.
    Flat,
    /// No body, or one that is none of our business.
    Opaque,
}

/// What comes back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// Bytes of any size, streamed; failures are JSON all the same.
    File,
    /// One JSON object, read whole.
    Json,
    /// One JSON object with pre-signed URLs in it, which may be cached.
    SignedUrl,
}

/// May a request be repeated on another node?
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Repeat {
    /// It only reads.
    Always,
    /// It starts a job, uploads or deletes: only when nothing was sent.
    UnlessSent,
}

/// What a path and method lead to.
#[derive(Clone, Copy, Debug)]
pub enum Lookup {
    /// A row of the table.
    Found(&'static Endpoint),
    /// The path is a row's, the method is not; the one allowed is inside.
    OtherMethod(&'static Endpoint),
    /// Not in the table: [`Endpoint`] of unlisted paths (forwarded untouched, streamed, any method).
    Unlisted(&'static Endpoint),
}

/// All rows.
pub static TABLE: &[Endpoint] = &[];

/// Finds the row for a raw path.
pub fn find(method: &Method, path: &str) -> Lookup {
    let _ = (method, path);
    todo!()
}
