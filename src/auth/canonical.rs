//! Method, path, query, fields and body to the canonical bytes that are signed. Signing and
//! verifying both go through [`CanonicalRequest`], so they cannot disagree.

use std::fmt;

use http::header::HOST;

use super::{AuthError, Signable, percent};

/// The exact text that is signed, in pieces: nothing is copied until it is hashed or shown.
///
/// `Display` is the exact text. It holds the body, so it is for the eyes of whoever sent the request
/// (`ccfs-gateway explain`), never for a log; `Debug` shows nothing of it.
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
    /// `names`: the signed field names verbatim, as in `content-length;host`.
    ///
    /// Refuses a list of names that may not stand in an Authorization value, a named field that the
    /// head does not hold exactly once, and a query that repeats a key or has a broken escape.
    pub fn new(names: &'a str, request: &Signable<'a>) -> Result<Self, AuthError> {
        check_names(names)?;
        Self::with_checked_names(names, request)
    }

    /// `names` has passed [`check_names`].
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

    /// The exact bytes that are signed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512 + 3 * self.body.len());
        self.for_each_chunk(|chunk| bytes.extend_from_slice(chunk));
        bytes
    }

    /// Hands the exact bytes to `take`, in as few pieces as a small fixed buffer allows.
    pub(super) fn for_each_chunk(&self, take: impl FnMut(&[u8])) {
        let mut chunks = percent::ChunkWriter::new(take);
        for line in [self.method.as_bytes(), self.path.as_bytes(), &self.query] {
            // A request without parameters has no query line at all.
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

/// May `names` stand in an Authorization value? Lower-case field names, none twice, `host` among them.
pub(super) fn check_names(names: &str) -> Result<(), AuthError> {
    let mut host = false;
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
        host |= name == "host";
    }
    if host {
        Ok(())
    } else {
        Err(AuthError::Malformed("host is not signed"))
    }
}

/// The signed fields in the order of their finished lines, which is not the order of their names:
/// `x-trace-id:` stands before `x-trace:`.
struct SignedFields<'a> {
    /// Real clients sign one to three fields: those are not worth an allocation.
    inline: [Field<'a>; INLINE_FIELDS],
    /// Holds all fields if they are more than a few.
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
    /// Compares the finished lines. Names differ, so that the values never decide.
    fn cmp_line(&self, other: &Self) -> std::cmp::Ordering {
        let (a, b) = (self.name.as_bytes(), other.name.as_bytes());
        let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
        // Upper-case hex digits are in the order of the bytes they stand for.
        let rank = |name: &[u8]| match name.get(same) {
            Some(byte) => (percent::first_encoded_byte(*byte), *byte),
            None => (b':', b':'),
        };
        rank(a).cmp(&rank(b))
    }
}

/// The one value of a field, without the blanks around it, which HTTP drops on the way.
pub(super) fn single_value<'a>(
    headers: &'a http::HeaderMap,
    name: &str,
) -> Result<&'a [u8], AuthError> {
    // The one that is always signed is found without being parsed as a name.
    let mut values = match name {
        "host" => headers.get_all(HOST).iter(),
        name => headers.get_all(name).iter(),
    };
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value.as_bytes().trim_ascii()),
        _ => Err(AuthError::SignedFieldMissing(name.to_owned())),
    }
}

/// `key=value` pairs, decoded and encoded again, sorted as finished text and joined with `&`.
///
/// A broken escape is refused rather than read as a literal `%`: nodes and clients would not agree on
/// it. A plus is a plus. Empty pieces (`a=1&&b=2`) are no parameters.
fn canonical_query(query: &str) -> Result<Vec<u8>, AuthError> {
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
    // An encoded key holds no `=`, so that pairs of one key are neighbours.
    let same_key = |two: &[(Vec<u8>, usize)]| match two {
        [(a, a_key), (b, b_key)] => a[..*a_key] == b[..*b_key],
        _ => false,
    };
    if pairs.windows(2).any(same_key) {
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

const INLINE_FIELDS: usize = 8;

/// Far above what any client signs; bounds the work a stranger can ask for.
const MAX_SIGNED_NAMES: usize = 64;
