//! What is told of a node that fails.

use tokio::net::TcpListener;

use super::toy::{Act, Toy, json, nobody, settings};
use super::*;
use crate::cluster::{HealthCheck, Settings};

/// Asks the one node of the settings once; what is told of it then.
async fn told(settings: Settings) -> (&'static str, String) {
    let cluster = Cluster::new(settings);
    let _ = Sender::new().whole(&delivery(QUERY, &cluster)).await;
    shown(&cluster)
}

fn shown(cluster: &Cluster) -> (&'static str, String) {
    let node = cluster.nodes(Instant::now().into_std()).remove(0);
    let class = node.last_error.map_or("", Fault::as_str);
    (class, node.last_cause.as_deref().unwrap_or_default().into())
}

#[tokio::test]
async fn no_connection_has_its_cause() {
    let refused = told(settings(&[nobody().await])).await;
    assert_eq!(refused, ("unreachable", "connection refused".to_owned()));

    // Nobody takes the connection out of the queue.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut hung = settings(&[silent.local_addr().unwrap()]);
    hung.timeouts.connect = Duration::from_millis(100);
    let hung = told(hung).await;
    assert_eq!(
        hung,
        ("unreachable", "no TLS handshake in 100ms".to_owned())
    );
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_says_why() {
    let node = Toy::answering(toy::ok()).await;
    let mut misnamed = settings(&[node.address]);
    misnamed.server_name = Some("other.test".try_into().unwrap());
    let expected = "certificate not trusted: it is for node.test, not for other.test";
    assert_eq!(told(misnamed).await, ("unreachable", expected.to_owned()));

    let mut strange = settings(&[node.address]);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let other = rcgen::generate_simple_self_signed(["node.test".to_owned()]).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(other.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    strange.tls = Arc::new(client);
    let (class, cause) = told(strange).await;
    assert_eq!(class, "unreachable");
    assert!(cause.starts_with("certificate not trusted: "), "{cause}");
}

#[tokio::test]
async fn a_bad_answer_has_its_cause() {
    let bad_http = b"HTTP/9 no\r\n\r\n".to_vec();
    for (act, class, cause) in [
        (
            Act::Answer(json("503 Unavailable", "x")),
            "server_error",
            "status 503",
        ),
        (
            Act::AnswerAndClose(Vec::new()),
            "broken",
            "connection closed before the answer",
        ),
        (Act::Answer(bad_http), "garbage", "bad HTTP: "),
        (
            Act::Answer(json("200 OK", "<html>")),
            "garbage",
            "the answer was no JSON object",
        ),
    ] {
        let node = Toy::start(move |_| act.clone()).await;
        let told = told(settings(&[node.address])).await;
        assert_eq!(told.0, class, "{told:?}");
        assert!(told.1.starts_with(cause), "{told:?}");
    }
}

#[tokio::test]
async fn a_health_check_has_its_cause() {
    let node = Toy::answering(json("500 Oops", "")).await;
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
        () = until("it is told", || shown(&cluster) == expected) => {}
        () = watch_cluster(cluster.clone(), None) => panic!("it never ends"),
    }
}

#[tokio::test]
async fn a_cause_is_news_once() {
    let cluster = Cluster::new(settings(&[nobody().await]));
    let node = cluster.nodes_now().remove(0);
    let now = Instant::now().into_std();
    let news = |why: &str, seconds: u64| node.explain(why, now + Duration::from_secs(seconds));
    assert!(news("refused", 0));
    assert!(!news("refused", 60));
    assert!(news("status 503", 60));
    assert!(!news("refused", 61), "now this, now that");
    assert!(news("refused", 90));
}
