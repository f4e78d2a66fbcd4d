//! The canonical text in parts that can be changed one by one. What [`super::super::CanonicalRequest`] makes
//! of a right request is [`Message::of`] it.

use std::borrow::Cow;

use http::HeaderMap;

use super::super::{Signable, canonical, percent};

/// The parts of a canonical text.
#[derive(Clone)]
pub(super) struct Message<'a> {
    pub(super) method: &'a str,
    pub(super) path: Cow<'a, str>,
    /// The query line in canonical form; `None` has no line.
    pub(super) query: Option<Cow<'a, [u8]>>,
    pub(super) names: Cow<'a, str>,
    /// Names and values of the signed header fields.
    pub(super) fields: Vec<(Cow<'a, str>, Cow<'a, [u8]>)>,
    pub(super) body: Cow<'a, [u8]>,
}

impl<'a> Message<'a> {
    /// Returns the canonical text of a request with these signed names; fields that the head does not have
    /// exactly once are left out, and so is a query that has no canonical form.
    pub(super) fn of(request: &Signable<'a>, names: &'a str) -> Self {
        let query = request.query.filter(|query| !query.is_empty());
        let query = query.and_then(|query| canonical::canonical_query(query).ok());
        let message = Self {
            method: request.method,
            path: request.path.into(),
            query: query.filter(|query| !query.is_empty()).map(Cow::Owned),
            names: names.into(),
            fields: Vec::new(),
            body: request.body.into(),
        };
        message.with_fields(request.headers, names)
    }

    /// Returns the message with the fields that `names` lists.
    pub(super) fn with_fields(self, headers: &'a HeaderMap, names: &str) -> Self {
        let fields = names.split(';').filter_map(|name| {
            let value = canonical::single_value(headers, name).ok()?;
            Some((Cow::Owned(name.to_owned()), Cow::Borrowed(value)))
        });
        Self {
            fields: fields.collect(),
            ..self
        }
    }

    /// Returns the message with another value of a signed field.
    pub(super) fn with_value(&self, name: &str, value: &[u8]) -> Self {
        let mut message = self.clone();
        for (_, old) in message.fields.iter_mut().filter(|(it, _)| it == name) {
            *old = Cow::Owned(value.to_owned());
        }
        message
    }

    /// Returns the message with another body. If the length is signed, also with the length of that body.
    pub(super) fn with_body(&self, body: Vec<u8>) -> [Option<Self>; 2] {
        let length = body.len().to_string();
        let message = Self {
            body: body.into(),
            ..self.clone()
        };
        let has_length = self.fields.iter().any(|(name, _)| name == LENGTH);
        let adjusted = has_length.then(|| message.with_value(LENGTH, length.as_bytes()));
        [Some(message), adjusted]
    }

    /// Returns the exact bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512 + 3 * self.body.len());
        let mut line = |text: &[u8]| {
            bytes.extend_from_slice(text);
            bytes.push(b'\n');
        };
        line(self.method.as_bytes());
        line(self.path.as_bytes());
        if let Some(query) = &self.query {
            line(query);
        }
        line(self.names.as_bytes());
        let mut fields: Vec<Vec<u8>> = self
            .fields
            .iter()
            .map(|(name, value)| {
                let value = percent::encode(value);
                let name = percent::encode(name.as_bytes());
                name.chain([b':']).chain(value).collect()
            })
            .collect();
        fields.sort_unstable();
        fields.iter().for_each(|field| line(field));
        bytes.extend(percent::encode(&self.body));
        bytes
    }
}

const LENGTH: &str = "content-length";
