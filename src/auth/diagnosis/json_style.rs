//! Lays out JSON anew: only whitespace and the order of members change. Strings and numbers stay as they are
//! written, since a client that serializes twice writes them the same way twice.

/// How JSON is laid out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Style {
    /// One level of indentation; `None` is one line.
    pub(super) indent: Option<&'static str>,
    pub(super) colon: &'static str,
    pub(super) comma: &'static str,
    pub(super) is_sorted: bool,
}

/// No blanks, as Gson, Jackson and `JSON.stringify` write.
pub(super) const COMPACT: Style = Style {
    indent: None,
    colon: ":",
    comma: ",",
    is_sorted: false,
};

/// A blank behind colons and commas, as Python writes.
pub(super) const SPACED: Style = Style {
    colon: ": ",
    comma: ", ",
    ..COMPACT
};

/// Line breaks and indentation.
pub(super) const fn pretty(indent: &'static str, colon: &'static str) -> Style {
    Style {
        indent: Some(indent),
        colon,
        ..COMPACT
    }
}

impl Style {
    /// The same style with sorted members.
    pub(super) const fn sorted(self) -> Self {
        Self {
            is_sorted: true,
            ..self
        }
    }
}

/// Lays out a JSON text; `None` if it is none, or nested too deep.
pub(super) fn lay_out(text: &str, style: Style) -> Option<String> {
    let mut reader = Reader { rest: text };
    let value = reader.value(MAX_DEPTH)?;
    if !reader.skip_blanks().is_empty() {
        return None;
    }
    let mut out = String::with_capacity(text.len() + 64);
    write(&value, style, 0, &mut out);
    Some(out)
}

/// A value whose scalars are as written.
enum Value<'a> {
    Scalar(&'a str),
    Array(Vec<Self>),
    Object(Vec<(&'a str, Self)>),
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn skip_blanks(&mut self) -> &'a str {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
        self.rest
    }

    /// Takes a character if it is next.
    fn take(&mut self, character: char) -> bool {
        let rest = self.skip_blanks().strip_prefix(character);
        if let Some(rest) = rest {
            self.rest = rest;
        }
        rest.is_some()
    }

    fn value(&mut self, depth: u32) -> Option<Value<'a>> {
        let below = depth.checked_sub(1)?;
        if self.take('[') {
            let mut items = Vec::new();
            while !self.take(']') {
                if !items.is_empty() && !self.take(',') {
                    return None;
                }
                items.push(self.value(below)?);
            }
            return Some(Value::Array(items));
        }
        if self.take('{') {
            let mut members = Vec::new();
            while !self.take('}') {
                if !members.is_empty() && !self.take(',') {
                    return None;
                }
                self.skip_blanks();
                let name = self.string()?;
                if !self.take(':') {
                    return None;
                }
                members.push((name, self.value(below)?));
            }
            return Some(Value::Object(members));
        }
        if self.rest.starts_with('"') {
            return self.string().map(Value::Scalar);
        }
        let is_end = |c: char| matches!(c, ',' | ']' | '}' | ' ' | '\t' | '\n' | '\r');
        let end = self.rest.find(is_end).unwrap_or(self.rest.len());
        self.split(end).map(Value::Scalar)
    }

    fn string(&mut self) -> Option<&'a str> {
        let mut is_escaped = false;
        let mut characters = self.rest.char_indices();
        let (_, '"') = characters.next()? else {
            return None;
        };
        for (at, character) in characters {
            match character {
                _ if is_escaped => is_escaped = false,
                '\\' => is_escaped = true,
                '"' => return self.split(at + 1),
                _ => {}
            }
        }
        None
    }

    fn split(&mut self, at: usize) -> Option<&'a str> {
        let (text, rest) = self.rest.split_at_checked(at)?;
        self.rest = rest;
        (!text.is_empty()).then_some(text)
    }
}

fn write(value: &Value<'_>, style: Style, depth: usize, out: &mut String) {
    match value {
        Value::Scalar(text) => out.push_str(text),
        Value::Array(items) => {
            let each = items.iter().map(|item| (None, item));
            write_all(each, ['[', ']'], style, depth, out);
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members
                .iter()
                .map(|(name, value)| (Some(*name), value))
                .collect();
            if style.is_sorted {
                members.sort_by_key(|(name, _)| *name);
            }
            write_all(members.into_iter(), ['{', '}'], style, depth, out);
        }
    }
}

fn write_all<'a, 'b: 'a>(
    items: impl ExactSizeIterator<Item = (Option<&'a str>, &'a Value<'b>)>,
    [open, close]: [char; 2],
    style: Style,
    depth: usize,
    out: &mut String,
) {
    let is_empty = items.len() == 0;
    let new_line = |out: &mut String, depth| {
        if let Some(indent) = style.indent.filter(|_| !is_empty) {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
    };
    out.push(open);
    for (index, (name, value)) in items.enumerate() {
        if index > 0 {
            out.push_str(style.comma);
        }
        new_line(out, depth + 1);
        if let Some(name) = name {
            out.push_str(name);
            out.push_str(style.colon);
        }
        write(value, style, depth + 1, out);
    }
    new_line(out, depth);
    out.push(close);
}

/// Bounds the recursion; requests may be nested 32 deep.
const MAX_DEPTH: u32 = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_blanks_and_order_change() {
        let text = "{ \"b\" : [1.50, {}, [ ], \"x\\\"/y, \"],\n\"a\":{\"d\":null, \"c\" :true} }";
        for (style, expected) in [
            (
                COMPACT,
                r#"{"b":[1.50,{},[],"x\"/y, "],"a":{"d":null,"c":true}}"#,
            ),
            (
                SPACED,
                r#"{"b": [1.50, {}, [], "x\"/y, "], "a": {"d": null, "c": true}}"#,
            ),
            (
                COMPACT.sorted(),
                r#"{"a":{"c":true,"d":null},"b":[1.50,{},[],"x\"/y, "]}"#,
            ),
            (
                pretty("  ", ": "),
                "{\n  \"b\": [\n    1.50,\n    {},\n    [],\n    \"x\\\"/y, \"\n  ],\n  \"a\": {\n    \"d\": null,\n    \"c\": true\n  }\n}",
            ),
        ] {
            assert_eq!(lay_out(text, style).as_deref(), Some(expected));
        }
    }

    #[test]
    fn what_is_no_json_is_left_alone() {
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "{",
            "{\"a\"}",
            "{\"a\":1,}x",
            "[1 2]",
            "\"open",
            "{a:1}",
            "1 2",
            &deep,
        ] {
            assert_eq!(lay_out(text, COMPACT), None, "{text:.20}");
        }
    }
}
