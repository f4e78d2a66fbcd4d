//! Reads the expiry of pre-signed URLs. Pure; one small function per URL form. An unknown form or a malformed
//! URL is `None`, which means "do not cache": a lifetime is never guessed.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use percent_encoding::percent_decode_str;

/// Returns the instant after which the object store rejects this URL, if the URL has exactly one of the three
/// forms of OBS and S3. Nothing is accepted that another parser may read differently: a repeated parameter,
/// also in another case; parameters of two forms; a name or password in the URL; characters that RFC 3986
/// does not allow.
pub fn expires_at(url: &str) -> Option<Timestamp> {
    let query = query(url)?;
    let mut parameters = Parameters::default();
    let mut rest = Some(query);
    while let Some(pairs) = rest {
        let (pair, after) = split_at_byte(pairs, b'&');
        rest = after;
        // Split before decoding: a decoded value may hold `&` and `=`.
        let (name, value) = split_at_byte(pair, b'=');
        parameters.insert(&decode(name)?, value.unwrap_or_default())?;
    }
    match parameters {
        Parameters {
            access_key_id: Some(_),
            expires: Some(expires),
            signature: Some(_),
            aws_access_key_id: None,
            amz_date: None,
            amz_expires: None,
            amz_signature: None,
        }
        | Parameters {
            aws_access_key_id: Some(_),
            expires: Some(expires),
            signature: Some(_),
            access_key_id: None,
            amz_date: None,
            amz_expires: None,
            amz_signature: None,
        } => from_epoch(&decode(expires)?),
        Parameters {
            amz_date: Some(date),
            amz_expires: Some(lifetime),
            amz_signature: Some(_),
            access_key_id: None,
            aws_access_key_id: None,
            expires: None,
            signature: None,
        } => from_date_and_lifetime(&decode(date)?, &decode(lifetime)?),
        _ => None,
    }
}

/// OBS and S3 signature version 2: `Expires` is the instant, in seconds since 1970.
fn from_epoch(expires: &str) -> Option<Timestamp> {
    Timestamp::from_second(parse_digits(expires)?).ok()
}

/// S3 signature version 4: signed at `X-Amz-Date` (UTC, `yyyyMMddTHHmmssZ`), valid for `X-Amz-Expires`
/// seconds.
fn from_date_and_lifetime(date: &str, lifetime: &str) -> Option<Timestamp> {
    let (day, time) = date.strip_suffix('Z')?.split_once('T')?;
    if (day.len(), time.len()) != (8, 6) {
        return None;
    }
    let (day, time) = (parse_digits(day)?, parse_digits(time)?);
    let signed_at = DateTime::new(
        i16::try_from(day / 10_000).ok()?,
        i8::try_from(day / 100 % 100).ok()?,
        i8::try_from(day % 100).ok()?,
        i8::try_from(time / 10_000).ok()?,
        i8::try_from(time / 100 % 100).ok()?,
        i8::try_from(time % 100).ok()?,
        0,
    );
    let signed_at = Offset::UTC.to_timestamp(signed_at.ok()?).ok()?;
    let lifetime = parse_digits(lifetime).filter(|seconds| *seconds <= MAX_LIFETIME)?;
    Timestamp::from_second(signed_at.as_second() + lifetime).ok()
}

/// The parameters that determine form and expiry, as they are written: each can be decoded, and none is empty.
#[derive(Default)]
struct Parameters<'a> {
    access_key_id: Option<&'a str>,
    aws_access_key_id: Option<&'a str>,
    expires: Option<&'a str>,
    signature: Option<&'a str>,
    amz_date: Option<&'a str>,
    amz_expires: Option<&'a str>,
    amz_signature: Option<&'a str>,
}

impl<'a> Parameters<'a> {
    /// Stores a parameter if it is one of these; `None` if it is ambiguous: repeated, in another case, empty
    /// or malformed.
    fn insert(&mut self, name: &str, value: &'a str) -> Option<()> {
        let slots = [
            ("AccessKeyId", &mut self.access_key_id),
            ("AWSAccessKeyId", &mut self.aws_access_key_id),
            ("Expires", &mut self.expires),
            ("Signature", &mut self.signature),
            ("X-Amz-Date", &mut self.amz_date),
            ("X-Amz-Expires", &mut self.amz_expires),
            ("X-Amz-Signature", &mut self.amz_signature),
        ];
        let known = slots
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        let Some((known, slot)) = known else {
            return Some(());
        };
        if value.is_empty() || !is_decodable(value) {
            return None;
        }
        let is_exact_and_first = known == name && slot.is_none();
        *slot = Some(value);
        is_exact_and_first.then_some(())
    }
}

/// Returns the raw query of an absolute http(s) URL with a host and without user information or illegal
/// characters.
fn query(url: &str) -> Option<&str> {
    // Without an early exit the compiler vectorizes the loop.
    if !url.bytes().fold(true, |all, byte| all & is_url_byte(byte)) {
        return None;
    }
    let after = |scheme: &str| {
        let start = url.get(..scheme.len())?;
        let rest = url.get(scheme.len()..);
        rest.filter(|_| start.eq_ignore_ascii_case(scheme))
    };
    let rest = after("https://").or_else(|| after("http://"))?;
    // A fragment is not sent to the store.
    let (rest, _fragment) = split_at_byte(rest, b'#');
    let (target, query) = split_at_byte(rest, b'?');
    let (authority, _path) = split_at_byte(target, b'/');
    let is_plain = !authority.is_empty() && !authority.as_bytes().contains(&b'@');
    query.filter(|_| is_plain)
}

/// Whether RFC 3986 allows this byte in a URL.
fn is_url_byte(byte: u8) -> bool {
    let is_excluded = matches!(
        byte,
        b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}'
    );
    byte.is_ascii_graphic() & !is_excluded
}

/// Returns what is before the first `separator`, which is ASCII, and what is after it, if there is one.
fn split_at_byte(text: &str, separator: u8) -> (&str, Option<&str>) {
    let at = memchr::memchr(separator, text.as_bytes());
    let parts = at.and_then(|at| Some((text.get(..at)?, text.get(at + 1..)?)));
    parts.map_or((text, None), |(before, after)| (before, Some(after)))
}

/// Percent-decodes; `+` stays. `None` for a text that is not [decodable](is_decodable).
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if memchr::memchr(b'%', text.as_bytes()).is_none() {
        return Some(Cow::Borrowed(text));
    }
    let decoded = || percent_decode_str(text).decode_utf8().ok();
    has_whole_escapes(text).then(decoded)?
}

/// Whether a text has no broken escape, which `percent-encoding` would pass through, and is UTF-8 once decoded. A
/// signature has a dozen escapes, and is not decoded to know this.
fn is_decodable(text: &str) -> bool {
    let mut escapes = memchr::memchr_iter(b'%', text.as_bytes());
    let is_ascii = |at: usize| matches!(text.as_bytes().get(at + 1), Some(b'0'..=b'7'));
    if escapes.all(is_ascii) {
        has_whole_escapes(text)
    } else {
        decode(text).is_some()
    }
}

/// Whether two hexadecimal digits follow every `%`.
fn has_whole_escapes(text: &str) -> bool {
    memchr::memchr_iter(b'%', text.as_bytes()).all(|at| {
        let digits = text.as_bytes().get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

/// Parses a number of at most twelve digits, enough for every instant of a four-digit year.
fn parse_digits(text: &str) -> Option<i64> {
    let is_number =
        (1..=12).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

/// Seven days, in seconds: S3 and OBS reject a longer `X-Amz-Expires`.
const MAX_LIFETIME: i64 = 604_800;

#[cfg(test)]
mod tests;
