//! The plain reader and the general parser must agree on every text that the plain reader takes.

use std::path::Path;

use proptest::prelude::*;

use crate::config::diagnostics::Diagnostics;
use crate::config::document::{FileKind, plain, read};
use crate::config::file::AccessKeysFile;

/// What a parser made of a text.
#[derive(Debug, Eq, PartialEq)]
struct Shown {
    /// All values with their spans.
    file: String,
    redacted: Vec<(usize, usize)>,
    messages: usize,
}

fn shown(
    text: &str,
    parse: impl Fn(&str, &mut Diagnostics) -> Option<AccessKeysFile>,
) -> Option<Shown> {
    let mut diagnostics = Diagnostics::new(Path::new("keys.toml"));
    let file = parse(text, &mut diagnostics)?;
    let spans = diagnostics.secret_spans.iter();
    let mut redacted: Vec<_> = spans.map(|span| (span.start, span.end)).collect();
    redacted.sort_unstable();
    Some(Shown {
        file: format!("{file:?}"),
        redacted,
        messages: diagnostics.items.len(),
    })
}

/// Whether the plain reader takes a text; the general parser must then agree.
fn is_plain(text: &str) -> bool {
    let Some(plain) = shown(text, plain::read) else {
        return false;
    };
    let general = shown(text, |text, diagnostics| {
        read(text, FileKind::AccessKeys, diagnostics)
    });
    assert_eq!(Some(&plain), general.as_ref(), "{text}");
    assert_eq!(plain.messages, 0, "{text}");
    true
}

#[test]
fn usual_files_are_plain() {
    let key = "[access_keys.279a08bbd8d949a0]\n";
    for lines in [
        "secret_key = \"abc\"\ntime_zone = \"Asia/Shanghai\"\n",
        "secret_key=\"abc\"",
        "  secret_key  =\t[ \"a#b\" , \"客户\" ]  # old\r\n\r\n# more\r\n",
        "secret_key_file = \"secrets/a\"\nsecret_key_env = [\"CCFS_SK\"]\n",
        "rate_limit = { per_second = 50, burst = 100 }\nceiling = {per_minute=1000000}\n",
        "rate_limit = { burst = 1, per_hour = 1 }\n",
        "in_flight = 1\nenabled = true\nplan = \"gold\"\nname = \"客户 a\"\nversionless = \"utc\"\n",
        "not_before = 2026-01-01T00:00:00Z\nnot_after = \"2026-12-31T23:59:59+08:00\"\n",
        "not_before = 2024-02-29T00:00:00-03:30\nenabled = false",
        "",
    ] {
        assert!(is_plain(&format!("{key}{lines}")), "{lines}");
    }
    let two = "# keys\n\n[access_keys.b]\nenabled = true\n\n[access_keys.a-1_] # second\n";
    assert!(is_plain(two) && is_plain("") && is_plain("# nothing\n"));
}

#[test]
fn what_is_not_plain_is_left_to_the_general_parser() {
    let key = "[access_keys.a]\n";
    for lines in [
        "secret_key = 'abc'",
        "secret_key = \"a\\tb\"",
        "secret_key = \"\"\"a\"\"\"",
        "secret_key = \"\"",
        "secret_key = \"a\tb\"",
        "secret_key = \"a",
        "secret_key = []",
        "secret_key = [\"a\", \"b\", \"c\"]",
        "secret_key = [\n\"a\"]",
        "secret_key = [\"a\",]",
        "secret_key = \"a\" x",
        "secret_key = \"a\" \"b\"",
        "secret_key = \"https://u:p@h\"",
        "secret_key = \"a\"\nsecret_key = \"b\"",
        "secret_key = \"a\"\r\r",
        "secret_keys = \"a\"",
        "\"secret_key\" = \"a\"",
        "rate_limit.per_second = 5",
        "rate_limit = {}",
        "rate_limit = { per_second = 0 }",
        "rate_limit = { per_second = 1000001 }",
        "rate_limit = { per_second = 1_000 }",
        "rate_limit = { per_second = +1 }",
        "rate_limit = { per_second = 01 }",
        "rate_limit = { per_second = 1, }",
        "rate_limit = { per_second = 1, per_second = 1 }",
        "rate_limit = { per_second = 1.5 }",
        "rate_limit = 50",
        "in_flight = 0x10",
        "in_flight = \"1\"",
        "enabled = TRUE",
        "versionless = \"never\"",
        "not_before = 2026-01-01T00:00:60Z",
        "not_before = 2026-02-30T00:00:00Z",
        "not_before = 2026-01-01",
        "not_before = 2026-01-01T00:00:00",
        "not_before = 2026-01-01t00:00:00z",
        "not_before = 2026-01-01T00:00:00.5Z",
        "# bell \u{7}",
        "[access_keys.a]",
        "[access_keys]",
        "[access_keys.\"b\"]",
        "[access_keys.b.rate_limit]",
        "[[access_keys.b]]",
        "[ access_keys.b ]",
        "[limits]",
    ] {
        assert!(!is_plain(&format!("{key}{lines}\n")), "{lines}");
    }
    assert!(!is_plain("enabled = true\n[access_keys.a]\n"));
}

/// Parts of files, plain and not.
const PARTS: &[&str] = &[
    "[access_keys.a]\n",
    "[access_keys.b]\n",
    "[access_keys.B-2_c]\n",
    "[access_keys.1]",
    "secret_key = ",
    "secret_key_file = ",
    "time_zone = ",
    "name=",
    "plan = ",
    "versionless = ",
    "rate_limit = ",
    "ceiling = ",
    "in_flight = ",
    "enabled = ",
    "not_before = ",
    "not_after = ",
    "\"a\"",
    "\"b c\"",
    "\"utc\"",
    "[\"a\", \"b\"]",
    "[ \"a\" ]",
    "{ per_second = 5 }",
    "{ per_hour = 500, burst = 20 }",
    "{burst=7,per_minute=12}",
    "17",
    "007",
    "true",
    "false",
    "2026-01-01T00:00:00Z",
    "\"2026-06-30T23:59:59+08:00\"",
    "9999-12-31T23:59:59-12:00",
    "\n",
    "\n",
    "\n",
    "\r\n",
    " ",
    "\t",
    "# comment\n",
    "#",
    ",",
    "\"",
    "=",
    "客",
];

/// Lines that are valid by themselves.
fn line() -> impl Strategy<Value = String> {
    let text = "\"[a-zA-Z0-9 /#+客]{1,8}\"";
    prop_oneof![
        ("(secret_key|secret_key_file|time_zone|name|plan)", text)
            .prop_map(|(key, value)| format!("{key} = {value}\n")),
        ("secret_key(_env)?", text, text)
            .prop_map(|(key, one, two)| format!("{key} = [{one}, {two}]\n")),
        "in_flight = [0-9]{1,8}\n",
        "enabled = (true|false)[ \t]?(#.{0,3})?\n",
        "(rate_limit|ceiling) = \\{ per_(second|minute) = [1-9][0-9]{0,6}(, burst = [0-9]{1,3})? \\}\n",
        "not_(before|after) = \"?[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](Z|[+-][0-9]{2}:[0-9]{2})\"?\n",
        "\\[access_keys\\.[a-c]{1,2}\\]\n",
        "[ \t]*(#[^\n]{0,4})?\n",
    ]
}

proptest! {
    #[test]
    fn both_agree_on_parts_in_any_order(parts in prop::collection::vec(prop::sample::select(PARTS), 0..12)) {
        is_plain(&parts.concat());
    }

    #[test]
    fn both_agree_on_valid_lines(lines in prop::collection::vec(line(), 0..8)) {
        is_plain(&format!("[access_keys.k]\n{}", lines.concat()));
    }

    #[test]
    fn both_agree_on_a_changed_byte(at in 0_usize..200, byte in any::<u8>()) {
        let text = "[access_keys.a]\nsecret_key = \"abc\"\nrate_limit = { per_second = 5, burst = 9 }\n\
            not_after = 2026-01-01T00:00:00Z # end\n[access_keys.b]\nenabled = true\r\nin_flight = 12\n";
        let mut bytes = text.as_bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(text) = String::from_utf8(bytes) {
            is_plain(&text);
        }
    }
}
