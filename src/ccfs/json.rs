//! Parses one JSON object strictly, in one pass. Anything that two parsers might read differently is
//! detected, and every value gets a canonical text, so that equal meaning is equal bytes.
//!
//! Written here because no crate reports all of this at once: duplicate members at any depth, numbers as
//! written, and the position of each member in the source, so that one can be replaced and the remainder
//! kept. No tree is built, so memory stays near the size of the source.

mod scan;
mod string;

use std::borrow::Cow;

use scan::Scanner;
pub(super) use string::write_string;

/// A JSON object (RFC 8259), surrounded by nothing but whitespace.
pub(super) struct Object<'a> {
    source: &'a str,
    /// The canonical texts of all names and values, addressed by span.
    canonical: String,
    /// Sorted by name; duplicate names in source order.
    members: Vec<Member>,
    /// After the last value; after the opening brace if there is none.
    append_offset: usize,
    ambiguity: Option<JsonError>,
}

/// One member of an [`Object`].
#[derive(Clone, Copy)]
pub(super) struct Member {
    /// The type of the value.
    pub(super) kind: ValueKind,
    /// The value as written, in the source.
    pub(super) raw: Span,
    /// In the canonical text, without quotation marks.
    name: Span,
    /// In the canonical text; empty if only names are canonicalized.
    value: Span,
}

/// A range of bytes, as `u32` so that objects with very many members stay small.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

/// The type of a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ValueKind {
    Array,
    Bool,
    Null,
    Number,
    Object,
    String,
}

/// Which canonical texts to make.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Canonicalize {
    /// Only names, which the search for duplicates needs.
    Names,
    /// Names and values.
    All,
}

/// Why bytes are not an object that every parser reads the same.
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
    /// Parses what a client sent. An ambiguity is an error.
    pub(super) fn strict(source: &'a [u8], keep: Canonicalize) -> Result<Self, JsonError> {
        let object = Self::read(source, keep, MAX_REQUEST_DEPTH)?;
        object.ambiguity.map_or(Ok(object), Err)
    }

    /// Parses what a node sent. An ambiguity is only recorded.
    pub(super) fn lenient(source: &'a [u8]) -> Result<Self, JsonError> {
        Self::read(source, Canonicalize::All, MAX_RESPONSE_DEPTH)
    }

    fn read(source: &'a [u8], keep: Canonicalize, depth: u32) -> Result<Self, JsonError> {
        let source = str::from_utf8(source).map_err(|_| JsonError::NotUtf8)?;
        Scanner::new(source, keep).document(depth)
    }

    /// Whether another parser might read it differently.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.ambiguity.is_some()
    }

    /// Returns the source.
    pub(super) fn source(&self) -> &'a str {
        self.source
    }

    /// Returns the offset at which a new last member can be inserted.
    pub(super) fn append_offset(&self) -> usize {
        self.append_offset
    }

    /// Returns the members, sorted by name.
    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Returns the last member of a name. `name` must need no escapes.
    pub(super) fn member(&self, name: &str) -> Option<Member> {
        let named = |member: &&Member| self.name(member) == name;
        self.members.iter().rev().find(named).copied()
    }

    /// Returns a member's name in canonical form, without quotation marks.
    pub(super) fn name(&self, member: &Member) -> &str {
        member.name.slice(&self.canonical)
    }

    /// Returns a member's value in canonical form: members sorted, strings unescaped as far as JSON allows,
    /// numbers as written, no whitespace.
    pub(super) fn value(&self, member: &Member) -> &str {
        member.value.slice(&self.canonical)
    }

    /// Returns a member's value as written.
    pub(super) fn raw(&self, member: &Member) -> &'a str {
        member.raw.slice(self.source)
    }

    /// Returns a member's value, unescaped, if it is a string.
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
        // Spans start and end next to ASCII bytes of the text that they were made for.
        text.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// How deep a request may be nested, including the object itself. Far deeper than any
/// documented request body.
const MAX_REQUEST_DEPTH: u32 = 32;

/// How deep a response may be nested; bounds the recursion. `serde_json` has the same default.
const MAX_RESPONSE_DEPTH: u32 = 128;

#[cfg(test)]
mod tests;
