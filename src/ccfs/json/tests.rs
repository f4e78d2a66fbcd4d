use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::*;

fn fault(source: &str) -> Option<JsonError> {
    let [names, values] = [Canonicalize::Names, Canonicalize::All]
        .map(|keep| Object::strict(source.as_bytes(), keep).err());
    assert_eq!(names, values, "{source}");
    names
}

/// The canonical texts of the members, joined.
fn canonical(source: &str) -> String {
    let object = Object::strict(source.as_bytes(), Canonicalize::All).expect(source);
    let pieces = object.members().iter();
    let pieces = pieces.map(|it| format!("\"{}\":{}", object.name(it), object.value(it)));
    format!("{{{}}}", pieces.collect::<Vec<_>>().join(","))
}

#[test]
fn faults() {
    for (source, expected) in [
        ("", JsonError::Empty),
        (" \n", JsonError::Empty),
        ("\u{feff}{}", JsonError::Syntax),
        ("[]", JsonError::NotAnObject),
        ("null", JsonError::NotAnObject),
        ("\"{}\"", JsonError::NotAnObject),
        ("{} {}", JsonError::TrailingData),
        ("{},", JsonError::TrailingData),
        ("{}\0", JsonError::TrailingData),
        ("{", JsonError::Syntax),
        ("{\"a\"}", JsonError::Syntax),
        ("{\"a\":}", JsonError::Syntax),
        ("{\"a\":1,}", JsonError::Syntax),
        ("{\"a\":1 \"b\":2}", JsonError::Syntax),
        ("{a:1}", JsonError::Syntax),
        ("{\"a\":[1,]}", JsonError::Syntax),
        ("{\"a\":[1}", JsonError::Syntax),
        ("{\"a\":01}", JsonError::Syntax),
        ("{\"a\":+1}", JsonError::Syntax),
        ("{\"a\":1.}", JsonError::Syntax),
        ("{\"a\":.5}", JsonError::Syntax),
        ("{\"a\":1e}", JsonError::Syntax),
        ("{\"a\":-}", JsonError::Syntax),
        ("{\"a\":NaN}", JsonError::Syntax),
        ("{\"a\":tru}", JsonError::Syntax),
        ("{\"a\":nul", JsonError::Syntax),
        ("{\"a\":\"\t\"}", JsonError::Syntax),
        ("{\"a\":\"\\x\"}", JsonError::Syntax),
        ("{\"a\":\"\\u12g4\"}", JsonError::Syntax),
        ("{\"a\":\"\\u+123\"}", JsonError::Syntax),
        ("{\"a\":\"", JsonError::Syntax),
        ("{\"a\":\"\\", JsonError::Syntax),
        ("{\"a\":1/**/}", JsonError::Syntax),
        ("{\u{a0}}", JsonError::Syntax),
        ("{\"a\":1,\"a\":1}", JsonError::DuplicateMember),
        (
            "{\"a\":1,\"b\":2,\"\\u0061\":1}",
            JsonError::DuplicateMember,
        ),
        ("{\"x\":[{\"\":1,\"\":2}]}", JsonError::DuplicateMember),
        (
            "{\"x\":{\"\\n\":1,\"\\u000A\":2}}",
            JsonError::DuplicateMember,
        ),
        ("{\"a\":\"\\ud800\"}", JsonError::LoneSurrogate),
        ("{\"a\":\"\\udc00\\ud800\"}", JsonError::LoneSurrogate),
        ("{\"a\":\"\\ud800\\u0041\"}", JsonError::LoneSurrogate),
        ("{\"\\ud800\":1}", JsonError::LoneSurrogate),
    ] {
        assert_eq!(fault(source), Some(expected), "{source}");
    }
    assert_eq!(
        Object::strict(b"{\"a\":\"\xc0\"}", Canonicalize::Names).err(),
        Some(JsonError::NotUtf8)
    );
}

#[test]
fn legal() {
    for source in [
        "{}",
        " \t\r\n{ } \n",
        "{\"a\":-0.0e-0,\"b\":1E+9999,\"c\":[ ],\"d\":[ null , true , false ]}",
        "{\"a\":{\"a\":{\"a\":1}}}",
        "{\"\":1,\" \":2,\"A\":3,\"a\":4}",
        "{\"a\":\"\\uD83D\\uDE00\u{7f}\u{2028}\"}",
    ] {
        assert_eq!(fault(source), None, "{source}");
    }
}

#[test]
fn thirty_two_levels() {
    let nested = |open: &str, close: &str, levels: usize| {
        format!("{{\"a\":{}0{}}}", open.repeat(levels), close.repeat(levels))
    };
    assert_eq!(fault(&nested("[", "]", 31)), None);
    assert_eq!(fault(&nested("[", "]", 32)), Some(JsonError::TooDeep));
    assert_eq!(fault(&nested("{\"a\":", "}", 31)), None);
    assert_eq!(fault(&nested("{\"a\":", "}", 32)), Some(JsonError::TooDeep));
    assert_eq!(fault(&"{\"a\":".repeat(1 << 20)), Some(JsonError::TooDeep));
    assert_eq!(fault(&"[".repeat(1 << 20)), Some(JsonError::TooDeep));
}

#[test]
fn canonical_text() {
    for (source, expected) in [
        ("{ }", "{}"),
        (
            "{ \"b\" : 1.0 , \"a\" : [ 1 , { \"z\":1, \"y\":{\"b\":1,\"a\":[]} } ] }",
            "{\"a\":[1,{\"y\":{\"a\":[],\"b\":1},\"z\":1}],\"b\":1.0}",
        ),
        (
            "{\"\\u0061\\/\":\"\\u00e4\\ud83d\\ude00\\b\\f\\n\\r\\t\\u0001\\u001F\\\"\\\\\"}",
            "{\"a/\":\"\u{e4}\u{1f600}\\b\\f\\n\\r\\t\\u0001\\u001f\\\"\\\\\"}",
        ),
        ("{\"n\":1e2}", "{\"n\":1e2}"),
    ] {
        assert_eq!(canonical(source), expected);
        assert_eq!(canonical(expected), expected);
    }
}

#[test]
fn members_are_found_where_they_stand() {
    let source = r#"{"x": {"b":1, "a":2} ,"callI\u0064" : "1\u0032" , "n":null}"#;
    let object = Object::strict(source.as_bytes(), Canonicalize::Names).unwrap();
    let x = object.member("x").unwrap();
    assert_eq!(
        (object.raw(&x), x.kind),
        (r#"{"b":1, "a":2}"#, ValueKind::Object)
    );
    let call_id = object.member("callId").unwrap();
    assert_eq!(object.raw(&call_id), r#""1\u0032""#);
    assert_eq!(object.text(&call_id).as_deref(), Some("12"));
    assert_eq!(object.text(&x), None);
    assert!(object.member("a").is_none());
    assert_eq!(object.append_offset(), source.len() - 1);
    let empty = Object::strict(b" { } ", Canonicalize::Names).unwrap();
    assert_eq!(empty.append_offset(), 2);
}

#[test]
fn a_doubt_is_only_noted_in_an_answer() {
    let object = Object::lenient(b"{\"a\":1,\"a\":2,\"b\":\"\\ud800x\"}")
        .ok()
        .unwrap();
    assert!(object.is_ambiguous());
    assert_eq!(object.value(&object.member("a").unwrap()), "2");
    assert_eq!(object.value(&object.member("b").unwrap()), "\"\u{fffd}x\"");
}

#[test]
fn many_members_are_read_in_reasonable_time() {
    let members: Vec<_> = (0..20_000).rev().map(|n| format!("\"{n}\":0")).collect();
    assert_eq!(fault(&format!("{{{}}}", members.join(","))), None);
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[a-c\"\\\\\n\u{1}]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            object_of(inner),
        ]
    })
}

fn object_of(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop::collection::hash_map("[a-c\"\\\\\n\u{1}\u{e4}]{0,3}", inner, 0..5)
        .prop_map(|members| members.into_iter().collect())
}

/// The same object in another spelling: blanks, and every ASCII letter of a string escaped.
fn respelled(value: &Value) -> String {
    let escape = |text: &str| {
        let units = text.encode_utf16();
        let escaped: String = units.map(|unit| format!("\\u{unit:04X}")).collect();
        format!("\"{escaped}\"")
    };
    match value {
        Value::String(text) => escape(text),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(respelled).collect();
            format!("[ {}\n]", items.join(" , "))
        }
        Value::Object(members) => {
            let members = members.iter().rev();
            let members: Vec<_> = members
                .map(|(name, value)| format!("{} :\t{}", escape(name), respelled(value)))
                .collect();
            format!("{{ {} }}", members.join("\r\n,"))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

proptest! {
    #[test]
    fn spellings_of_one_object_have_one_text(value in object_of(json())) {
        let source = value.to_string();
        let text = canonical(&source);
        prop_assert_eq!(&canonical(&respelled(&value)), &text);
        prop_assert_eq!(&canonical(&text), &text);
        // Both are read: serde_json rounds the last digit of some numbers.
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        prop_assert_eq!(read(&text), read(&source));
    }

    #[test]
    fn different_objects_have_different_texts(a in object_of(json()), b in object_of(json())) {
        let same = canonical(&a.to_string()) == canonical(&b.to_string());
        prop_assert_eq!(same, a == b);
    }

    #[test]
    fn the_grammar_is_that_of_everybody(
        value in object_of(json()),
        at in any::<prop::sample::Index>(),
        with in "[\\[\\]{},:\"\\\\0-9eEtfnu.+ \u{0}-\u{1f}-]{0,2}",
        cut in 0_usize..3,
    ) {
        let mut text: Vec<char> = value.to_string().chars().collect();
        let start = at.index(text.len());
        let end = (start + cut).min(text.len());
        text.splice(start..end, with.chars());
        let text: String = text.into_iter().collect();
        let theirs = serde_json::from_str::<IgnoredAny>(&text).is_ok();
        match fault(&text) {
            None => prop_assert!(theirs, "{}", text),
            Some(JsonError::DuplicateMember | JsonError::LoneSurrogate | JsonError::NotAnObject) => {}
            Some(fault) => prop_assert!(!theirs, "{}: {}", fault, text),
        }
    }

    #[test]
    fn never_panics(source in any::<Vec<u8>>(), text in "[\\[\\]{},:\"\\\\a0u\u{e4}d8]*") {
        for source in [&source[..], text.as_bytes()] {
            let _ = Object::strict(source, Canonicalize::Names).is_ok();
            let _ = Object::lenient(source).is_ok();
        }
    }

    #[test]
    fn the_end_of_a_run_is_found(text in "[ !\"#\\[\\\\\\]a\u{0}\u{1f}\u{7f}-\u{ff}]{0,40}") {
        let special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
        let expected = text.bytes().position(special).unwrap_or(text.len());
        prop_assert_eq!(string::plain_run(text.as_bytes()), expected);
    }
}
