use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Invalid, ValueDeserializer};
use crate::config;

fn read<T: DeserializeOwned>(text: &str) -> Result<T, Invalid> {
    let table = DeTable::parse(text).unwrap();
    let span = table.span();
    let root = Spanned::new(span, DeValue::Table(table.into_inner()));
    T::deserialize(ValueDeserializer::new(root))
}

/// A value of each kind.
const KINDS: &str = r#"
text = "a\tb"
literal = 'c:\d'
hex = 0xff
large = 9_223_372_036_854_775_807
negative = -17
ratio = 6.25e-1
yes = true
list = [1, "two", [3], { four = 4 }]
[table."quoted.key"]
inner = "value"
[[tables]]
n = 1
[[tables]]
n = 2
"#;

#[derive(Debug, Deserialize)]
struct Located {
    names: BTreeMap<config::spanned::Spanned<String>, config::spanned::Spanned<u32>>,
    many: Vec<config::spanned::Spanned<String>>,
    missing: Option<config::spanned::Spanned<String>>,
}

#[test]
fn reads_what_the_toml_crate_reads() {
    let theirs: Value = toml::from_str(KINDS).unwrap();
    assert_eq!(read::<Value>(KINDS).unwrap(), theirs);
    assert_eq!(theirs["hex"], json!(255));
}

#[test]
fn a_number_too_large_is_no_infinity() {
    type Numbers = BTreeMap<String, f64>;
    assert_eq!(read::<Numbers>("n = -inf").unwrap()["n"], f64::NEG_INFINITY);
    assert!(read::<Numbers>("n = 1e400").is_err());
}

#[test]
fn a_time_is_its_text() {
    let read: Value = read("end = 2026-12-31T23:59:59+08:00").unwrap();
    assert_eq!(read, json!({ "end": "2026-12-31T23:59:59+08:00" }));
}

#[test]
fn spans_are_the_places_in_the_text() {
    let text = "many = [\"x\", 'yz']\n[names]\nfirst = 11\n\"second\" = 0x16\n";
    let located: Located = read(text).unwrap();
    let at = |span| text.get(span).unwrap();
    let names: Vec<_> = located
        .names
        .iter()
        .map(|(name, number)| (at(name.span()), at(number.span()), number.value))
        .collect();
    assert_eq!(names, [("first", "11", 11), ("\"second\"", "0x16", 22)]);
    let many: Vec<_> = located.many.iter().map(|text| at(text.span())).collect();
    assert_eq!(many, ["\"x\"", "'yz'"]);
    assert!(located.missing.is_none());
}

#[test]
fn the_innermost_rejected_value_is_named() {
    let rejected = |text: &'static str| {
        let error = read::<Located>(text).unwrap_err();
        text.get(error.span.unwrap()).unwrap()
    };
    assert_eq!(
        rejected("many = []\n[names]\nfirst = 1\nsecond = -2\n"),
        "-2"
    );
    assert_eq!(rejected("many = [\"a\", 7]\n[names]\n"), "7");
    assert_eq!(rejected("many = \"a\"\n[names]\n"), "\"a\"");
    assert_eq!(
        rejected("many = []\n[names]\nbeyond = 9_223_372_036_854_775_808\n"),
        "9_223_372_036_854_775_808"
    );
}
