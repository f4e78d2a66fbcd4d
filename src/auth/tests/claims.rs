//! Which claims are parsed, which are rejected before any key is used, and which are verified.

use super::*;

const NOW: &str = "2021-11-24T06:25:03Z";

const SIGNATURE: &str = "460fa4c383750032e121f3b6c3c54e27796c9b61a3250828b3a816bd30b4342c";

fn read(headers: &HeaderMap) -> Result<Claim<'_>, AuthError> {
    Claim::parse(headers, Timestamp::UNIX_EPOCH, None)
}

fn head(authorization: &str) -> HeaderMap {
    let fields = [("host", "h"), ("x-a", "1"), ("x-b", "1"), ("x-b", "1")];
    let mut request = Request::post("/", &fields, b"");
    request.add("authorization", authorization);
    request.headers
}

#[track_caller]
fn refused(authorization: &str, error: &AuthError) {
    assert_eq!(
        read(&head(authorization)).unwrap_err(),
        *error,
        "{authorization}"
    );
}

#[test]
fn a_well_formed_value_is_read_verbatim() {
    for timestamp in ["2021-11-24T06:25:03Z", "2021-11-24T06:25:03.000Z"] {
        let prefix = format!("auth-v2/a.K_-~1/{timestamp}/x-a;host");
        let headers = head(&format!("{prefix}/{SIGNATURE}"));
        let claim = read(&headers).unwrap();
        assert_eq!(claim.access_key(), "a.K_-~1");
        assert_eq!(claim.signed_names(), "x-a;host");
        assert_eq!(claim.prefix(), prefix);
        assert_eq!(claim.signed_at().to_string(), "2021-11-24T06:25:03Z");
        assert!(!format!("{claim:?}").contains(SIGNATURE));
    }
}

#[track_caller]
fn malformed(ak: &str, timestamp: &str, names: &str, signature: &str) {
    let value = format!("auth-v2/{ak}/{timestamp}/{names}/{signature}");
    let error = read(&head(&value)).unwrap_err();
    assert!(matches!(error, AuthError::Malformed(_)), "{value}: {error}");
}

#[test]
fn an_access_key_has_no_slashes_or_blanks_and_a_maximum_length() {
    for ak in ["", "a/b", "a b", "a\tb", &"a".repeat(129)] {
        malformed(ak, NOW, "host", SIGNATURE);
    }
}

#[test]
fn a_timestamp_has_one_of_two_forms() {
    for timestamp in [
        "",
        "2021-11-24T06:25:03",
        "2021-11-24 06:25:03Z",
        "2021-11-24T06:25:03z",
        "2021-11-24T06:25:03.1Z",
        "2021-11-24T06:25:03,123Z",
        "2021-11-24T06:25:03+00:00",
        "+021-11-24T06:25:03Z",
        "2021-02-29T06:25:03Z",
        "2021-11-24T24:00:00Z",
        "2021-11-24T06:25:60Z",
        "2021-00-24T06:25:00Z",
        "9999-12-31T23:59:59Z",
    ] {
        malformed("ak", timestamp, "host", SIGNATURE);
    }
}

#[test]
fn the_names_are_lower_case_without_repeats_and_hold_host() {
    let many: String = (0..64).map(|index| format!("x{index};")).collect();
    for names in [
        "",
        ";",
        "host;",
        ";host",
        "x-a",
        "Host",
        "host;X-a",
        "host;host",
        "host;x-a;x-a",
        "host,x-a",
        "host; x-a",
        &format!("{many}host"),
    ] {
        malformed("ak", NOW, names, SIGNATURE);
    }
}

#[test]
fn a_signature_is_64_lower_case_hex_digits() {
    for signature in [
        "",
        "0",
        &SIGNATURE[1..],
        &SIGNATURE.to_uppercase(),
        &SIGNATURE.replace('4', "g"),
        &format!("{SIGNATURE}0"),
    ] {
        malformed("ak", NOW, "host", signature);
    }
}

#[test]
fn a_value_has_five_parts_and_is_ascii() {
    for value in [
        "auth-v2/",
        "auth-v2//////",
        "auth-v2/ak/host/00",
        &format!("auth-v2/ak/{NOW}/host/extra/{SIGNATURE}"),
        &format!("auth-v2/{}", "/".repeat(9000)),
    ] {
        assert!(
            matches!(read(&head(value)), Err(AuthError::Malformed(_))),
            "{value}"
        );
    }
    let mut headers = head("");
    let latin = HeaderValue::from_bytes(b"auth-v2/\xff").unwrap();
    headers.insert(AUTHORIZATION, latin);
    assert!(matches!(read(&headers), Err(AuthError::Malformed(_))));
}

#[test]
fn exactly_one_value_of_this_scheme_is_read() {
    for other in [
        "",
        "auth-v2",
        "Auth-v2/a/b",
        "auth-v3/a/b",
        "Bearer auth-v2/x",
        "SDK-HMAC-SHA256 Access=ak",
    ] {
        refused(other, &AuthError::OtherScheme);
    }
    let mut headers = head("Bearer x");
    headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer x"));
    assert_eq!(
        read(&headers).unwrap_err(),
        AuthError::RepeatedAuthorization
    );
    headers.remove(AUTHORIZATION);
    assert_eq!(read(&headers).unwrap_err(), AuthError::Missing);
}

#[test]
fn each_signed_header_is_present_exactly_once() {
    for name in ["x-missing", "x-b"] {
        let value = format!("auth-v2/ak/2021-11-24T06:25:03Z/host;{name}/{SIGNATURE}");
        refused(&value, &AuthError::SignedFieldMissing(name.into()));
    }
}

#[test]
fn the_clock_window_holds_both_ways_and_includes_its_ends() {
    let signed_at: Timestamp = "2021-11-24T06:25:03Z".parse().unwrap();
    let headers = head(&format!("auth-v2/ak/2021-11-24T06:25:03Z/host/{SIGNATURE}"));
    let window = Some(SignedDuration::from_mins(15));
    let read_at = |seconds| {
        let now = signed_at + SignedDuration::from_secs(seconds);
        Claim::parse(&headers, now, window).err()
    };
    assert_eq!(read_at(0), None);
    assert_eq!(read_at(900), None);
    assert_eq!(read_at(-900), None);
    assert_eq!(read_at(901), Some(AuthError::Stale(-901)));
    assert_eq!(read_at(-901), Some(AuthError::Stale(901)));

    let headers = head(&format!(
        "auth-v2/ak/2021-11-24T06:25:03.001Z/host/{SIGNATURE}"
    ));
    let now = signed_at - SignedDuration::from_secs(900);
    assert_eq!(
        Claim::parse(&headers, now, window).unwrap_err(),
        AuthError::Stale(900)
    );
}

fn request() -> Request {
    let fields = [("host", "h:1"), ("x-trace", "z"), ("x-trace-id", "a")];
    Request::post("/p", &fields, br#"{"a":1}"#)
}

fn signed(credential: &Credential) -> Request {
    let at = "2021-11-24T06:25:03Z".parse().unwrap();
    request().signed(credential, "x-trace;host;x-trace-id", at)
}

#[test]
fn either_secret_of_two_verifies_and_no_third() {
    let both = credential("ak", &["old", "new"]);
    for secret in ["old", "new"] {
        let request = signed(&credential("ak", &[secret]));
        let caller = request.verify(Some(&both)).unwrap();
        assert!(Arc::ptr_eq(caller.credential(), &both));
    }
    let error = signed(&credential("ak", &["third"])).verify(Some(&both));
    assert_eq!(error.unwrap_err(), AuthError::WrongSignature);
}

#[test]
fn a_rotated_secret_is_forgotten_at_once() {
    let old = credential("ak", &["old"]);
    let request = signed(&old);
    request.verify(Some(&old)).unwrap();
    let error = request.verify(Some(&credential("ak", &["new"])));
    assert_eq!(error.unwrap_err(), AuthError::WrongSignature);
}

#[test]
fn nothing_verifies_without_an_enabled_credential_of_that_access_key() {
    let own = credential("ak", &["sk"]);
    let request = signed(&own);
    assert_eq!(request.verify(None).unwrap_err(), AuthError::UnknownKey);

    let disabled = Credential::new("ak".into(), own.secrets().to_vec(), false);
    let error = request.verify(Some(&Arc::new(disabled))).unwrap_err();
    assert_eq!(error, AuthError::Disabled);

    let other = Credential::new("other".into(), own.secrets().to_vec(), true);
    let error = request.verify(Some(&Arc::new(other))).unwrap_err();
    assert_eq!(error, AuthError::UnknownKey);

    let error = request.verify(Some(&credential("ak", &[]))).unwrap_err();
    assert_eq!(error, AuthError::WrongSignature);
}

#[test]
fn a_signature_with_the_dummy_secret_does_not_verify() {
    let dummy = credential("ak", &["--------------------------------"]);
    let request = signed(&dummy);
    request.verify(Some(&dummy)).unwrap();
    assert!(request.verify(None).is_err());
    assert!(request.verify(Some(&credential("ak", &["sk"]))).is_err());
    assert!(request.verify(Some(&credential("ak", &[]))).is_err());
}

#[test]
fn surrounding_whitespace_is_not_part_of_a_value() {
    let own = credential("ak", &["sk"]);
    let mut request = signed(&own);
    request
        .headers
        .insert("host", HeaderValue::from_static(" \th:1 "));
    request.verify(Some(&own)).unwrap();
}

#[test]
fn queries_are_decoded_sorted_and_encoded_again() {
    let canonical = |query: &str| {
        let mut request = request();
        request.query = Some(query.into());
        CanonicalRequest::new("host", &request.signable()).map(|canonical| canonical.to_string())
    };
    let line = |query: &str| canonical(query).unwrap().lines().nth(2).unwrap().to_owned();
    assert_eq!(line("b=2&a=1"), "a=1&b=2");
    assert_eq!(line("a=9&a-b=1"), "a-b=1&a=9");
    assert_eq!(line("a=+%20%2b%41/"), "a=%2B%20%2BA%2F");
    assert_eq!(line("a&b=&=c"), "=c&a=&b=");
    assert_eq!(line("a=b=c&&"), "a=b%3Dc");
    assert_eq!(line("k=%ff\u{e9}"), "k=%FF%C3%A9");
    for none in ["", "&", "&&"] {
        assert_eq!(line(none), "host", "no parameters, no line");
    }
    for repeated in ["a=1&a=2", "a=1&a=1", "a&b&a=", "a=1&%61=2", "a=1&a-b=1&a=2"] {
        assert_eq!(
            canonical(repeated).unwrap_err(),
            AuthError::RepeatedQueryKey,
            "{repeated}"
        );
    }
    for broken in ["a=%", "a=%4", "%zz", "a=%+1", "a=%é"] {
        assert!(
            matches!(canonical(broken), Err(AuthError::Malformed(_))),
            "{broken}"
        );
    }
}

#[test]
fn many_headers_are_sorted_by_their_lines() {
    let mut request = request();
    let mut names = "host;x-trace;x-trace-id".to_owned();
    for index in (0..20).rev() {
        request.add(&format!("x-{index}"), "v");
        names.push_str(&format!(";x-{index}"));
    }
    let canonical = CanonicalRequest::new(&names, &request.signable()).unwrap();
    let text = canonical.to_string();
    let lines: Vec<&str> = text.lines().skip(3).take(23).collect();
    assert!(lines.is_sorted(), "{lines:?}");
    assert!(!format!("{canonical:?}").contains("x-"));
    let own = credential("ak", &["sk"]);
    request
        .signed(&own, &names, Timestamp::UNIX_EPOCH)
        .verify(Some(&own))
        .unwrap();
}

#[test]
fn nothing_is_signed_that_would_not_be_parsed() {
    let at = Timestamp::UNIX_EPOCH;
    let request = request();
    let own = credential("ak", &["sk"]);
    for names in ["", "x-trace", "Host", "host;host"] {
        let error = sign(&own, names, at, &request.signable()).unwrap_err();
        assert!(matches!(error, AuthError::Malformed(_)), "{names}");
    }
    let error = sign(&own, "host;x-missing", at, &request.signable()).unwrap_err();
    assert_eq!(error, AuthError::SignedFieldMissing("x-missing".into()));
    let long = format!("host;x-{}", "a".repeat(4096));
    let mut with_long = self::request();
    with_long.add(long.strip_prefix("host;").unwrap(), "1");
    for (names, at) in [
        ("host", "-000001-12-31T23:59:59Z"),
        ("host", "-009999-01-02T01:59:59Z"),
        (&long, "2021-11-24T06:25:03Z"),
    ] {
        let at: Timestamp = at.parse().unwrap();
        let error = sign(&own, names, at, &with_long.signable()).unwrap_err();
        assert!(matches!(error, AuthError::Malformed(_)), "{at} {names}");
    }
    for at in ["0000-01-01T00:00:00Z", "9999-12-30T22:00:00Z"] {
        let at: Timestamp = at.parse().unwrap();
        let signed = self::request().signed(&own, "host", at);
        let claim = Claim::parse(&signed.headers, at, None).unwrap();
        assert_eq!(claim.signed_at(), at);
    }
    let slash = credential("a/k", &["sk"]);
    assert!(sign(&slash, "host", at, &request.signable()).is_err());
    let none = credential("ak", &[]);
    assert_eq!(
        sign(&none, "host", at, &request.signable()).unwrap_err(),
        AuthError::Disabled
    );
}

#[test]
fn an_access_key_in_any_part_of_a_value_is_found() {
    let mentioned =
        |value: &str| mentions_access_key(value.as_bytes(), |part| part == "ak" || part == "a,k=");
    for value in [
        "ak",
        "auth-v2/ak/x",
        "AUTH-V2/ak/x",
        "Bearer ak",
        "Bearer\tak",
        "SDK-HMAC-SHA256 Access=ak, SignedHeaders=host",
        "Digest username=\"ak\",realm=\"r\"",
        "x,ak",
        "auth-v3/a,k=/x",
    ] {
        assert!(mentioned(value), "{value}");
    }
    for value in ["", "Bearer akk", "xak", "a/k", "AK", "//==,,"] {
        assert!(!mentioned(value), "{value}");
    }
    assert!(mentions_access_key(b"\xff\xfe/ak", |part| part == "ak"));
}

#[test]
fn secrets_are_never_displayed() {
    let own = credential("ak", &["very-secret"]);
    assert!(!format!("{own:?}").contains("very-secret"));
    assert_eq!(own.secrets()[0], Secret::new(b"very-secret".to_vec()));
    assert_ne!(own.secrets()[0], Secret::new(b"other".to_vec()));
}
