//! Whether a request body is declared as JSON in UTF-8. Pure.

use http::{HeaderMap, header};

/// Checks `Content-Type` and `Content-Encoding`; an absent Content-Type passes.
///
/// # Errors
/// The text names what is wrong and what would be right.
pub(super) fn check_json(headers: &HeaderMap) -> Result<(), &'static str> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err("a Content-Encoding is not supported on requests");
    }
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let Some(value) = values.next() else {
        return Ok(());
    };
    let is_json = values.next().is_none() && value.to_str().is_ok_and(is_json_in_utf8);
    if is_json {
        Ok(())
    } else {
        Err("Content-Type must be application/json;charset=UTF-8")
    }
}

/// Whether a value is `application/json` with no charset or UTF-8, in any case and spacing (RFC 9110,
/// 8.3.1).
fn is_json_in_utf8(value: &str) -> bool {
    // What nearly all clients send.
    if value.eq_ignore_ascii_case("application/json;charset=utf-8") || value == "application/json" {
        return true;
    }
    let mut quoting = Quoting::Outside;
    if value.chars().fold(Quoting::Outside, Quoting::after) != Quoting::Outside {
        return false;
    }
    let is_separator = move |character| {
        quoting = quoting.after(character);
        character == ';' && quoting == Quoting::Outside
    };
    let mut parts = value.split(is_separator).map(str::trim);
    if !parts
        .next()
        .is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
    {
        return false;
    }
    let mut charsets = 0;
    for parameter in parts.filter(|part| !part.is_empty()) {
        let Some((name, value)) = parameter.split_once('=') else {
            return false;
        };
        let value = value.trim();
        let unquoted = value
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        // Only a whole value is quoted: in other places a quote could hide a parameter.
        if name.contains('"') || unquoted.is_none() && value.contains('"') {
            return false;
        }
        if name.trim_end().eq_ignore_ascii_case("charset") {
            charsets += 1;
            if !unquoted.unwrap_or(value).eq_ignore_ascii_case("utf-8") {
                return false;
            }
        }
    }
    charsets <= 1
}

/// The position relative to a quoted string (RFC 9110, 5.6.4), in which `;` separates nothing.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Quoting {
    Outside,
    Inside,
    /// Behind a backslash inside a quoted string.
    Escaped,
}

impl Quoting {
    fn after(self, character: char) -> Self {
        match (self, character) {
            (Self::Outside, '"') | (Self::Escaped, _) => Self::Inside,
            (Self::Inside, '"') => Self::Outside,
            (Self::Inside, '\\') => Self::Escaped,
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_in_utf8_passes_in_every_spelling() {
        for good in [
            "application/json",
            "application/json;charset=UTF-8",
            "application/json; charset=utf-8",
            "Application/JSON ; Charset=\"UTF-8\"",
            "application/json;",
            "application/json; profile=x; charset=utf-8",
            "application/json; profile=\"a;b\"; charset=utf-8",
            "application/json; profile=\"a\\\";charset=gbk\"",
        ] {
            assert!(is_json_in_utf8(good), "{good}");
        }
        for bad in [
            "",
            "text/plain",
            "application/jsonp",
            "application/json;charset=gbk",
            "application/json;charset=utf-8;charset=gbk",
            "application/json, text/plain",
            "application/x-www-form-urlencoded",
            "application/json;charset",
            "application/json; profile=\"a;b\"; charset=gbk",
            "application/json; profile=\"a; charset=gbk",
            "application/json; profile=x\"a;charset=gbk\"",
            "application/json; \"profile;charset=gbk\"=x",
        ] {
            assert!(!is_json_in_utf8(bad), "{bad}");
        }
    }
}
