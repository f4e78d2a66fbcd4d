//! The reasons that are shown for a node that fails.

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpListener;

use super::test_server::{
    Behavior, TestServer, json_response, node_certificate, settings, unused_address,
};
use super::*;
use crate::cluster::{ClusterSettings, HealthCheck};
use crate::tls::{Authorities, ServerTrust};

/// Sends one request to the only node of the settings; returns the failure shown for it.
async fn failure_shown(settings: ClusterSettings) -> (&'static str, String) {
    let cluster = Cluster::new(settings);
    let _ = TestUpstream::new()
        .send_buffered(&request_to(QUERY, &cluster))
        .await;
    last_failure(&cluster)
}

fn last_failure(cluster: &Cluster) -> (&'static str, String) {
    let node = cluster.node_statuses(Instant::now().into_std()).remove(0);
    let class = node.last_failure.map_or("", FailureKind::as_str);
    (
        class,
        node.last_failure_reason
            .as_deref()
            .unwrap_or_default()
            .into(),
    )
}

#[tokio::test]
async fn a_failed_connection_has_its_reason() {
    let refused = failure_shown(settings(&[unused_address().await])).await;
    assert_eq!(refused, ("unreachable", "connection refused".to_owned()));

    // No task accepts the connection.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut hung = settings(&[silent.local_addr().unwrap()]);
    hung.timeouts.connect = Duration::from_millis(100);
    let hung = failure_shown(hung).await;
    assert_eq!(
        hung,
        ("unreachable", "no TLS handshake in 100ms".to_owned())
    );
}

#[tokio::test]
async fn an_untrusted_certificate_has_its_reason() {
    let node = TestServer::responding(test_server::ok_response()).await;
    let mut misnamed = settings(&[node.address]);
    misnamed.server_name = Some("other.test".try_into().unwrap());
    misnamed.tls = trusting(node_certificate());
    let (class, cause) = failure_shown(misnamed).await;
    assert_eq!(class, "unreachable");
    let expected = "certificate not trusted: it is for node.test, not for other.test; presented: ";
    assert!(cause.starts_with(expected), "{cause}");

    let mut untrusted = settings(&[node.address]);
    let other = rcgen::generate_simple_self_signed(["node.test".to_owned()]).unwrap();
    untrusted.tls = trusting(other.cert.der().clone());
    let (class, cause) = failure_shown(untrusted).await;
    assert_eq!(class, "unreachable");
    let expected = "certificate not trusted: signed by no authority in ca, though one has the name of its issuer; ";
    assert!(cause.starts_with(expected), "{cause}");
    assert!(cause.contains("pins = [\"sha256/"), "{cause}");
}

/// Trusts one certificate, as `ca` does.
fn trusting(certificate: CertificateDer<'static>) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let authorities = Authorities::new(vec![certificate]).unwrap();
    let trust = ServerTrust::new(Some(authorities), Vec::new(), provider.clone());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(trust))
        .with_no_client_auth();
    Arc::new(client)
}

#[tokio::test]
async fn an_invalid_response_has_its_reason() {
    let bad_http = b"HTTP/9 no\r\n\r\n".to_vec();
    for (behavior, class, cause) in [
        (
            Behavior::Respond(json_response("503 Unavailable", "x")),
            "server_error",
            "status 503",
        ),
        (
            Behavior::RespondAndClose(Vec::new()),
            "broken",
            "connection closed before the response",
        ),
        (Behavior::Respond(bad_http), "garbage", "bad HTTP: "),
        (
            Behavior::Respond(json_response("200 OK", "<html>")),
            "garbage",
            "the response was no JSON object",
        ),
    ] {
        let node = TestServer::start(move |_| behavior.clone()).await;
        let shown = failure_shown(settings(&[node.address])).await;
        assert_eq!(shown.0, class, "{shown:?}");
        assert!(shown.1.starts_with(cause), "{shown:?}");
    }
}

#[tokio::test]
async fn a_failed_health_check_has_its_reason() {
    let node = TestServer::responding(json_response("500 Oops", "")).await;
    let mut settings = settings(&[node.address]);
    settings.health_check = Some(HealthCheck {
        interval: Duration::from_millis(10),
        timeout: Duration::from_secs(2),
        path: "/".into(),
        unhealthy_after: 1,
        healthy_after: 1,
        signed: None,
    });
    let cluster = Cluster::new(settings);
    let expected = ("server_error", "health check: status 500".to_owned());
    tokio::select! {
        () = eventually("the reason is shown", || last_failure(&cluster) == expected) => {}
        () = watch_cluster(cluster.clone(), None) => panic!("it never ends"),
    }
}

#[tokio::test]
async fn a_reason_is_logged_once() {
    let cluster = Cluster::new(settings(&[unused_address().await]));
    let node = cluster.nodes().remove(0);
    let now = Instant::now().into_std();
    let should_log = |reason: &str, seconds: u64| {
        node.record_failure_reason(reason, now + Duration::from_secs(seconds))
    };
    assert!(should_log("refused", 0));
    assert!(!should_log("refused", 60));
    assert!(should_log("status 503", 60));
    assert!(!should_log("refused", 61), "alternating reasons");
    assert!(should_log("refused", 90));
}
