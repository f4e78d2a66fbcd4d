//! What is no TOML, in words: one error for one mistake.

use std::ops::Range;

use toml::de::Error;

use crate::config::diagnostics::{Diagnostics, line_range};

/// Adds the errors of a text that is not TOML. Of a text that is a file of something else only the first is
/// shown, and of a table that is there twice none of the keys in it.
pub(super) fn report(text: &str, errors: &[Error], diagnostics: &mut Diagnostics) {
    let is_foreign = !looks_like_toml(text);
    if is_foreign {
        diagnostics.file_error(
            "this does not look like a configuration of ccfs-gateway",
            "give the TOML file of the gateway: its lines are `key = value` and `[table]`",
        );
    }
    let mut repeated_table = 0..0;
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let (message, is_duplicate) = (error.message(), error.message().starts_with("duplicate"));
        if is_duplicate && repeated_table.contains(&span.start) {
            continue;
        }
        let mut help = match message {
            _ if is_duplicate => first_place(text, &span),
            message if message.starts_with("invalid") => "strings need quotes".to_owned(),
            _ => String::new(),
        };
        if is_duplicate && is_header(line_at(text, span.start)) {
            repeated_table = table_at(text, span.start);
        }
        if help.is_empty() && diagnostics.is_hidden(text, span.start) {
            help = "shown as * where it may be a secret".to_owned();
        }
        diagnostics.error(span, format!("not TOML: {message}"), help);
        if is_foreign {
            break;
        }
    }
}

/// Whether at least half of the lines that say something have the form of TOML.
fn looks_like_toml(text: &str) -> bool {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (mut all, mut like) = (0_usize, 0_usize);
    for line in lines {
        all += 1;
        let key = line.split_once('=').map(|(key, _)| key.trim());
        let is_key = key.is_some_and(|key| !key.is_empty() && !key.contains(['<', ';', '(', '|']));
        // Values over several lines.
        let continues = line.starts_with(['"', '\'', '{', ']']) || line.ends_with(',');
        like += usize::from(is_key || is_header(line) || continues);
    }
    like * 2 >= all
}

fn is_header(line: &str) -> bool {
    line.trim_start().starts_with('[') && line.contains(']')
}

/// Says where a key or a table is that is there again at `span`.
fn first_place(text: &str, span: &Range<usize>) -> String {
    let line = line_at(text, span.start);
    let name = |line: &str| -> Option<String> {
        if is_header(line) {
            let (header, _) = line.split_once(']')?;
            return Some(header.split_whitespace().collect());
        }
        let (key, _) = line.split_once('=')?;
        Some(key.trim().to_owned())
    };
    let above = text.get(..span.start).unwrap_or_default();
    let number = above.matches('\n').count();
    let wanted = name(line);
    let mut earlier = text.lines().take(number).enumerate();
    // A key is repeated within its table, which begins at the last header above it.
    let table = if is_header(line) {
        0
    } else {
        let headers = earlier.clone().filter(|(_, line)| is_header(line));
        headers.last().map_or(0, |(place, _)| place)
    };
    let first = earlier.find(|(place, line)| *place >= table && name(line) == wanted);
    match first.filter(|_| wanted.is_some()) {
        Some((place, _)) => format!("must be there once, and is in line {} already", place + 1),
        None => "must be there once".to_owned(),
    }
}

/// Returns the line at an offset.
fn line_at(text: &str, offset: usize) -> &str {
    text.get(line_range(text, offset)).unwrap_or_default()
}

/// Returns the offsets after a header, up to the next one.
fn table_at(text: &str, header: usize) -> Range<usize> {
    let start = line_range(text, header).end;
    let mut at = start;
    for line in text[at..].split_inclusive('\n') {
        if at > start && is_header(line) {
            break;
        }
        at += line.len();
    }
    start..at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_other_programs_do_not_look_like_toml() {
        for text in [
            "http {\n  server { listen 80; }\n  upstream a { server b; }\n}\n",
            "# Title\n\nSome words.\nMore words = fewer.\n\n| a | b = c |\n|---|---|\n",
            "<config>\n  <a b=\"c\"/>\n</config>\n",
        ] {
            assert!(!looks_like_toml(text), "{text}");
        }
        for text in [
            "",
            "[a]\nb = 1\nc =\n",
            "a = [\n  \"b\",\n  \"c\"\n]\nd = { e = 1 }\n",
            "[listeners.a]\nbind 127.0.0.1\ncluster = \"x\"\n",
        ] {
            assert!(looks_like_toml(text), "{text}");
        }
    }

    #[test]
    fn a_table_ends_at_the_next_header() {
        let text = "[a]\nb = 1\n[a]\nb = 2\n[c]\nd = 1\n";
        let again = text.rfind("[a]").unwrap() + 1;
        assert_eq!(&text[table_at(text, again)], "\nb = 2\n");
        assert_eq!(
            first_place(text, &(again..again + 1)),
            "must be there once, and is in line 1 already"
        );
        assert_eq!(line_at(text, again), "[a]");
        assert_eq!(line_at(text, 1000), "");
    }
}
