//! Builds the canonical bytes that are signed, from method, path, query, headers and body. Signing and
//! verifying share [`CanonicalRequest`], so they cannot disagree.

use std::fmt;

use http::header::HOST;

use super::{AuthError, Signable, percent};

/// The exact text that is signed, in pieces: nothing is copied before it is hashed or displayed.
///
/// `Display` writes the exact text. It contains the body, so it is for the sender of the request
/// (`ccfs-gateway explain`), never for a log; `Debug` omits everything.
pub struct CanonicalRequest<'a> {
    method: &'a str,
    path: &'a str,
    /// Encoded, sorted, joined; empty without parameters.
    query: Vec<u8>,
    names: &'a str,
    fields: SignedFields<'a>,
    body: &'a [u8],
}

impl<'a> CanonicalRequest<'a> {
    /// Creates the canonical request. `names` are the signed header names verbatim, as in
    /// `content-length;host`.
    ///
    /// # Errors
    /// The names are not legal in an Authorization value, the head does not hold each named header
    /// exactly once, or the query repeats a key or has a broken escape.
    pub fn new(names: &'a str, request: &Signable<'a>) -> Result<Self, AuthError> {
        check_names(names)?;
        Self::with_checked_names(names, request)
    }

    /// The same for `names` that have passed [`check_names`].
    pub(super) fn with_checked_names(
        names: &'a str,
        request: &Signable<'a>,
    ) -> Result<Self, AuthError> {
        Ok(Self {
            method: request.method,
            path: request.path,
            query: canonical_query(request.query.unwrap_or_default())?,
            names,
            fields: SignedFields::find(names, request.headers)?,
            body: request.body,
        })
    }

    /// Returns the exact bytes that are signed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512 + 3 * self.body.len());
        self.for_each_chunk(|chunk| bytes.extend_from_slice(chunk));
        bytes
    }

    /// Passes the exact bytes to `sink`, in as few pieces as a small fixed buffer allows.
    pub(super) fn for_each_chunk(&self, sink: impl FnMut(&[u8])) {
        let mut chunks = percent::ChunkWriter::new(sink);
        for line in [self.method.as_bytes(), self.path.as_bytes(), &self.query] {
            // Without parameters there is no query line.
            if !line.is_empty() {
                chunks.write_raw(line);
                chunks.write_raw(b"\n");
            }
        }
        chunks.write_raw(self.names.as_bytes());
        for field in self.fields.as_slice() {
            chunks.write_raw(b"\n");
            chunks.write_encoded(field.name.as_bytes());
            chunks.write_raw(b":");
            chunks.write_encoded(field.value);
        }
        chunks.write_raw(b"\n");
        chunks.write_encoded(self.body);
        chunks.finish();
    }
}

impl fmt::Display for CanonicalRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_bytes()))
    }
}

impl fmt::Debug for CanonicalRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CanonicalRequest(..)")
    }
}

/// Checks that `names` may be the list of signed headers: lower-case names, none twice, `host` among them.
pub(super) fn check_names(names: &str) -> Result<(), AuthError> {
    let mut has_host = false;
    for (index, name) in names.split(';').enumerate() {
        if index == MAX_SIGNED_NAMES {
            return Err(AuthError::Malformed("too many signed fields"));
        }
        if name.is_empty() || !name.bytes().all(is_lower_token) {
            return Err(AuthError::Malformed(
                "a signed field has no lower-case name",
            ));
        }
        if names.split(';').take(index).any(|other| other == name) {
            return Err(AuthError::Malformed("a signed field is named twice"));
        }
        has_host |= name == "host";
    }
    if has_host {
        Ok(())
    } else {
        Err(AuthError::Malformed("host is not signed"))
    }
}

/// The signed headers in the order of their canonical lines, which is not the order of their names:
/// `x-trace-id:` sorts before `x-trace:`.
struct SignedFields<'a> {
    /// Up to [`INLINE_FIELDS`] need no allocation; observed clients sign one to three.
    inline: [Field<'a>; INLINE_FIELDS],
    /// All of them if they are more than fit inline, else empty.
    heap: Vec<Field<'a>>,
    count: usize,
}

#[derive(Clone, Copy, Default)]
struct Field<'a> {
    name: &'a str,
    value: &'a [u8],
}

impl<'a> SignedFields<'a> {
    fn find(names: &'a str, headers: &'a http::HeaderMap) -> Result<Self, AuthError> {
        let mut fields = Self {
            inline: [Field::default(); INLINE_FIELDS],
            heap: Vec::new(),
            count: names.split(';').count(),
        };
        if fields.count > INLINE_FIELDS {
            fields.heap.resize(fields.count, Field::default());
        }
        for (field, name) in fields.as_mut_slice().iter_mut().zip(names.split(';')) {
            *field = Field {
                name,
                value: single_value(headers, name)?,
            };
        }
        fields.as_mut_slice().sort_unstable_by(|a, b| a.cmp_line(b));
        Ok(fields)
    }

    fn as_slice(&self) -> &[Field<'a>] {
        if self.heap.is_empty() {
            &self.inline[..self.count]
        } else {
            &self.heap
        }
    }

    fn as_mut_slice(&mut self) -> &mut [Field<'a>] {
        if self.heap.is_empty() {
            &mut self.inline[..self.count]
        } else {
            &mut self.heap
        }
    }
}

impl Field<'_> {
    /// Compares the canonical lines. Names differ, so the values never decide.
    fn cmp_line(&self, other: &Self) -> std::cmp::Ordering {
        let (a, b) = (self.name.as_bytes(), other.name.as_bytes());
        let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
        // Upper-case hex digits sort as the bytes that they encode.
        let rank = |name: &[u8]| match name.get(same) {
            Some(byte) => (percent::first_encoded_byte(*byte), *byte),
            None => (b':', b':'),
        };
        rank(a).cmp(&rank(b))
    }
}

/// Returns the single value of a header without surrounding whitespace, which HTTP does not preserve.
pub(super) fn single_value<'a>(
    headers: &'a http::HeaderMap,
    name: &str,
) -> Result<&'a [u8], AuthError> {
    // `host` is always signed: the constant saves parsing the name.
    let mut values = match name {
        "host" => headers.get_all(HOST).iter(),
        name => headers.get_all(name).iter(),
    };
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value.as_bytes().trim_ascii()),
        _ => Err(AuthError::SignedFieldMissing(name.to_owned())),
    }
}

/// Returns the canonical query: `key=value` pairs decoded, encoded again, sorted as encoded text and joined
/// with `&`.
///
/// A plus stays a plus. Empty pieces (`a=1&&b=2`) are dropped.
///
/// # Errors
/// A broken escape, which nodes and clients would decode differently, or a repeated key.
pub(super) fn canonical_query(query: &str) -> Result<Vec<u8>, AuthError> {
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let mut encoded = Vec::with_capacity(pair.len() + 1);
        reencode(key, &mut encoded)?;
        encoded.push(b'=');
        let key_length = encoded.len();
        reencode(value, &mut encoded)?;
        pairs.push((encoded, key_length));
    }
    pairs.sort_unstable();
    // An encoded key holds no `=`, so pairs of one key are neighbours.
    let has_same_key = |two: &[(Vec<u8>, usize)]| match two {
        [(a, a_key), (b, b_key)] => a[..*a_key] == b[..*b_key],
        _ => false,
    };
    if pairs.windows(2).any(has_same_key) {
        return Err(AuthError::RepeatedQueryKey);
    }
    let pairs: Vec<_> = pairs.into_iter().map(|(encoded, _)| encoded).collect();
    Ok(pairs.join(&b'&'))
}

fn reencode(text: &str, out: &mut Vec<u8>) -> Result<(), AuthError> {
    let decoded =
        percent::decode(text).ok_or(AuthError::Malformed("a broken escape in the query"))?;
    out.extend(percent::encode(&decoded));
    Ok(())
}

/// RFC 9110 section 5.6.2, without upper-case letters.
fn is_lower_token(byte: u8) -> bool {
    matches!(
        byte,
        b'a'..=b'z' | b'0'..=b'9' | b'-' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'.' | b'^'..=b'`' | b'|' | b'~'
    )
}

/// Observed clients sign one to three headers.
const INLINE_FIELDS: usize = 8;

/// Far above what observed clients sign; bounds the work that an unverified request can cause.
const MAX_SIGNED_NAMES: usize = 64;
