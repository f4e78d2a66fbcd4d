//! What must never be shown of a file.

use std::ops::Range;

/// Does a value under this key hold a secret itself?
pub(super) fn is_secret_key(key: &str) -> bool {
    key == "secret_key"
}

/// Could the name of a file that is not there be the path of one, rather than a secret in its place?
pub(super) fn looks_like_path(text: &str) -> bool {
    text.contains(['/', '.']) && !text.contains(['+', '='])
}

/// Does the text hold a URL with a password (`https://user:password@host`)?
pub(super) fn has_url_password(text: &str) -> bool {
    text.match_indices("://").any(|(at, mark)| {
        let rest = &text[at + mark.len()..];
        // A password may hold any of `/?#` by mistake: only blanks and the next URL end the search.
        let end = rest.find(|c: char| c.is_whitespace()).unwrap_or(rest.len());
        let authority = rest[..end]
            .split(['/', '?', '#'])
            .next()
            .unwrap_or_default();
        match authority.rsplit_once('@') {
            Some((user, _)) => user.contains(':'),
            None => {
                authority.contains(':') && !is_host_and_port(authority) && rest[..end].contains('@')
            }
        }
    })
}

/// `host:443`, `[::1]:443`: what may stand before a path that holds an `@`.
fn is_host_and_port(authority: &str) -> bool {
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
    authority.starts_with('[') || port.bytes().all(|byte| byte.is_ascii_digit())
}

/// What to hide of a text that is not TOML, by its lines alone: better too much. With
/// `every_value`, all that stands right of a `=` or on a line without one.
pub(super) fn spans_in_invalid_toml(text: &str, every_value: bool) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    let mut start = 0;
    let mut closing: Option<&str> = None;
    for line in text.split_inclusive('\n') {
        let end = start + line.len();
        let from = match (closing, line.split_once('=')) {
            (Some(quotes), _) => {
                if line.contains(quotes) {
                    closing = None;
                }
                Some(0)
            }
            (None, Some((key, value))) => {
                let sensitive = every_value
                    || is_secret_like(key)
                    || has_url_password(line)
                    || is_secret_like(value)
                    || reference_holds_secret(line);
                if sensitive {
                    closing = if value.trim_start().starts_with('[') && !value.contains(']') {
                        Some("]")
                    } else {
                        ["\"\"\"", "'''"]
                            .into_iter()
                            .find(|quotes| value.matches(quotes).count() == 1)
                    };
                }
                sensitive.then_some(key.len())
            }
            (None, None) => {
                let heading = line.trim_start().starts_with('[') || line.trim().is_empty();
                (!heading && (every_value || is_secret_like(line) || has_url_password(line)))
                    .then_some(0)
            }
        };
        if let Some(from) = from {
            hidden.push(start + from..end);
        }
        start = end;
    }
    hidden
}

/// Does a key that names where a secret is (`secret_key_file`) seem to have the secret as its value?
fn reference_holds_secret(line: &str) -> bool {
    REFERENCE_KEYS.iter().any(|name| {
        line.match_indices(name).any(|(at, _)| {
            let rest = &line[at + name.len()..];
            let value = rest.split_once('=').map_or("", |(_, value)| value).trim();
            let (value, ends) = match value.strip_prefix('[') {
                Some(list) => (list, "]"),
                None => (value, ",}"),
            };
            let value = value.split(|c| ends.contains(c)).next().unwrap_or_default();
            !value.split(',').all(looks_like_path)
        })
    })
}

/// Keys whose value is no secret.
const REFERENCE_KEYS: [&str; 5] = [
    "seal_key_file",
    "secret_key_file",
    "secret_key_env",
    "password_file",
    "token_file",
];

/// `secret_key`, `sk`, `password`, `token`, however it is mistyped further; names of files are none.
fn is_secret_like(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let names = ["secret", "password", "passwd", "token"];
    let named = names.iter().any(|name| lower.contains(name));
    let without_references = REFERENCE_KEYS
        .iter()
        .fold(lower, |text, name| text.replace(name, ""));
    named && names.iter().any(|name| without_references.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_urls_are_found() {
        for text in [
            "https://u:p@h:1",
            "redis://:p@h",
            "see https://h and x://u:p@h",
            "https://u:p/w@h",
            "https://u:p@ss@h",
        ] {
            assert!(has_url_password(text), "{text}");
        }
        for text in [
            "https://h:8443",
            "https://[::1]:8443/a@b",
            "https://u@h",
            "u:p@h",
            "https://h:8443/a@b",
            "://",
        ] {
            assert!(!has_url_password(text), "{text}");
        }
    }

    #[test]
    fn broken_texts_hide_what_may_be_secret() {
        let shown = |text: &str, every| {
            let mut bytes = text.as_bytes().to_vec();
            for range in spans_in_invalid_toml(text, every) {
                bytes[range].fill(b'*');
            }
            String::from_utf8(bytes).unwrap()
        };
        for text in [
            "secret_key = \"CANARY",
            "a = { secret_key = \"CANARY\", b = }",
            "\"secret_key\" = 'CANARY",
            "secret_key = \"\"\"\nCANARY\n",
            "secret_key_file = \"x\", secret_key = \"CANARY",
            "url = \"redis://:CANARY@h",
            "password = CANARY",
            "secret_key_file = \"CANARY\"",
            "secret_key_file = [\"a/b\", \"CANARY\"]",
            "secret_key_file = [\n\"CANARY\",",
            "secret_key_env = 'CANARY'",
            "B = { in_flight = 1, token_file = \"CANARY\" }",
        ] {
            assert!(!shown(text, false).contains("CANARY"), "{text}");
        }
        assert_eq!(shown("bind = 0.0.0.0:1", false), "bind = 0.0.0.0:1");
        for clear in [
            "secret_key_file = \"keys/x\"",
            "B = { secret_key_file = [\"a.1\", \"a.2\"], x = 1 }",
        ] {
            assert_eq!(shown(clear, false), clear);
        }
        assert!(!shown("anything = \"CANARY\nCANARY", true).contains("CANARY"));
    }
}
