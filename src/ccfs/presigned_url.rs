//! When does this pre-signed URL expire? Pure; one small function per URL form. An unknown form or a
//! malformed URL is `None`, and `None` means "do not cache": a lifetime is never guessed.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// The instant after which the object store refuses this URL, if the URL says so in exactly one of
/// the three forms of OBS and S3. Nothing is accepted that another reader may understand differently:
/// a parameter twice, also in another case; parameters of two forms; a name or password in the URL;
/// characters that do not belong into one.
pub fn expires_at(url: &str) -> Option<Timestamp> {
    let query = query(url)?;
    let mut parameters = Parameters::default();
    for pair in query.split('&') {
        // Cut first, decode afterwards: a decoded value may hold `&` and `=`.
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        parameters.insert(&decode(name)?, value)?;
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
        } => from_epoch(&expires),
        Parameters {
            amz_date: Some(date),
            amz_expires: Some(lifetime),
            amz_signature: Some(_),
            access_key_id: None,
            aws_access_key_id: None,
            expires: None,
            signature: None,
        } => from_date_and_lifetime(&date, &lifetime),
        _ => None,
    }
}

/// OBS and S3 version 2: `Expires` is the instant, in seconds since 1970.
fn from_epoch(expires: &str) -> Option<Timestamp> {
    Timestamp::from_second(parse_digits(expires)?).ok()
}

/// S3 version 4: signed at `X-Amz-Date` (UTC, `yyyyMMddTHHmmssZ`), good for `X-Amz-Expires` seconds.
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

/// The values that tell form and expiry, decoded; never empty.
#[derive(Default)]
struct Parameters<'a> {
    access_key_id: Option<Cow<'a, str>>,
    aws_access_key_id: Option<Cow<'a, str>>,
    expires: Option<Cow<'a, str>>,
    signature: Option<Cow<'a, str>>,
    amz_date: Option<Cow<'a, str>>,
    amz_expires: Option<Cow<'a, str>>,
    amz_signature: Option<Cow<'a, str>>,
}

impl<'a> Parameters<'a> {
    /// Keeps a parameter if it is one of ours; `None` if that leaves a doubt: twice, in another case,
    /// empty or broken.
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
        let ours = slots
            .into_iter()
            .find(|(ours, _)| ours.eq_ignore_ascii_case(name));
        let Some((ours, slot)) = ours else {
            return Some(());
        };
        let value = decode(value).filter(|value| !value.is_empty())?;
        let exact_and_once = ours == name && slot.is_none();
        *slot = Some(value);
        exact_and_once.then_some(())
    }
}

/// The raw query of an absolute http(s) URL that has a host and nothing dubious in it.
fn query(url: &str) -> Option<&str> {
    // To the end, whatever it finds: without a way out, many bytes are looked at at a time.
    if !url.bytes().fold(true, |all, byte| all & is_url_byte(byte)) {
        return None;
    }
    let (scheme, rest) = url.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
        return None;
    }
    // A fragment stays with whoever follows the URL; the store does not see it.
    let rest = rest.split('#').next()?;
    let (target, query) = rest.split_once('?')?;
    let authority = target.split('/').next()?;
    let plain = !authority.is_empty() && !authority.contains('@');
    plain.then_some(query)
}

/// May this byte stand in a URL? What RFC 3986 lists, no more.
fn is_url_byte(byte: u8) -> bool {
    let dubious = matches!(
        byte,
        b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}'
    );
    byte.is_ascii_graphic() & !dubious
}

/// Percent-decodes; `+` stays what it is. `None` for a broken escape or what is not UTF-8.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut hex = || char::from(bytes.next()?).to_digit(16);
            let (high, low) = (hex()?, hex()?);
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// A number of nothing but digits; a dozen is enough for every year with four digits.
fn parse_digits(text: &str) -> Option<i64> {
    let plain = (1..=12).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

/// Seven days, in seconds: the store refuses a longer `X-Amz-Expires`.
const MAX_LIFETIME: i64 = 604_800;

#[cfg(test)]
mod tests;
