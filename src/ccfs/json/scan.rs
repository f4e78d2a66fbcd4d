//! The scanner: checks the grammar and writes the canonical text in one pass.

use super::string::{plain_run, write_char};
use super::{Canonicalize, JsonError, Member, Object, Span, ValueKind};

/// Parses one document from start to end.
pub(super) struct Scanner<'a> {
    source: &'a str,
    position: usize,
    canonicalize: Canonicalize,
    canonical: String,
    /// The members of all open objects, the innermost last.
    members: Vec<Member>,
    ambiguity: Option<JsonError>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(source: &'a str, keep: Canonicalize) -> Self {
        // A canonical text is never longer than its source.
        let capacity = match keep {
            Canonicalize::Names => 0,
            Canonicalize::All => source.len(),
        };
        Self {
            source,
            position: 0,
            canonicalize: keep,
            canonical: String::with_capacity(capacity),
            members: Vec::with_capacity(TYPICAL_MEMBERS),
            ambiguity: None,
        }
    }

    /// Parses the source as one object, nested at most `depth` levels.
    pub(super) fn document(mut self, depth: u32) -> Result<Object<'a>, JsonError> {
        if u32::try_from(self.source.len()).is_err() {
            return Err(JsonError::Syntax);
        }
        let kind = match self.skip_blanks() {
            Some(first) => kind(first)?,
            None => return Err(JsonError::Empty),
        };
        if kind != ValueKind::Object {
            // A syntax error takes precedence: `[1,2` is not even JSON.
            self.value(depth)?;
            return Err(JsonError::NotAnObject);
        }
        let tail = self.object(depth)?;
        if self.skip_blanks().is_some() {
            return Err(JsonError::TrailingData);
        }
        Ok(Object {
            source: self.source,
            canonical: self.canonical,
            members: self.members,
            append_offset: tail,
            ambiguity: self.ambiguity,
        })
    }

    fn value(&mut self, depth: u32) -> Result<ValueKind, JsonError> {
        let kind = kind(self.peek().ok_or(JsonError::Syntax)?)?;
        match kind {
            ValueKind::Array => self.array(depth)?,
            ValueKind::Object => self.nested_object(depth)?,
            ValueKind::String => self.string(self.canonicalize)?,
            ValueKind::Bool if self.peek() == Some(b't') => self.word("true")?,
            ValueKind::Bool => self.word("false")?,
            ValueKind::Null => self.word("null")?,
            ValueKind::Number => self.number()?,
        }
        Ok(kind)
    }

    fn array(&mut self, depth: u32) -> Result<(), JsonError> {
        let below = depth.checked_sub(1).ok_or(JsonError::TooDeep)?;
        self.position += 1;
        self.write("[");
        if self.skip_blanks() == Some(b']') {
            self.position += 1;
            self.write("]");
            return Ok(());
        }
        loop {
            self.skip_blanks();
            self.value(below)?;
            match self.skip_blanks() {
                Some(b',') => self.write(","),
                Some(b']') => break,
                _ => return Err(JsonError::Syntax),
            }
            self.position += 1;
        }
        self.position += 1;
        self.write("]");
        Ok(())
    }

    /// Parses an object inside another value; its members become canonical text.
    fn nested_object(&mut self, depth: u32) -> Result<(), JsonError> {
        let first = self.members.len();
        let start = self.canonical.len();
        self.object(depth)?;
        match self.canonicalize {
            Canonicalize::Names => self.canonical.truncate(start),
            Canonicalize::All => {
                let pieces = self.canonical.split_off(start);
                self.canonical.push('{');
                for (index, member) in self.members.iter().skip(first).enumerate() {
                    if index > 0 {
                        self.canonical.push(',');
                    }
                    // From the quotation mark before the name to the end of the value.
                    let piece = Span {
                        start: member.name.start.saturating_sub(1 + start as u32),
                        end: member.value.end.saturating_sub(start as u32),
                    };
                    self.canonical.push_str(piece.slice(&pieces));
                }
                self.canonical.push('}');
            }
        }
        self.members.truncate(first);
        Ok(())
    }

    /// Parses an object. Leaves its members sorted at the end of the list; returns the offset after the last
    /// value.
    fn object(&mut self, depth: u32) -> Result<usize, JsonError> {
        let below = depth.checked_sub(1).ok_or(JsonError::TooDeep)?;
        let first = self.members.len();
        self.position += 1;
        let mut tail = self.position;
        if self.skip_blanks() == Some(b'}') {
            self.position += 1;
            return Ok(tail);
        }
        loop {
            self.skip_blanks();
            let member = self.member(below)?;
            self.members.push(member);
            tail = self.position;
            match self.skip_blanks() {
                Some(b',') => self.position += 1,
                Some(b'}') => break,
                _ => return Err(JsonError::Syntax),
            }
        }
        self.position += 1;
        self.sort_members(first);
        Ok(tail)
    }

    fn member(&mut self, below: u32) -> Result<Member, JsonError> {
        if self.peek() != Some(b'"') {
            return Err(JsonError::Syntax);
        }
        let start = self.canonical.len() + 1;
        self.string(Canonicalize::All)?;
        let name = span(start, self.canonical.len() - 1);
        if self.skip_blanks() != Some(b':') {
            return Err(JsonError::Syntax);
        }
        self.position += 1;
        self.skip_blanks();
        self.write(":");
        let (start, raw_start) = (self.canonical.len(), self.position);
        let kind = self.value(below)?;
        Ok(Member {
            kind,
            raw: span(raw_start, self.position),
            name,
            value: span(start, self.canonical.len()),
        })
    }

    /// Sorts the members of one object. Names are canonical, so duplicates have equal bytes.
    fn sort_members(&mut self, first: usize) {
        let canonical = &self.canonical;
        let name = |member: &Member| member.name.slice(canonical);
        let Some(members) = self.members.get_mut(first..) else {
            return;
        };
        members.sort_unstable_by(|a, b| name(a).cmp(name(b)).then(a.raw.start.cmp(&b.raw.start)));
        if members.is_sorted_by(|a, b| name(a) != name(b)) {
            return;
        }
        self.ambiguity.get_or_insert(JsonError::DuplicateMember);
    }

    /// Parses a string; writes it with an escape only where JSON requires one.
    fn string(&mut self, keep: Canonicalize) -> Result<(), JsonError> {
        let start = self.position;
        let end = self.plain_run_end(start + 1);
        if self.source.as_bytes().get(end) == Some(&b'"') {
            // Without an escape it is its own canonical text.
            self.position = end + 1;
            if keep == Canonicalize::All {
                self.canonical
                    .push_str(self.source.get(start..=end).unwrap_or_default());
            }
            return Ok(());
        }
        self.string_with_escapes(end, keep)
    }

    /// Parses a string whose first plain run ends at `end`.
    fn string_with_escapes(&mut self, mut end: usize, keep: Canonicalize) -> Result<(), JsonError> {
        let out = self.canonical.len();
        self.position += 1;
        self.canonical.push('"');
        loop {
            if keep == Canonicalize::All {
                // The run ends before an ASCII byte or at the end of the source.
                self.canonical
                    .push_str(self.source.get(self.position..end).unwrap_or_default());
            }
            self.position = end + 1;
            match self.source.as_bytes().get(end) {
                Some(b'"') => break,
                Some(b'\\') => {
                    let unescaped = self.escape()?;
                    if keep == Canonicalize::All {
                        write_char(&mut self.canonical, unescaped);
                    }
                }
                _ => return Err(JsonError::Syntax),
            }
            end = self.plain_run_end(self.position);
        }
        self.canonical.push('"');
        if keep == Canonicalize::Names {
            self.canonical.truncate(out);
        }
        Ok(())
    }

    /// Returns the position of the first quotation mark, backslash or control character at or after `start`.
    fn plain_run_end(&self, start: usize) -> usize {
        let rest = self.source.as_bytes().get(start..).unwrap_or_default();
        start + plain_run(rest)
    }

    /// Parses what follows a backslash.
    fn escape(&mut self) -> Result<char, JsonError> {
        let letter = self.peek().ok_or(JsonError::Syntax)?;
        self.position += 1;
        Ok(match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.code_unit_escape(),
            _ => return Err(JsonError::Syntax),
        })
    }

    /// Parses `XXXX` of `\uXXXX`, and the second escape of a surrogate pair.
    fn code_unit_escape(&mut self) -> Result<char, JsonError> {
        let unit = self.hex4().ok_or(JsonError::Syntax)?;
        if let Some(character) = char::from_u32(unit) {
            return Ok(character);
        }
        let resume = self.position;
        let rest = self
            .source
            .as_bytes()
            .get(self.position..)
            .unwrap_or_default();
        if (0xD800..0xDC00).contains(&unit) && rest.starts_with(b"\\u") {
            self.position += 2;
            if let Some(low @ 0xDC00..0xE000) = self.hex4() {
                let scalar = 0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
                return char::from_u32(scalar).ok_or(JsonError::Syntax);
            }
        }
        self.position = resume;
        self.ambiguity.get_or_insert(JsonError::LoneSurrogate);
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self
            .source
            .as_bytes()
            .get(self.position..self.position + 4)?;
        self.position += 4;
        digits.iter().try_fold(0, |unit, digit| {
            Some(unit * 16 + char::from(*digit).to_digit(16)?)
        })
    }

    /// Parses a number; kept as written, since a reader may distinguish `1.0` and `1.00`.
    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.position;
        self.position += usize::from(self.peek() == Some(b'-'));
        if self.peek() == Some(b'0') {
            self.position += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.position += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.position += 1;
            self.position += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        let source = self.source;
        self.write(source.get(start..self.position).unwrap_or_default());
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let rest = self
            .source
            .as_bytes()
            .get(self.position..)
            .unwrap_or_default();
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.position += count;
        if count == 0 {
            Err(JsonError::Syntax)
        } else {
            Ok(())
        }
    }

    fn word(&mut self, word: &'static str) -> Result<(), JsonError> {
        let rest = self.source.get(self.position..).unwrap_or_default();
        if !rest.starts_with(word) {
            return Err(JsonError::Syntax);
        }
        self.position += word.len();
        self.write(word);
        Ok(())
    }

    fn write(&mut self, text: &str) {
        if self.canonicalize == Canonicalize::All {
            self.canonical.push_str(text);
        }
    }

    fn peek(&self) -> Option<u8> {
        self.source.as_bytes().get(self.position).copied()
    }

    /// Skips JSON whitespace; returns the next byte.
    fn skip_blanks(&mut self) -> Option<u8> {
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.position += 1,
                other => return other,
            }
        }
    }
}

fn kind(first: u8) -> Result<ValueKind, JsonError> {
    Ok(match first {
        b'{' => ValueKind::Object,
        b'[' => ValueKind::Array,
        b'"' => ValueKind::String,
        b't' | b'f' => ValueKind::Bool,
        b'n' => ValueKind::Null,
        b'-' | b'0'..=b'9' => ValueKind::Number,
        _ => return Err(JsonError::Syntax),
    })
}

/// The positions fit: [`Scanner::document`] rejects sources of 4 GiB, and no canonical text is longer.
fn span(start: usize, end: usize) -> Span {
    Span {
        start: start as u32,
        end: end as u32,
    }
}

/// The members of a recording-URL request and a few more.
const TYPICAL_MEMBERS: usize = 8;
