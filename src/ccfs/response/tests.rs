use proptest::prelude::*;

use super::*;

fn url(expires: i64) -> String {
    format!("https://b.obs.example.com:443/ccfs/r?AccessKeyId=A&Expires={expires}&Signature=S%3D")
}

fn expiry_of_data(data: &str) -> Option<i64> {
    let body = format!(r#"{{"resultCode":"0","resultDesc":"ok","resultData":{data}}}"#);
    let json = ParsedResponse::parse(body.as_bytes()).expect(data);
    assert_eq!(json.result_code.as_deref(), Some("0"), "{data}");
    json.expires_at.map(Timestamp::as_second)
}

fn expiry_of_text(text: &str) -> Option<i64> {
    let mut data = String::new();
    write_string(&mut data, text);
    expiry_of_data(&format!(r#"{{"url":{data}}}"#))
}

#[test]
fn urls_are_split_as_for_their_expiry() {
    for separator in [",", ";", "|", " ", "\n", ", ", ""] {
        let text = format!("{}{separator}{}", url(7), url(8));
        let body = serde_json::json!({ "resultData": { "url": text, "url2": [url(9)] } });
        let found = recording_urls(body.to_string().as_bytes());
        let expected: Vec<_> = [7, 8, 9]
            .map(|expires| (url(expires), Timestamp::from_second(expires).ok()))
            .into();
        assert_eq!(found, expected, "{separator:?}");
    }
    assert!(recording_urls(b"").is_empty());
    assert!(recording_urls(br#"{"resultData":"no URL"}"#).is_empty());
    let ambiguous = format!(r#"{{"resultData":"{0}","resultData":"{0}"}}"#, url(7));
    assert!(recording_urls(ambiguous.as_bytes()).is_empty());
}

#[test]
fn one_url() {
    assert_eq!(expiry_of_text(&url(7)), Some(7));
    assert_eq!(expiry_of_text(&url(7).replace("https", "HTTP")), Some(7));
    assert_eq!(expiry_of_text(&format!("  {}  ", url(7))), Some(7));
    assert_eq!(expiry_of_data(&format!("\"{}\"", url(7))), Some(7));
    let escaped = url(7)
        .replace('/', "\\/")
        .replace('&', "\\u0026")
        .replace('=', "\\u003D");
    assert_eq!(
        expiry_of_data(&format!(r#"{{"url":"{escaped}"}}"#)),
        Some(7)
    );
}

#[test]
fn several_urls_give_the_earliest() {
    for separator in [
        " ", ",", ", ", ";", "|", " | ", "\n", "\r\n", "\t", "", ",,", "\u{3000}",
    ] {
        let text = [url(9), url(7), url(8)].join(separator);
        assert_eq!(expiry_of_text(&text), Some(7), "{separator:?}");
        let text = format!("{text}{separator}");
        assert_eq!(expiry_of_text(&text), Some(7), "{separator:?} at the end");
    }
    let (a, b) = (url(9), url(7));
    for data in [
        format!(r#"{{"url":["{a}","{b}"]}}"#),
        format!(r#"{{"url1":"{a}","url2":"{b}"}}"#),
        format!(r#"[{{"url":"{a}"}},{{"more":{{"url":[["{b}"]]}}}}]"#),
        format!(r#""[\"{a}\",\"{b}\"]""#),
    ] {
        assert_eq!(expiry_of_data(&data), Some(7), "{data}");
    }
}

#[test]
fn a_url_inside_something_else_is_none() {
    let read = |data: &str| {
        let body = format!(r#"{{"resultCode":"0","resultData":{data}}}"#);
        let urls = all_recording_urls(body.as_bytes())?;
        Some(urls.into_iter().map(|(url, _)| url).collect::<Vec<_>>())
    };
    let one = Some(vec!["https://a/1?x".to_owned()]);
    assert_eq!(read(r#"{"url":"https://a/1?x"}"#), one);
    assert_eq!(
        read(r#"{"url":" https://a/1?x","note":"javascript:"}"#),
        one
    );
    let two = Some(vec!["https://a/1".to_owned(), "https://b/2".to_owned()]);
    for text in [
        r#"{"url":"https://a/1,https://b/2"}"#,
        r#"{"url":"https://a/1; https://b/2"}"#,
        r#"{"url":"https://a/1|https://b/2"}"#,
        r#"{"url":"https://a/1\nhttps://b/2"}"#,
        r#"["https://a/1","https://b/2"]"#,
        r#"{"url":"https://a/1","url2":"https://b/2"}"#,
    ] {
        assert_eq!(read(text), two, "{text}");
    }
    for text in [
        r#"{"url":"javascript:alert(1)//https://a/1"}"#,
        r#"{"url":"data:text/html,<a href=https://a/1>"}"#,
        r#"{"url":"https://a/1?next=https://b/2"}"#,
        r#"{"url":"https://a/https://b/2"}"#,
        r#"{"url":"xhttps://a/1"}"#,
    ] {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn a_doubtful_url_makes_all_unreadable() {
    let good = url(9);
    for bad in [
        "https://lss.example.com/r",
        "https://",
        "obs://bucket/r",
        "https://user@h/p?AccessKeyId=A&Expires=5&Signature=S",
        "xhttps//: http://h",
    ] {
        for text in [
            format!("{good},{bad}"),
            format!("{bad} {good}"),
            format!("{good}{bad}"),
        ] {
            assert_eq!(expiry_of_text(&text), None, "{text}");
        }
        assert_eq!(
            expiry_of_data(&format!(r#"{{"a":"{good}","b":["{bad}"]}}"#)),
            None
        );
        assert_eq!(
            expiry_of_data(&format!(r#"{{"a":"{good}","{bad}":0}}"#)),
            None
        );
    }
    // What follows a separator and is no URL belongs to the URL before it.
    assert_eq!(expiry_of_text(&format!("{good}&Expires=5")), None);
    let expires_last = "https://h/p?AccessKeyId=A&Signature=S&Expires=9";
    assert_eq!(expiry_of_text(&format!("{expires_last},x")), None);
    assert_eq!(expiry_of_text(&format!("{expires_last}\u{3002}")), None);
    assert_eq!(
        expiry_of_text("https://h/a,b;c?AccessKeyId=A&Signature=S&Expires=9"),
        Some(9)
    );
}

#[test]
fn thousands_of_urls_are_read_in_reasonable_time() {
    #[expect(clippy::disallowed_methods, reason = "bounds how long it takes")]
    let began = std::time::Instant::now();
    for between in ["", " ", ",", "\u{3000}", "::::"] {
        let one = format!("{}{between}", url(7));
        let whole = expiry_of_text(&one.repeat(20_000));
        assert_eq!(whole, Some(7), "{between:?}");
    }
    for filler in [":", " ", "\u{3000}", "://"] {
        let _ = expiry_of_text(&format!("{}{}", url(7), filler.repeat(1 << 20)));
    }
    // Milliseconds; a look at all that follows, for each of them, takes minutes.
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
}

#[test]
fn a_blank_of_any_kind_ends_a_url() {
    for blank in [" ", "\u{a0}", "\u{2003}"] {
        let text = format!("{}{blank}https://h/?nothing", url(7));
        assert_eq!(expiry_of_text(&text), None, "the second has no expiry");
        let text = format!("{}{blank}seen", url(7));
        assert_eq!(expiry_of_text(&text), Some(7), "{text}");
    }
    let text = format!("{}\u{e9}", url(7));
    assert_eq!(
        expiry_of_text(&text),
        None,
        "no blank, and nothing a URL holds"
    );
}

#[test]
fn no_url_no_expiry() {
    for data in [
        "null",
        "\"\"",
        "{}",
        "[]",
        "{\"url\":null}",
        "{\"url\":\"/r?Expires=1\"}",
        "7",
    ] {
        assert_eq!(expiry_of_data(data), None, "{data}");
    }
    let elsewhere = format!(r#"{{"resultCode":"0","url":"{}"}}"#, url(7));
    assert_eq!(
        ParsedResponse::parse(elsewhere.as_bytes())
            .unwrap()
            .expires_at,
        None
    );
}

#[test]
fn an_answer_is_one_object() {
    for body in [
        "",
        " ",
        "null",
        "[]",
        "\"\"",
        "{",
        "{}{}",
        "{} x",
        "{'a':1}",
        "{\"a\":01}",
        "\u{feff}{}",
        "<html>",
        "{\"resultCode\":\"0\"",
        "{\"a\":1,}",
    ] {
        assert_eq!(ParsedResponse::parse(body.as_bytes()), None, "{body}");
    }
    assert_eq!(ParsedResponse::parse(b"{\"a\":\"\xff\"}"), None);
    assert!(ParsedResponse::parse(b" {} \r\n").is_some());
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert!(ParsedResponse::parse(nested(127).as_bytes()).is_some());
    assert_eq!(ParsedResponse::parse(nested(128).as_bytes()), None);
    assert_eq!(ParsedResponse::parse("[".repeat(1 << 20).as_bytes()), None);
}

#[test]
fn an_ambiguous_answer_is_not_believed() {
    let url = url(7);
    for body in [
        format!(r#"{{"resultCode":"0","resultCode":"0300012","resultData":"{url}"}}"#),
        format!(r#"{{"resultCode":"0","resultData":{{"url":"{url}","url":"{url}"}}}}"#),
        format!(r#"{{"resultCode":"0","resultData":"{url}","x":"\ud800"}}"#),
    ] {
        let json = ParsedResponse::parse(body.as_bytes()).unwrap();
        assert_eq!((json.result_code, json.expires_at), (None, None), "{body}");
    }
}

#[test]
fn result_codes() {
    let read = |code: &str| {
        ParsedResponse::parse(format!(r#"{{"resultCode":{code}}}"#).as_bytes()).unwrap()
    };
    assert_eq!(
        read("\"0300008\"").result_kind(),
        ResultKind::FlowControlled
    );
    assert_eq!(
        read("\"0300009\"").result_kind(),
        ResultKind::FlowControlled
    );
    assert_eq!(
        read("\"\\u0030300009\"").result_kind(),
        ResultKind::FlowControlled
    );
    assert_eq!(read("\"0300012\"").result_kind(), ResultKind::NoData);
    for other in ["\"0\"", "\"0300011\"", "300012", "null", "{}"] {
        assert_eq!(read(other).result_kind(), ResultKind::Other);
    }
    let codes = ["0".to_owned(), "0100000".to_owned()];
    assert!(read("\"0\"").is_success(&codes) && read("\"0100000\"").is_success(&codes));
    for failure in ["0", "null", "\"00\"", "\"\""] {
        assert!(!read(failure).is_success(&codes), "{failure}");
    }
    assert_eq!(read("0").result_code, None);
}

#[test]
fn our_envelope() {
    assert_eq!(
        envelope("GW404", "no \"route\"\n\u{1}"),
        r#"{"resultData":null,"resultCode":"GW404","resultDesc":"no \"route\"\n\u0001"}"#
    );
}

/// The length of the first URL of a canonical text, byte by byte.
fn plain_url_length(text: &str) -> Option<usize> {
    let own = text.find("://")? + 3;
    let ends = |rest: &str| rest.starts_with(['"', '\\']) || rest.starts_with(char::is_whitespace);
    let mut end = own;
    for character in text[own..].chars() {
        if ends(&text[end..]) {
            break;
        }
        if text[end..].starts_with("://") {
            end = scheme_start(text, end)?;
            break;
        }
        end += character.len_utf8();
    }
    Some(text[..end].trim_end_matches([',', ';', '|']).len())
}

proptest! {
    #[test]
    fn a_url_ends_where_it_would_byte_by_byte(
        text in "(https?://|http|[a-c:/,;| \"\\\\]|\u{85}|\u{a0}|\u{2028}|\u{7f}|\u{e9}|\u{200b}){0,40}",
    ) {
        for text in [format!("https://h/{text}"), text] {
            let length = text.find("://").and_then(|at| url_length(&text, at + 3));
            prop_assert_eq!(length, plain_url_length(&text));
        }
    }

    #[test]
    fn never_panics(body in any::<Vec<u8>>(), text in "[a-z:/?&=,;| \"\\\\hHtTpPsS\u{3000}]*") {
        ParsedResponse::parse(&body);
        recording_urls(&body);
        expiry_of_text(&text);
        expiry_of_text(&format!("https://h/p?{text}"));
    }

    #[test]
    fn our_envelope_is_json(code in any::<String>(), text in any::<String>()) {
        let value: serde_json::Value = serde_json::from_slice(&envelope(&code, &text)).unwrap();
        prop_assert_eq!(value, serde_json::json!({"resultData": null, "resultCode": code, "resultDesc": text}));
    }
}
