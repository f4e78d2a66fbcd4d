//! One function for each parser of a stranger's bytes: it must not panic, and what it says must hold
//! together. cargo-fuzz calls them with invented bytes, `tests/gateway/fuzz.rs` with the corpus.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ccfs_gateway::auth::{AccessKey, Claim, Credential, Secret, Signable};
use ccfs_gateway::ccfs::presigned_url;
use ccfs_gateway::ccfs::{ENDPOINTS, Endpoint, ParsedResponse, Tenant, Versionless};
use ccfs_gateway::config::Config;
use ccfs_gateway::listener::{HeadLimits, fuzzing};
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Lines of `name: value`, an empty line, then path, query and body, each on its line. Nobody who
/// does not know the secret is believed.
pub(crate) fn authorization(data: &[u8]) {
    let mut lines = data.split(|&byte| byte == b'\n');
    let mut headers = HeaderMap::new();
    for line in lines.by_ref().take_while(|line| !line.is_empty()).take(64) {
        let colon = line.iter().position(|&byte| byte == b':');
        let (name, value) = line.split_at(colon.unwrap_or(line.len()));
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    let mut text = || {
        lines
            .next()
            .map(String::from_utf8_lossy)
            .unwrap_or_default()
    };
    let (path, query) = (text(), text());
    let body: Vec<u8> = lines.flatten().copied().collect();
    let now = Timestamp::UNIX_EPOCH;
    let Ok(claim) = Claim::parse(&headers, now, None) else {
        return;
    };
    let request = Signable {
        method: "POST",
        path: &path,
        query: Some(&query),
        headers: &headers,
        body: &body,
    };
    let access_key = AccessKey::from(claim.access_key());
    let secret = Secret::new(b"nobody knows this one".to_vec());
    let known = Arc::new(Credential::new(access_key, vec![secret], true));
    assert!(claim.verify(Some(&known), &request).is_err());
    assert!(claim.verify(None, &request).is_err());
}

/// The bytes of one connection. Wherever they are cut, the verdict is the same; what is passed on
/// stands in the input, and a head that is not whole is not among it.
pub(crate) fn request_head(data: &[u8]) {
    let limits = HeadLimits {
        size: 4096,
        fields: 20,
    };
    let whole = fuzzing::scan_requests(data, usize::MAX, limits);
    assert!(data.starts_with(&whole.forwarded));
    assert_eq!(whole.heads > 0, !whole.forwarded.is_empty());
    for piece in [1, 7] {
        assert_eq!(fuzzing::scan_requests(data, piece, limits), whole);
    }
    let again = fuzzing::scan_requests(&whole.forwarded, usize::MAX, limits);
    assert_eq!((again.heads, again.error), (whole.heads, None));
}

/// Interface, zone and rule for requests without version, then a body. What was normalized is legal,
/// and normalizing it once more changes nothing.
pub(crate) fn body(data: &[u8]) {
    let [interface, tenant, body @ ..] = data else {
        return;
    };
    let endpoint: &Endpoint = &ENDPOINTS[usize::from(*interface) % ENDPOINTS.len()];
    let zones = [
        "Asia/Shanghai",
        "Europe/Berlin",
        "America/New_York",
        "Pacific/Apia",
    ];
    let tenant = Tenant {
        zone: TimeZone::get(zones[usize::from(*tenant & 3)]).expect("a zone of the bundle"),
        versionless: [
            None,
            Some(Versionless::Local),
            Some(Versionless::Utc),
            Some(Versionless::Reject),
        ][usize::from(*tenant >> 2 & 3)],
    };
    let body = Bytes::copy_from_slice(body);
    let Ok(once) = endpoint.normalize(&body, &tenant) else {
        return;
    };
    assert!(once.is_changed() || *once.outgoing() == body);
    match endpoint.normalize(once.outgoing(), &tenant) {
        Ok(twice) => {
            assert!(!twice.is_changed());
            assert_eq!(once.outgoing(), twice.outgoing());
            assert_eq!(once.cache_key(), twice.cache_key());
            assert_eq!(once.call_id(), twice.call_id());
        }
        Err(invalid) => panic!("normalized to what is refused: {invalid:?}"),
    }
}

/// A URL. What is behind its fragment does not count.
pub(crate) fn presigned_url(data: &[u8]) {
    let Ok(url) = std::str::from_utf8(data) else {
        return;
    };
    let expiry = presigned_url::expires_at(url);
    if !url.contains('#') {
        assert_eq!(
            presigned_url::expires_at(&format!("{url}#Expires=1")),
            expiry
        );
    }
    if expiry.is_some() {
        assert!(url.contains('?'));
    }
}

/// A node's answer. It is read if it is one JSON object, in the eyes of another parser too.
pub(crate) fn node_answer(data: &[u8]) {
    let read = ParsedResponse::parse(data);
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let object = data.iter().find(|byte| !blank(byte)) == Some(&b'{')
        && std::str::from_utf8(data)
            .is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
    let depth = data
        .iter()
        .filter(|&byte| matches!(byte, b'{' | b'['))
        .count();
    assert!(read.is_none() || object, "read what is no object");
    assert!(
        read.is_some() || !object || depth > 128,
        "did not read an object"
    );
    if read.is_some_and(|json| json.expires_at.is_some()) {
        assert!(data.windows(3).any(|bytes| bytes == b"://"));
    }
}

/// A PROXY header and what follows it. It ends where it says, whatever follows.
pub(crate) fn proxy_header(data: &[u8]) {
    let Some((address, length)) = fuzzing::parse_proxy_header(data) else {
        return;
    };
    let header = &data[..length];
    assert_eq!(fuzzing::parse_proxy_header(header), Some((address, length)));
    assert_eq!(fuzzing::parse_proxy_header(&header[..length - 1]), None);
}

/// A configuration, into which two secrets are planted. Whatever else is wrong, they are not shown.
pub(crate) fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // Files that never end are the operator's to avoid.
    if text.contains("/dev/") || text.contains("/proc/") {
        return;
    }
    let path = Path::new("/nowhere/gateway.toml");
    let _ = show(text, path);
    for planted in [
        "\n[access_keys.planted]\nsecret_key = \"PLANTED\"\n",
        "\n[clusters.planted]\nnodes = [\"https://user:PLANTED@10.0.0.1\"]\n",
    ] {
        for text in [format!("{text}{planted}"), format!("{planted}{text}")] {
            let shown = show(&text, path);
            assert!(!shown.contains("PLANTED"), "a secret is shown:\n{shown}");
        }
    }
}

/// All that anybody gets to see of a configuration.
fn show(text: &str, path: &Path) -> String {
    match Config::parse(text, path) {
        Ok((config, warnings)) => {
            let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
            format!("{config:?}\n{}\n{}", config.redacted(), warnings.join("\n"))
        }
        Err(diagnosis) => format!("{diagnosis:?}\n{diagnosis}"),
    }
}
