//! One JSON object, read strictly and in one pass: what readers might read differently is found, and
//! every value gets a canonical text, so that equal meaning is equal bytes.
//!
//! Own code, because no parser tells all of this at once: duplicate members at any depth, numbers as
//! written, the place of each member in the source, so that one can be replaced and the rest kept.
//! No tree is built, so that memory stays near the size of the source, whatever it holds.

mod scan;
mod string;

use std::borrow::Cow;

use scan::Scanner;
pub(super) use string::write_string;

/// A whole JSON object (RFC 8259) with nothing around it but blanks.
pub(super) struct Object<'a> {
    source: &'a str,
    /// The canonical texts of all names and values, to be addressed by span.
    canonical: String,
    /// Sorted by name; twins in their order in the source.
    members: Vec<Member>,
    /// Behind the last value; behind the opening brace if there is none.
    append_offset: usize,
    ambiguity: Option<JsonError>,
}

/// One member of an [`Object`].
#[derive(Clone, Copy)]
pub(super) struct Member {
    /// What the value is.
    pub(super) kind: ValueKind,
    /// The value as written, in the source.
    pub(super) raw: Span,
    /// In the canonical text, without quotation marks.
    name: Span,
    /// In the canonical text; empty if values are not kept.
    value: Span,
}

/// A range of bytes. Four bytes a side: objects with very many members must stay small.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

/// What a value is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ValueKind {
    Array,
    Bool,
    Null,
    Number,
    Object,
    String,
}

/// Which canonical texts are wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Canonicalize {
    /// Only names, which finding twins needs anyway.
    Names,
    /// All.
    All,
}

/// Why bytes are not an object that everybody reads alike.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum JsonError {
    #[error("is empty")]
    Empty,
    #[error("is not UTF-8")]
    NotUtf8,
    #[error("is not JSON")]
    Syntax,
    #[error("is not a JSON object")]
    NotAnObject,
    #[error("is nested too deep")]
    TooDeep,
    #[error("has something behind the JSON object")]
    TrailingData,
    #[error("has a member twice")]
    DuplicateMember,
    #[error("has half of a surrogate pair in a string")]
    LoneSurrogate,
}

impl<'a> Object<'a> {
    /// Reads what a client sent: whatever two readers might take differently is a fault.
    pub(super) fn strict(source: &'a [u8], keep: Canonicalize) -> Result<Self, JsonError> {
        let object = Self::read(source, keep, MAX_REQUEST_DEPTH)?;
        object.ambiguity.map_or(Ok(object), Err)
    }

    /// Reads what a node sent: a doubt is only noted.
    pub(super) fn lenient(source: &'a [u8]) -> Result<Self, JsonError> {
        Self::read(source, Canonicalize::All, MAX_RESPONSE_DEPTH)
    }

    fn read(source: &'a [u8], keep: Canonicalize, depth: u32) -> Result<Self, JsonError> {
        let source = str::from_utf8(source).map_err(|_| JsonError::NotUtf8)?;
        Scanner::new(source, keep).document(depth)
    }

    /// Might another reader understand something else?
    pub(super) fn is_ambiguous(&self) -> bool {
        self.ambiguity.is_some()
    }

    /// The source.
    pub(super) fn source(&self) -> &'a str {
        self.source
    }

    /// Where a new last member can be written.
    pub(super) fn append_offset(&self) -> usize {
        self.append_offset
    }

    /// The members, sorted by name.
    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The last member of a name, which must be one that needs no escapes.
    pub(super) fn member(&self, name: &str) -> Option<Member> {
        let named = |member: &&Member| self.name(member) == name;
        self.members.iter().rev().find(named).copied()
    }

    /// A member's name in its canonical form, without quotation marks.
    pub(super) fn name(&self, member: &Member) -> &str {
        member.name.slice(&self.canonical)
    }

    /// A member's value in its canonical form: members sorted, strings unescaped as far as JSON
    /// allows, numbers as written, no blanks.
    pub(super) fn value(&self, member: &Member) -> &str {
        member.value.slice(&self.canonical)
    }

    /// A member's value as written.
    pub(super) fn raw(&self, member: &Member) -> &'a str {
        member.raw.slice(self.source)
    }

    /// A member's value, unescaped, if it is a string.
    pub(super) fn text(&self, member: &Member) -> Option<Cow<'a, str>> {
        if member.kind != ValueKind::String {
            return None;
        }
        let raw = self.raw(member);
        if raw.contains('\\') {
            serde_json::from_str(raw).ok().map(Cow::Owned)
        } else {
            raw.strip_prefix('"')?.strip_suffix('"').map(Cow::Borrowed)
        }
    }
}

impl Span {
    fn slice(self, text: &str) -> &str {
        // Spans begin and end beside ASCII bytes of the text they were made for.
        text.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// How deep a request may be nested, the object itself included.
const MAX_REQUEST_DEPTH: u32 = 32;

/// How deep an answer may be nested; bounds the recursion.
const MAX_RESPONSE_DEPTH: u32 = 128;

#[cfg(test)]
mod tests;
