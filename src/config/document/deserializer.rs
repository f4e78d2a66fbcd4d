//! Hands checked values of TOML to serde. The deserializer of the `toml` crate offers dates and spans as maps, so
//! that each type of the file is compiled three times; this one compiles it once, which spares a build a
//! twelfth of the program's code.

use std::ops::Range;
use std::{fmt, vec};

use serde::de::value::SeqDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};
use toml::map;

use crate::config::spanned::SPANNED;

/// A value and its place in the file.
pub(super) struct ValueDeserializer<'de> {
    value: DeValue<'de>,
    span: Range<usize>,
}

/// A value that serde rejects. It has no message: serde's can quote a secret, and the structure check has
/// reported what a user can get wrong.
#[derive(Debug)]
pub(super) struct Invalid {
    /// The innermost value that was rejected.
    pub(super) span: Option<Range<usize>>,
}

impl<'de> ValueDeserializer<'de> {
    pub(super) fn new(value: Spanned<DeValue<'de>>) -> Self {
        let span = value.span();
        let value = value.into_inner();
        Self { value, span }
    }

    fn key(key: Spanned<DeString<'de>>) -> Self {
        let span = key.span();
        let value = DeValue::String(key.into_inner());
        Self { value, span }
    }
}

impl<'de> Deserializer<'de> for ValueDeserializer<'de> {
    type Error = Invalid;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Invalid> {
        match self.value {
            DeValue::String(DeString::Borrowed(text)) => visitor.visit_borrowed_str(text),
            DeValue::String(DeString::Owned(text)) => visitor.visit_string(text),
            DeValue::Datetime(time) => visitor.visit_string(time.to_string()),
            DeValue::Boolean(value) => visitor.visit_bool(value),
            DeValue::Integer(digits) => {
                match i64::from_str_radix(digits.as_str(), digits.radix()) {
                    Ok(number) => visitor.visit_i64(number),
                    Err(_) => Err(Invalid::at(self.span)),
                }
            }
            DeValue::Float(digits) => match digits.as_str().parse() {
                // An infinity that is not written is a number too large.
                Ok(number) if f64::is_finite(number) || digits.as_str().contains("inf") => {
                    visitor.visit_f64(number)
                }
                _ => Err(Invalid::at(self.span)),
            },
            DeValue::Array(values) => visitor.visit_seq(Values(values.into_iter())),
            DeValue::Table(table) => visitor.visit_map(Entries::new(table)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Invalid> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Invalid> {
        visitor.visit_newtype_struct(self)
    }

    /// A value with its span is asked for as an enum, whose variant is the span.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Invalid> {
        match self.value {
            _ if name == SPANNED => visitor.visit_enum(self),
            DeValue::String(variant) => visitor.visit_enum(variant.into_deserializer()),
            _ => Err(Invalid::at(self.span)),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de> de::EnumAccess<'de> for ValueDeserializer<'de> {
    type Error = Invalid;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Invalid> {
        let ends = [self.span.start, self.span.end];
        let span = seed.deserialize(SeqDeserializer::new(ends.into_iter()))?;
        Ok((span, self))
    }
}

impl<'de> de::VariantAccess<'de> for ValueDeserializer<'de> {
    type Error = Invalid;

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Invalid> {
        seed.deserialize(self)
    }

    fn unit_variant(self) -> Result<(), Invalid> {
        Err(Invalid::at(self.span))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Invalid> {
        Err(Invalid::at(self.span))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Invalid> {
        Err(Invalid::at(self.span))
    }
}

/// The values of an array.
struct Values<'de>(vec::IntoIter<Spanned<DeValue<'de>>>);

impl<'de> de::SeqAccess<'de> for Values<'de> {
    type Error = Invalid;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Invalid> {
        let Some(value) = self.0.next() else {
            return Ok(None);
        };
        let span = value.span();
        let read = seed.deserialize(ValueDeserializer::new(value));
        read.map(Some).map_err(|error| error.within(span))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// The entries of a table.
struct Entries<'de> {
    entries: map::IntoIter<Spanned<DeString<'de>>, Spanned<DeValue<'de>>>,
    /// The value of the key that was handed out last.
    value: Option<ValueDeserializer<'de>>,
}

impl<'de> Entries<'de> {
    fn new(table: DeTable<'de>) -> Self {
        Self {
            entries: table.into_iter(),
            value: None,
        }
    }
}

impl<'de> de::MapAccess<'de> for Entries<'de> {
    type Error = Invalid;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Invalid> {
        let Some((key, value)) = self.entries.next() else {
            return Ok(None);
        };
        self.value = Some(ValueDeserializer::new(value));
        let span = key.span();
        let read = seed.deserialize(ValueDeserializer::key(key));
        read.map(Some).map_err(|error| error.within(span))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Invalid> {
        let value = self.value.take().ok_or(Invalid { span: None })?;
        let span = value.span.clone();
        seed.deserialize(value).map_err(|error| error.within(span))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

impl Invalid {
    fn at(span: Range<usize>) -> Self {
        Self { span: Some(span) }
    }

    /// Adds the span of an outer value, unless an inner one has been found.
    fn within(self, span: Range<usize>) -> Self {
        Self {
            span: self.span.or(Some(span)),
        }
    }
}

impl de::Error for Invalid {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self { span: None }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("invalid value")
    }
}

impl std::error::Error for Invalid {}

#[cfg(test)]
mod tests;
