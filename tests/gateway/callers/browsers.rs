//! What a browser may do with a certificate that it presents unasked.

use http::HeaderName;
use http::header::{CONTENT_TYPE, ORIGIN};

use super::{Authority, Site, caller};
use crate::assertions::{assert_gateway_error, assert_node_response};
use crate::page;
use crate::support::{SHANGHAI, signed};

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[tokio::test]
async fn a_page_of_another_site_gets_nothing_by_a_certificate() {
    let authority = Authority::new("clients");
    let tables = caller("qa", "client_certificate = [\"CN=qa\"]")
        + "[limits]\nper_address = { per_hour = 1, burst = 1 }\n";
    let env = Site::new(&authority, &tables).start().await;
    let client = env.client_of(&authority.issue(&["CN=qa"]));
    let policy = "cross-origin-resource-policy";
    for _ in 0..3 {
        for request in [
            env.recording("1-1").with_header(SITE, "cross-site"),
            env.recording("1-1").with_header(SITE, "same-site"),
            env.recording("1-1")
                .with_header(ORIGIN, "https://evil.example"),
            env.recording("1-1").with_header(ORIGIN, "null"),
            env.recording("1-1")
                .with_header(SITE, "cross-site")
                .with_header(CONTENT_TYPE, "text/plain"),
        ] {
            let response = client.send(&request).await.unwrap();
            assert_gateway_error(&response, 403, "forbidden", "GW403");
            assert_eq!(response.header(policy), Some("same-origin"));
            assert_eq!(response.header("access-control-allow-origin"), None);
        }
    }
    // Nothing was charged.
    let counted =
        "ratelimit_decisions_total{limiter=\"address\",decision=\"allowed\",source=\"local\"}";
    assert_eq!(page::metric(env.bound.admin.unwrap(), counted).await, 0.0);
    let mut form = env.recording("1-1");
    form.headers.remove(CONTENT_TYPE);
    for form in [
        form,
        env.recording("1-1").with_header(CONTENT_TYPE, "text/plain"),
    ] {
        let response = client.send(&form).await.unwrap();
        assert_gateway_error(&response, 415, "unsupported-media-type", "GW415");
    }
    let own = env.recording("1-1").with_header(SITE, "same-origin");
    let response = client.send(&own).await.unwrap();
    assert_node_response(&response, "0");
    assert_eq!(response.header(policy), Some("same-origin"));
    // These rules are for certificates alone.
    let request = signed(env.recording("1-1"), SHANGHAI).with_header(SITE, "cross-site");
    let response = client.send(&request).await.unwrap();
    assert_node_response(&response, "0");
    assert_eq!(response.header(policy), None);
}
