//! The scanner: checks the grammar and writes the canonical text as it goes.

use super::string::{plain_run, write_char};
use super::{Fault, Keep, Kind, Member, Object, Span};

/// Reads one document from front to back.
pub(super) struct Scanner<'a> {
    source: &'a str,
    at: usize,
    keep: Keep,
    canonical: String,
    /// The members of all objects that are open, the innermost last.
    members: Vec<Member>,
    doubt: Option<Fault>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(source: &'a str, keep: Keep) -> Self {
        // A canonical text is never longer than its source.
        let room = match keep {
            Keep::Names => 0,
            Keep::Values => source.len(),
        };
        Self {
            source,
            at: 0,
            keep,
            canonical: String::with_capacity(room),
            members: Vec::with_capacity(TYPICAL_MEMBERS),
            doubt: None,
        }
    }

    /// The whole source is one object, nested at most `depth` levels.
    pub(super) fn document(mut self, depth: u32) -> Result<Object<'a>, Fault> {
        if u32::try_from(self.source.len()).is_err() {
            return Err(Fault::Syntax);
        }
        let kind = match self.skip_blanks() {
            Some(first) => kind(first)?,
            None => return Err(Fault::Empty),
        };
        if kind != Kind::Object {
            // Names the nearest fault: `[1,2` is not even JSON.
            self.value(depth)?;
            return Err(Fault::NotAnObject);
        }
        let tail = self.object(depth)?;
        if self.skip_blanks().is_some() {
            return Err(Fault::Trailing);
        }
        Ok(Object {
            source: self.source,
            canonical: self.canonical,
            members: self.members,
            tail,
            doubt: self.doubt,
        })
    }

    fn value(&mut self, depth: u32) -> Result<Kind, Fault> {
        let kind = kind(self.peek().ok_or(Fault::Syntax)?)?;
        match kind {
            Kind::Array => self.array(depth)?,
            Kind::Object => self.nested_object(depth)?,
            Kind::String => self.string(self.keep)?,
            Kind::Bool if self.peek() == Some(b't') => self.word("true")?,
            Kind::Bool => self.word("false")?,
            Kind::Null => self.word("null")?,
            Kind::Number => self.number()?,
        }
        Ok(kind)
    }

    fn array(&mut self, depth: u32) -> Result<(), Fault> {
        let below = depth.checked_sub(1).ok_or(Fault::Deep)?;
        self.at += 1;
        self.write("[");
        if self.skip_blanks() == Some(b']') {
            self.at += 1;
            self.write("]");
            return Ok(());
        }
        loop {
            self.skip_blanks();
            self.value(below)?;
            match self.skip_blanks() {
                Some(b',') => self.write(","),
                Some(b']') => break,
                _ => return Err(Fault::Syntax),
            }
            self.at += 1;
        }
        self.at += 1;
        self.write("]");
        Ok(())
    }

    /// An object inside another value: its members become canonical text.
    fn nested_object(&mut self, depth: u32) -> Result<(), Fault> {
        let first = self.members.len();
        let start = self.canonical.len();
        self.object(depth)?;
        match self.keep {
            Keep::Names => self.canonical.truncate(start),
            Keep::Values => {
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
                    self.canonical.push_str(piece.of(&pieces));
                }
                self.canonical.push('}');
            }
        }
        self.members.truncate(first);
        Ok(())
    }

    /// An object: leaves its members sorted at the end of the list; says where the last value ended.
    fn object(&mut self, depth: u32) -> Result<usize, Fault> {
        let below = depth.checked_sub(1).ok_or(Fault::Deep)?;
        let first = self.members.len();
        self.at += 1;
        let mut tail = self.at;
        if self.skip_blanks() == Some(b'}') {
            self.at += 1;
            return Ok(tail);
        }
        loop {
            self.skip_blanks();
            let member = self.member(below)?;
            self.members.push(member);
            tail = self.at;
            match self.skip_blanks() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(Fault::Syntax),
            }
        }
        self.at += 1;
        self.sort_members(first);
        Ok(tail)
    }

    fn member(&mut self, below: u32) -> Result<Member, Fault> {
        if self.peek() != Some(b'"') {
            return Err(Fault::Syntax);
        }
        let start = self.canonical.len() + 1;
        self.string(Keep::Values)?;
        let name = span(start, self.canonical.len() - 1);
        if self.skip_blanks() != Some(b':') {
            return Err(Fault::Syntax);
        }
        self.at += 1;
        self.skip_blanks();
        self.write(":");
        let (start, raw_start) = (self.canonical.len(), self.at);
        let kind = self.value(below)?;
        Ok(Member {
            kind,
            raw: span(raw_start, self.at),
            name,
            value: span(start, self.canonical.len()),
        })
    }

    /// Sorts the members of one object; names are canonical, so twins have equal bytes.
    fn sort_members(&mut self, first: usize) {
        let canonical = &self.canonical;
        let name = |member: &Member| member.name.of(canonical);
        let Some(members) = self.members.get_mut(first..) else {
            return;
        };
        members.sort_unstable_by(|a, b| name(a).cmp(name(b)).then(a.raw.start.cmp(&b.raw.start)));
        if members.is_sorted_by(|a, b| name(a) != name(b)) {
            return;
        }
        self.doubt.get_or_insert(Fault::Twice);
    }

    /// A string, written canonically: an escape only where JSON demands one.
    fn string(&mut self, keep: Keep) -> Result<(), Fault> {
        let out = self.canonical.len();
        self.at += 1;
        self.canonical.push('"');
        loop {
            let rest = self.source.as_bytes().get(self.at..).unwrap_or_default();
            let end = self.at + plain_run(rest);
            if keep == Keep::Values {
                // The run ends before an ASCII byte or at the end of the text.
                self.canonical
                    .push_str(self.source.get(self.at..end).unwrap_or_default());
            }
            self.at = end + 1;
            match self.source.as_bytes().get(end) {
                Some(b'"') => break,
                Some(b'\\') => {
                    let unescaped = self.escape()?;
                    if keep == Keep::Values {
                        write_char(&mut self.canonical, unescaped);
                    }
                }
                _ => return Err(Fault::Syntax),
            }
        }
        self.canonical.push('"');
        if keep == Keep::Names {
            self.canonical.truncate(out);
        }
        Ok(())
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<char, Fault> {
        let letter = self.peek().ok_or(Fault::Syntax)?;
        self.at += 1;
        Ok(match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.code_unit_escape(),
            _ => return Err(Fault::Syntax),
        })
    }

    /// `\uXXXX`, or two of them for a surrogate pair.
    fn code_unit_escape(&mut self) -> Result<char, Fault> {
        let unit = self.hex4().ok_or(Fault::Syntax)?;
        if let Some(character) = char::from_u32(unit) {
            return Ok(character);
        }
        let resume = self.at;
        let rest = self.source.as_bytes().get(self.at..).unwrap_or_default();
        if (0xD800..0xDC00).contains(&unit) && rest.starts_with(b"\\u") {
            self.at += 2;
            if let Some(low @ 0xDC00..0xE000) = self.hex4() {
                let scalar = 0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
                return char::from_u32(scalar).ok_or(Fault::Syntax);
            }
        }
        self.at = resume;
        self.doubt.get_or_insert(Fault::Surrogate);
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.source.as_bytes().get(self.at..self.at + 4)?;
        self.at += 4;
        digits.iter().try_fold(0, |unit, digit| {
            Some(unit * 16 + char::from(*digit).to_digit(16)?)
        })
    }

    /// A number, kept as written: `1.0` and `1.00` may mean different things to somebody.
    fn number(&mut self) -> Result<(), Fault> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        let source = self.source;
        self.write(source.get(start..self.at).unwrap_or_default());
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let rest = self.source.as_bytes().get(self.at..).unwrap_or_default();
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 {
            Err(Fault::Syntax)
        } else {
            Ok(())
        }
    }

    fn word(&mut self, word: &'static str) -> Result<(), Fault> {
        let rest = self.source.get(self.at..).unwrap_or_default();
        if !rest.starts_with(word) {
            return Err(Fault::Syntax);
        }
        self.at += word.len();
        self.write(word);
        Ok(())
    }

    fn write(&mut self, text: &str) {
        if self.keep == Keep::Values {
            self.canonical.push_str(text);
        }
    }

    fn peek(&self) -> Option<u8> {
        self.source.as_bytes().get(self.at).copied()
    }

    /// Skips what JSON calls white space; shows the byte behind it.
    fn skip_blanks(&mut self) -> Option<u8> {
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                other => return other,
            }
        }
    }
}

fn kind(first: u8) -> Result<Kind, Fault> {
    Ok(match first {
        b'{' => Kind::Object,
        b'[' => Kind::Array,
        b'"' => Kind::String,
        b't' | b'f' => Kind::Bool,
        b'n' => Kind::Null,
        b'-' | b'0'..=b'9' => Kind::Number,
        _ => return Err(Fault::Syntax),
    })
}

/// Positions fit: [`Scanner::document`] refuses sources of 4 GiB, and nothing is longer than they.
fn span(start: usize, end: usize) -> Span {
    Span {
        start: start as u32,
        end: end as u32,
    }
}

/// Room for the members of a recording-URL request and a few more.
const TYPICAL_MEMBERS: usize = 8;
