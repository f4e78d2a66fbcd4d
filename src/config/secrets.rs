//! Finds the parts of a file that must never be shown.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::auth::is_api_key;

/// Whether the value of this key is a secret itself.
pub(super) fn is_secret_key(key: &str) -> bool {
    key == "secret_key"
}

/// Whether the name of a missing file can be a path, rather than a secret written in its place.
pub(super) fn looks_like_path(text: &str) -> bool {
    text.contains(['/', '.']) && !text.contains(['+', '=', '\n']) && !text.contains("-----")
}

/// Whether a name can be a secret written in the place of a name: a long run of letters and digits.
pub(super) fn looks_like_secret(text: &str) -> bool {
    text.len() >= MIN_SECRET_LENGTH
        && !text.contains('_')
        && text.bytes().any(|byte| byte.is_ascii_digit())
}

/// Whether a text can be an API key written in the place of something else. Words are rarely as long, and hold no
/// digit.
pub(super) fn looks_like_api_key(text: &str) -> bool {
    is_api_key(text.as_bytes()) && text.bytes().any(|byte| byte.is_ascii_digit())
}

/// Whether the name of a caller is shown: one that is none, or looks like an API key, may be a secret.
pub(super) fn is_shown_caller_name(name: &str) -> bool {
    is_caller_name(name) && !looks_like_api_key(name)
}

/// Whether a text is a name of a caller.
pub(super) fn is_caller_name(name: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_CALLER_NAME_LENGTH).contains(&name.len()) && name.bytes().all(is_legal)
}

/// Whether the text holds a URL with a password (`https://user:password@host`).
pub(super) fn has_url_password(text: &str) -> bool {
    text.match_indices("://").any(|(at, mark)| {
        let rest = &text[at + mark.len()..];
        // A password may hold any of `/?#` by mistake: only whitespace and the next URL end the search.
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

/// Whether an authority before a path that holds an `@` is `host:443` or `[::1]:443`.
fn is_host_and_port(authority: &str) -> bool {
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
    authority.starts_with('[') || port.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the spans to redact in a text that is not TOML.
///
/// The text is classified line by line, since no parser accepts it. Only what is recognized as
/// harmless stays visible: headers of known tables, known keys, and, in tables of `main` that hold no
/// access keys, the values of those keys. All else is redacted, so that a secret stays hidden under
/// any name, in any quotes and in any other syntax (JSON, YAML).
pub(super) fn spans_in_invalid_toml(
    text: &str,
    known_keys: &BTreeSet<String>,
    main: bool,
) -> Vec<Range<usize>> {
    let mut state = if main {
        LineState::Public
    } else {
        LineState::Secret
    };
    let mut spans = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let content = line.trim_end_matches(['\n', '\r']);
        let (visible, next) = state.classify(content, known_keys);
        if visible < content.len() {
            spans.push(start + visible..start + content.len());
        }
        state = if main { next } else { next.without_public() };
        start += line.len();
    }
    spans
}

/// The state at the start of a line of a file that does not parse.
///
/// | state             | line                                | next       |
/// |-------------------|-------------------------------------|------------|
/// | not `OpenText`    | header of a table without access keys | `Public` |
/// | not `OpenText`    | header of access keys               | `Secret`   |
/// | `Public`          | known key, value opens a list       | `OpenList` |
/// | `Public`          | known key                           | `Public`   |
/// | `Public`          | anything else                       | `Secret`   |
/// | `Public`, `Secret` | opens a multi-line text            | `OpenText` |
/// | `OpenList`        | `]`: of the list, or of a mistyped header | `Secret` |
/// | `OpenText`        | its closing quotes                  | `Secret`   |
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum LineState {
    /// In a table that holds no secrets: the values of known keys are shown.
    Public,
    /// Below access keys, or below text that is not recognized: no value is shown.
    Secret,
    /// Inside a list of a public table: nothing is shown.
    OpenList,
    /// Inside a multi-line text: nothing is shown, not even what looks like a header.
    OpenText(&'static str),
}

impl LineState {
    /// Returns how many bytes of the line may be shown, and the state after it.
    fn classify(self, line: &str, known_keys: &BTreeSet<String>) -> (usize, Self) {
        if let Self::OpenText(quotes) = self {
            let closed = line.contains(quotes);
            return (0, if closed { Self::Secret } else { self });
        }
        if line.chars().any(|c| c.is_control() && c != '\t') {
            // An editor can show a bare carriage return as the end of a line.
            return (0, Self::Secret);
        }
        if let Some((visible, next)) = header(line, known_keys) {
            return (visible, next);
        }
        if self == Self::OpenList {
            let closed = line.contains(']');
            return (0, if closed { Self::Secret } else { self });
        }
        let trimmed = line.trim_start();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            return (0, self);
        }
        let Some((keys, value)) = key_and_value(line, known_keys) else {
            return (0, open_text(line).unwrap_or(Self::Secret));
        };
        let visible = line.len() - value.len();
        let holds_accounts = keys.iter().any(|key| ACCOUNT_TABLES.contains(key));
        if let Some(open) = open_text(value) {
            return (visible, open);
        }
        if self == Self::Secret || holds_accounts {
            return (visible, Self::Secret);
        }
        if value.contains('[') && !value.contains(']') {
            return (visible, Self::OpenList);
        }
        let shown = keys
            .last()
            .map_or(0, |key| visible_value(key, value, known_keys));
        (visible + shown, Self::Public)
    }

    /// The same in a file all of which is secret.
    fn without_public(self) -> Self {
        match self {
            Self::OpenText(_) => self,
            Self::Public | Self::Secret | Self::OpenList => Self::Secret,
        }
    }
}

/// Returns the state inside a multi-line text that `line` opens and does not close.
fn open_text(line: &str) -> Option<LineState> {
    ["\"\"\"", "'''"]
        .into_iter()
        .find(|quotes| line.matches(quotes).count() % 2 == 1)
        .map(LineState::OpenText)
}

/// For the header of a known table (`[limits]`, `[clusters.ccfs.tls]`): how many of its bytes may be
/// shown, and what follows it.
fn header(line: &str, known_keys: &BTreeSet<String>) -> Option<(usize, LineState)> {
    let inside = line.trim_start().strip_prefix('[')?;
    let (inside, rest) = inside.split_once(']')?;
    let visible = line.len() - rest.len();
    let names = segments(inside)?;
    let first = *names.first()?;
    let is_comment = rest.trim_start().is_empty() || rest.trim_start().starts_with('#');
    if !is_comment || !known_keys.contains(first) {
        return None;
    }
    if ACCOUNT_TABLES.contains(&first) {
        // Of its parts only the first two are names: more can be a value in the wrong place.
        return Some((if names.len() > 2 { 0 } else { visible }, LineState::Secret));
    }
    Some((visible, LineState::Public))
}

/// Splits `key = value` where every part of the key is known; the value begins after the `=`.
fn key_and_value<'a>(
    line: &'a str,
    known_keys: &BTreeSet<String>,
) -> Option<(Vec<&'a str>, &'a str)> {
    let (key, value) = line.split_once('=')?;
    let keys = segments(key)?;
    let all_known = keys.iter().all(|key| known_keys.contains(*key));
    all_known.then_some((keys, value))
}

/// The parts of a dotted key without their quotes; `None` if it is no key.
fn segments(key: &str) -> Option<Vec<&str>> {
    key.split('.').map(str::trim).map(segment).collect()
}

/// A part of a dotted key without its quotes.
fn segment(part: &str) -> Option<&str> {
    let quoted = ['"', '\''].into_iter().find_map(|quote| {
        let inside = part.strip_prefix(quote)?.strip_suffix(quote)?;
        (!inside.contains(['"', '\'', '\\'])).then_some(inside)
    });
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    let is_bare = !part.is_empty() && part.bytes().all(is_legal);
    quoted.or_else(|| is_bare.then_some(part))
}

/// Returns how many bytes of the value of a known key in a public table may be shown.
fn visible_value(key: &str, value: &str, known_keys: &BTreeSet<String>) -> usize {
    if is_secret_key(key)
        || has_url_password(value)
        || REFERENCE_KEYS.contains(&key) && !names_paths(value)
    {
        return 0;
    }
    let comment = [" #", "\t#"].iter().filter_map(|mark| value.find(mark));
    let foreign = value.find(|c: char| !c.is_ascii());
    let mut visible = comment.chain(foreign).min().unwrap_or(value.len());
    for (at, mark) in value.match_indices(['=', ':']) {
        let rest = &value[at + 1..];
        if mark == ":" && !assigns(&value[..at], rest) {
            continue;
        }
        let before = value[..at].trim_end_matches([' ', '\t', '"', '\'']);
        let is_word = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        let word = before.trim_end_matches(is_word).len();
        let name = &before[word..];
        let harmless = known_keys.contains(name)
            && !is_secret_key(name)
            && !ACCOUNT_TABLES.contains(&name)
            && (!REFERENCE_KEYS.contains(&name) || names_paths(first_value(rest)));
        if !harmless {
            visible = visible.min(word);
        }
    }
    visible
}

/// Whether a `:` between these two parts can stand for a `=`: not in `https://`, `::1` and `host:443`.
fn assigns(before: &str, rest: &str) -> bool {
    let port = rest.len()
        - rest
            .trim_start_matches(|c: char| c.is_ascii_alphanumeric())
            .len();
    let is_port = (1..=5).contains(&port) && rest[..port].bytes().all(|byte| byte.is_ascii_digit());
    !(rest.starts_with("//") || rest.starts_with(':') || before.ends_with(':') || is_port)
}

/// The value at the start of what follows a key in an inline table.
fn first_value(text: &str) -> &str {
    let ends = if text.trim_start().starts_with('[') {
        "]"
    } else {
        ",}"
    };
    text.split(|c| ends.contains(c)).next().unwrap_or_default()
}

/// Whether everything in a value looks like a path.
fn names_paths(value: &str) -> bool {
    value
        .split(|c: char| c.is_whitespace() || "[]{},\"'".contains(c))
        .filter(|part| !part.is_empty())
        .all(looks_like_path)
}

/// Tables that hold access keys, or callers.
pub(super) const ACCOUNT_TABLES: [&str; 3] = ["access_keys", "access_key_defaults", "callers"];

/// Keys whose value names the place of a secret.
const REFERENCE_KEYS: [&str; 10] = [
    "access_keys_file",
    "api_key_file",
    "app_secret_file",
    "password_file",
    "private_key",
    "seal_key_file",
    "secret_key_env",
    "secret_key_file",
    "ticket_key_file",
    "token_file",
];

/// Names stand in logs and on pages.
const MAX_CALLER_NAME_LENGTH: usize = 64;

/// Names are shorter as a rule; the secret keys of Huawei Cloud have 40 characters.
const MIN_SECRET_LENGTH: usize = 16;

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

    fn shown(text: &str, main: bool) -> String {
        let keys = [
            "access_keys",
            "bind",
            "in_flight",
            "limits",
            "nodes",
            "secret_key",
            "secret_key_file",
            "tls",
            "token_file",
            "url",
        ];
        let keys = keys.map(str::to_owned).into();
        let mut bytes = text.as_bytes().to_vec();
        for range in spans_in_invalid_toml(text, &keys, main) {
            bytes[range].fill(b'*');
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_invalid_text_shows_known_keys_and_harmless_values() {
        for line in [
            "bind = 0.0.0.0:1",
            "[limits]",
            "[access_keys.B]",
            "tls = { secret_key_file = \"keys/x\", in_flight = 5 }",
            "secret_key_file = \"keys/x\"",
        ] {
            assert_eq!(shown(line, true), line);
        }
        let text = "[access_keys.B]\nin_flight = 5\n[limits]\nin_flight = 5\n";
        let main = "[access_keys.B]\nin_flight =**\n[limits]\nin_flight = 5\n";
        assert_eq!(shown(text, true), main);
        let access_keys = "[access_keys.B]\nin_flight =**\n[limits]\nin_flight =**\n";
        assert_eq!(shown(text, false), access_keys);
    }

    #[test]
    fn an_invalid_text_hides_what_can_be_secret() {
        for text in [
            "secret_key = \"CANARY",
            "tls = { secret_key = \"CANARY\", bind = }",
            "tls = { sk: CANARY }",
            "\"secret_key\" = 'CANARY",
            "secret_key = \"\"\"\nCANARY\n",
            "secret_key_file = \"x\", secret_key = \"CANARY",
            "url = \"redis://:CANARY@h",
            "password = CANARY",
            "secret_key_file = \"CANARY\"",
            "secret_key_file = [\"a/b\", \"CANARY\"]",
            "secret_key_file = [\n\"CANARY\",",
            "tls = { in_flight = 1, token_file = \"CANARY\" }",
            "[access_keys.B]\nin_flight = CANARY",
            "[access_keys.B]\nsk: CANARY",
            "[access_keys.B] # CANARY",
            "access_keys.B.in_flight = CANARY",
            "access_keys:\n  B:\n    sk: CANARY",
            "bind = \"x\"\r[access_keys.B]\rbind = CANARY",
            "CANARY==",
            "[access_keys.B]\nbind = '''\n[limits]\nbind = CANARY\n",
        ] {
            assert!(!shown(text, true).contains("CANARY"), "{text}");
            assert!(!shown(text, false).contains("CANARY"), "{text}");
        }
    }
}
