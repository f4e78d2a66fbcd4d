//! The two tables of the product's section on the recording-URL request, row by row.

use super::*;

const SHANGHAI: &str = "Asia/Shanghai";
const NEW_YORK: &str = "America/New_York";

fn normalize(body: &str, tenant: &Tenant) -> Result<Payload, InvalidRequest> {
    let raw = Bytes::copy_from_slice(body.as_bytes());
    let payload = endpoint("getRecordFileUrlFromObs").normalize(&raw, tenant)?;
    assert_eq!(payload.is_changed(), outgoing(&payload) != body);
    if !payload.is_changed() {
        assert_eq!(
            payload.outgoing().as_ptr(),
            raw.as_ptr(),
            "not the same bytes"
        );
    }
    Ok(payload)
}

fn body(begin: &str, end: &str, version: &str) -> String {
    format!(r#"{{"callId":"1637742300-1","beginTime":"{begin}","endTime":"{end}"{version}}}"#)
}

const TWO: &str = r#","version":"2.0""#;

/// Times and version as they go out.
fn sent(body: &str, tenant: &Tenant) -> Result<(String, String), &'static str> {
    let payload = normalize(body, tenant).map_err(|invalid| invalid.code)?;
    let value: Value = serde_json::from_slice(payload.outgoing()).unwrap();
    assert_eq!(value["version"], "2.0");
    assert_eq!(value["callId"], "1637742300-1");
    let text = |name: &str| value[name].as_str().unwrap().to_owned();
    Ok((text("beginTime"), text("endTime")))
}

#[test]
fn the_decision_table() {
    use Versionless::{Local, Reject, Utc};
    let plain = ("2022-01-02 02:00:00", "2022-01-02 03:00:00");
    let shanghai = Ok(("2022-01-02 10:00:00", "2022-01-02 11:00:00"));
    let converted = ("2022-01-01 21:00:00", "2022-01-01 22:00:00");
    let new_york = Ok(converted);
    let kept = Ok(plain);
    let refused = Err("0300006");
    for (zone, version, versionless, expected) in [
        (SHANGHAI, TWO, None, kept),
        (SHANGHAI, TWO, Some(Reject), kept),
        (SHANGHAI, TWO, Some(Utc), kept),
        (NEW_YORK, TWO, None, kept),
        (SHANGHAI, "", None, shanghai),
        ("GMT+8", "", None, shanghai),
        (NEW_YORK, "", None, refused),
        (NEW_YORK, "", Some(Utc), new_york),
        (SHANGHAI, "", Some(Utc), shanghai),
        (SHANGHAI, "", Some(Local), kept),
        (NEW_YORK, "", Some(Local), kept),
        (SHANGHAI, "", Some(Reject), refused),
        (NEW_YORK, "", Some(Reject), refused),
    ] {
        let body = body(plain.0, plain.1, version);
        let sent = sent(&body, &tenant(zone, versionless));
        let expected = expected.map(|(begin, end)| (begin.to_owned(), end.to_owned()));
        assert_eq!(sent, expected, "{zone} {version} {versionless:?}");
    }
    for versionless in [None, Some(Local), Some(Reject), Some(Utc)] {
        for version in ["", TWO] {
            let body = body("2022-01-02T10:00:00+08:00", "2022-01-02T03:00:00Z", version);
            let tenant = tenant(NEW_YORK, versionless);
            assert_eq!(
                sent(&body, &tenant),
                Ok((converted.0.into(), converted.1.into()))
            );
        }
    }
}

#[test]
fn mixed_forms_follow_each_its_own_row() {
    use Versionless::{Local, Reject, Utc};
    let with_offset = "2022-01-02T10:00:00+08:00";
    let mixed = |version: &str, versionless| {
        sent(
            &body(with_offset, "2022-01-02 11:00:00", version),
            &tenant(SHANGHAI, versionless),
        )
        .map(|(begin, end)| format!("{begin} {end}"))
    };
    let local = Ok("2022-01-02 10:00:00 2022-01-02 11:00:00".to_owned());
    let utc = Ok("2022-01-02 10:00:00 2022-01-02 19:00:00".to_owned());
    assert_eq!(mixed(TWO, None), local);
    assert_eq!(mixed("", None), utc);
    assert_eq!(mixed("", Some(Utc)), utc);
    assert_eq!(mixed("", Some(Local)), local);
    assert_eq!(mixed("", Some(Reject)), Err("0300006"));
}

#[test]
fn summers_of_shanghai_have_no_default() {
    let old = body("1988-07-01 00:00:00", "1988-07-01 01:00:00", "");
    let refused = normalize(&old, &tenant(SHANGHAI, None)).unwrap_err();
    assert_eq!(refused.code, "0300006");
    assert!(
        refused.text.contains("mandatory outside GMT+8"),
        "{}",
        refused.text
    );
    let normalized = sent(&old, &tenant(SHANGHAI, Some(Versionless::Utc)));
    assert_eq!(
        normalized,
        Ok(("1988-07-01 09:00:00".into(), "1988-07-01 10:00:00".into()))
    );
}

/// Most bodies also have faults of rows below their own.
#[test]
fn the_validation_table() {
    let faults = include_str!("../../../../tests/vectors/recording-url-faults.json");
    for fault in serde_json::from_str::<Vec<Value>>(faults).unwrap() {
        let body = fault["body"].as_str().unwrap();
        let invalid = normalize(body, &tenant(SHANGHAI, None)).expect_err(body);
        assert_eq!(fault["code"], invalid.code, "{body}: {invalid}");
        assert_eq!(fault["reason"], invalid.reason, "{body}: {invalid}");
        assert!(
            invalid.text.contains(fault["text"].as_str().unwrap()),
            "{body}: {invalid}"
        );
    }
    let not_utf8 = Bytes::from_static(b"{\"callId\":\"\xff\"}");
    let refused = endpoint("getRecordFileUrlFromObs").normalize(&not_utf8, &tenant(SHANGHAI, None));
    assert_eq!(refused.unwrap_err().code, "0300007");
}

#[test]
fn what_is_just_legal() {
    let utc = tenant("UTC", None);
    let characters = "\u{1f600}".repeat(25);
    for body in [
        body("2022-01-02 10:00:00", "2022-01-02 10:00:00", TWO),
        body("2022-01-02 10:00:00", "2022-01-05 10:00:00", TWO),
        body(
            "2022-01-02 10:00:00",
            "2022-01-02 10:00:00",
            r#","version":"\u0032.0""#,
        ),
        format!(
            r#"{{"callId":"{characters}","beginTime":"2024-03-10 02:30:00","endTime":"2024-03-10 02:30:00","version":"2.0"}}"#
        ),
        format!(
            r#"{{"x":{}{},"call\u0049d":" ","beginTime":"0001-01-01 00:00:00","endTime":"0001-01-01 00:00:00","version":"2.0"}}"#,
            "[".repeat(31),
            "]".repeat(31)
        ),
    ] {
        let payload = normalize(&body, &utc).expect(&body);
        assert!(!payload.is_changed());
    }
}

#[test]
fn the_hour_that_autumn_repeats_is_explained() {
    let new_york = tenant(NEW_YORK, Some(Versionless::Utc));
    let refused = normalize(
        &body("2024-11-03 05:50:00", "2024-11-03 06:10:00", ""),
        &new_york,
    )
    .unwrap_err();
    assert_eq!((refused.code, refused.reason), ("0300013", "order"));
    for part in [
        "2024-11-03 05:50:00",
        "2024-11-03 01:50:00",
        "2024-11-03 01:10:00",
        "autumn",
    ] {
        assert!(refused.text.contains(part), "{}", refused.text);
    }
}

#[test]
fn a_text_shows_the_value_short_and_harmless() {
    let shanghai = tenant(SHANGHAI, None);
    let text = |call_id: &str| {
        let refused = normalize(
            &format!(r#"{{"callId":"{call_id}","beginTime":"x","endTime":"x"}}"#),
            &shanghai,
        );
        refused.unwrap_err().text
    };
    let shown = text(
        "a\\u0000\\r\\n\\u001b[31m\\u009b\\u202e\\\"\u{4e2d}____________________________________________",
    );
    assert!(
        shown.starts_with("callId is longer than 25 characters: \"a\\u0000\\r\\n\\u001b[31m"),
        "{shown}"
    );
    assert!(!shown.chars().any(char::is_control), "{shown}");
    assert!(
        !shown.contains('\u{202e}') && shown.contains('\u{4e2d}'),
        "{shown}"
    );
    assert!(
        shown.ends_with("\"…") && shown.chars().count() < 120,
        "{shown}"
    );
    let nested = format!(
        r#"{{"callId":[{}],"beginTime":"x","endTime":"x"}}"#,
        "1,".repeat(5_000) + "1"
    );
    let refused = normalize(&nested, &shanghai).unwrap_err();
    assert!(
        refused.code == "0300004" && refused.text.len() < 120,
        "{refused}"
    );
}

#[test]
fn only_what_must_change_changes() {
    let tenant = tenant(SHANGHAI, None);
    let body = " {\"x\" : [1.00, \"\\/\\u0041\"],\n\"endTime\" :\"2022-01-02 03:00:00\" , \"callId\":\"\\u0031\", \"beginT\\u0069me\":\"2022-01-02\\u002002:00:00\",\"z\":1e3\n} ";
    let expected = " {\"x\" : [1.00, \"\\/\\u0041\"],\n\"endTime\" :\"2022-01-02 11:00:00\" , \"callId\":\"\\u0031\", \"beginT\\u0069me\":\"2022-01-02 10:00:00\",\"z\":1e3,\"version\":\"2.0\"\n} ";
    let payload = normalize(body, &tenant).unwrap();
    assert_eq!(outgoing(&payload), expected);
    assert_eq!(payload.call_id(), Some("1"));
    assert_eq!(
        payload.cache_key().unwrap(),
        r#"{"beginTime":"2022-01-02 10:00:00","callId":"1","endTime":"2022-01-02 11:00:00","version":"2.0","x":[1.00,"/A"],"z":1e3}"#,
    );
}

#[test]
fn spellings_of_one_request_share_a_key() {
    let tenant = tenant(SHANGHAI, None);
    let key = |body: &str| {
        normalize(body, &tenant)
            .expect(body)
            .cache_key()
            .cloned()
            .unwrap()
    };
    let first = key(&body("2022-01-02 10:00:00", "2022-01-02 11:00:00", TWO));
    for other in [
        body("2022-01-02 02:00:00", "2022-01-02 03:00:00", ""),
        body("2022-01-02T02:00:00Z", "2022-01-02T11:00:00+08:00", ""),
        body("2022-01-02T02:00:00Z", "2022-01-02 11:00:00", TWO),
        body("2022-01-02 10:00:00", "2022-01-02 11:00:00", r#" , "\u0076ersion" : "\u0032.0" "#),
        r#"{"version":"2.0","endTime":"2022-01-02 11:00:00","beginTime":"2022-01-02 10:00:00","callId":"1637742300-1"}"#.to_owned(),
    ] {
        assert_eq!(key(&other), first, "{other}");
    }
    for other in [
        body("2022-01-02 10:00:00", "2022-01-02 11:00:01", TWO),
        body(
            "2022-01-02 10:00:00",
            "2022-01-02 11:00:00",
            r#","version":"2.0","a":null"#,
        ),
        body("2022-01-02 10:00:00", "2022-01-02 11:00:00", TWO).replace("-1\"", "-2\""),
    ] {
        assert_ne!(key(&other), first, "{other}");
    }
}

/// Times near a change of the clocks in New York, and anywhere.
fn time() -> impl Strategy<Value = String> {
    let hours = prop_oneof![473_344..473_500_i64, 479_050..479_210_i64];
    let seconds = prop_oneof![
        hours.prop_map(|hour| hour * 3600),
        1_700_000_000..1_735_000_000_i64
    ];
    (seconds, 0..3_u8).prop_map(|(seconds, form)| {
        let time = jiff::Timestamp::from_second(seconds).unwrap();
        match form {
            0 => time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            1 => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            _ => {
                let zone = parse_zone("GMT-9:30").unwrap();
                time.to_zoned(zone)
                    .strftime("%Y-%m-%dT%H:%M:%S%:z")
                    .to_string()
            }
        }
    })
}

proptest! {
    #[test]
    fn normalizing_twice_is_normalizing_once(
        begin in time(),
        end in time(),
        version in prop::sample::select(vec!["", TWO]),
        zone in prop::sample::select(vec![SHANGHAI, NEW_YORK, "Australia/Lord_Howe", "UTC"]),
        versionless in prop::sample::select(vec![None, Some(Versionless::Local), Some(Versionless::Utc)]),
    ) {
        let tenant = tenant(zone, versionless);
        // Mostly a window that is legal as far as order and span go.
        let end = if begin.len() == end.len() && end > begin { end } else { begin.clone() };
        if let Ok(once) = normalize(&body(&begin, &end, version), &tenant) {
            let twice = normalize(outgoing(&once), &tenant).unwrap();
            prop_assert!(!twice.is_changed());
            prop_assert_eq!(twice.cache_key(), once.cache_key());
            prop_assert_eq!(twice.call_id(), once.call_id());
            let canonical = normalize(str::from_utf8(once.cache_key().unwrap()).unwrap(), &tenant).unwrap();
            prop_assert_eq!(canonical.outgoing(), once.cache_key().unwrap());
        }
    }

    #[test]
    fn unknown_members_survive(name in "[a-z\"\\\\\n\u{e4}]{1,6}x", value in any::<String>(), number in any::<f64>()) {
        let tenant = tenant(SHANGHAI, None);
        let unknown = json!({name: [value, number]}).to_string();
        let unknown = unknown.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
        let plain = body("2022-01-02 02:00:00", "2022-01-02 03:00:00", &format!(",{unknown}"));
        let payload = normalize(&plain, &tenant).unwrap();
        prop_assert!(outgoing(&payload).contains(unknown));
        let without = normalize(&body("2022-01-02 02:00:00", "2022-01-02 03:00:00", ""), &tenant).unwrap();
        prop_assert_ne!(payload.cache_key(), without.cache_key());
        let sent: Value = serde_json::from_slice(payload.outgoing()).unwrap();
        let key: Value = serde_json::from_slice(payload.cache_key().unwrap()).unwrap();
        prop_assert_eq!(sent, key);
    }

    #[test]
    fn never_panics(body in any::<Vec<u8>>(), begin in any::<String>(), version in any::<String>()) {
        let tenant = tenant(NEW_YORK, None);
        let row = endpoint("getRecordFileUrlFromObs");
        let object = json!({"callId": "1", "beginTime": begin, "endTime": begin, "version": version});
        for body in [body, object.to_string().into_bytes()] {
            let _ = row.normalize(&Bytes::from(body), &tenant);
        }
    }
}
