//! The client and the stand-in against each other.

use http::header::{CONNECTION, CONTENT_TYPE, HOST};
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::*;
use crate::auth::{AccessKey, Credential, Secret};
use crate::stand_in::certificates::{CertificateAuthority, SERVER_NAMES as CERTIFIED};
use crate::stand_in::{AcceptBehavior, Fault, Settings, StandIn, UNLISTED, When, files};

mod http2;

const RECORDING: &str = "getRecordFileUrlFromObs";
const LONG: Duration = Duration::from_secs(20);

struct TestEnv {
    node: StandIn,
    client: Client,
    credential: Arc<Credential>,
}

async fn test_env() -> TestEnv {
    let authority = CertificateAuthority::new().unwrap();
    let tls = authority
        .issue(&CERTIFIED)
        .unwrap()
        .server_config()
        .unwrap();
    let credential = credential("279a08bbd8d949a0", "secret");
    let settings = Settings::new(tls, vec![Arc::clone(&credential)]);
    let trust = Trust::Roots(authority.roots().unwrap());
    TestEnv {
        node: StandIn::start(settings).await.unwrap(),
        client: Client::new(&trust).unwrap().with_idle_connections(8),
        credential,
    }
}

fn credential(access_key: &str, secret: &str) -> Arc<Credential> {
    let secret = Secret::new(secret.into());
    Arc::new(Credential::new(
        AccessKey::from(access_key),
        vec![secret],
        true,
    ))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the stand-in looks at the true time"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

impl TestEnv {
    fn recording(&self, call_id: &str) -> ClientRequest {
        let query = RecordingQuery {
            call_id,
            begin: "2021-11-24 08:00:00",
            end: "2021-11-24 09:00:00",
            version: Some("2.0"),
        };
        let request = ClientRequest::recording(&self.node.url(), &query).unwrap();
        request
            .sign(&self.credential, DEFAULT_SIGNED_FIELDS, now())
            .unwrap()
    }

    fn envelope(&self, tail: &str, message: &Value) -> ClientRequest {
        let url = format!("{}/CCFS/resource/ccfs/{tail}", self.node.url());
        let body = json!({"request": {"version": "2.0"}, "msgBody": message});
        let request = ClientRequest::post(&url, body.to_string()).unwrap();
        request.sign(&self.credential, "host", now()).unwrap()
    }

    async fn send(&self, request: &ClientRequest) -> Result<ClientResponse, ClientError> {
        self.client.send(request).await
    }
}

#[tokio::test]
async fn a_signed_request_succeeds_and_the_connection_is_reused() {
    let env = test_env().await;
    let mut urls = Vec::new();
    for _ in 0..3 {
        let response = env.send(&env.recording("1637742300-1")).await.unwrap();
        assert_eq!(
            response.header("content-type"),
            Some("application/json;charset=UTF-8")
        );
        assert_eq!(response.result_code().as_deref(), Some("0"));
        urls.push(
            response.json()["resultData"]["url"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    urls.dedup();
    assert_eq!((urls.len(), env.node.connections()), (3, 1));
    let received = env.node.requests();
    assert_eq!(received[2].access_key.as_deref(), Some("279a08bbd8d949a0"));
    assert_eq!(
        received[2].header("host"),
        Some(env.node.address().to_string().as_str())
    );
    assert!(received[2].body.starts_with(br#"{"callId":"1637742300-1""#));
    assert!(!format!("{received:?}").contains("auth-v2"));
}

#[tokio::test]
async fn only_a_valid_and_fresh_signature_is_accepted() {
    let env = test_env().await;
    let unsigned = || ClientRequest::post(&env.node.url(), "{}").unwrap();
    let signed = |credential: &Credential, minutes| {
        let time = now() - SignedDuration::from_mins(minutes);
        unsigned()
            .sign(credential, DEFAULT_SIGNED_FIELDS, time)
            .unwrap()
    };
    let mut changed = signed(&env.credential, 0);
    changed.body = "[]".into();
    for (request, status) in [
        (signed(&env.credential, 14), 200),
        (signed(&env.credential, 16), 401),
        (signed(&credential("279a08bbd8d949a0", "wrong"), 0), 401),
        (signed(&credential("other", "secret"), 0), 401),
        (signed(&env.credential, 0).with_header(HOST, "other:1"), 401),
        (
            signed(&env.credential, 0).with_header(CONTENT_TYPE, "text/json"),
            401,
        ),
        (changed, 401),
        (unsigned(), 401),
        (
            signed(&env.credential, 0).with_header(CONNECTION, "close, x-a"),
            400,
        ),
    ] {
        let response = env.send(&request).await.unwrap();
        assert_eq!(response.status, status, "{request:?}");
        assert!(response.result_code().is_some());
    }
    assert_eq!(env.node.rejected(), 8);
}

#[tokio::test]
async fn a_download_streams_and_an_error_has_a_result_code() {
    let env = test_env().await;
    let request = env.envelope("downloadRecordFile", &json!({"fileName": "a/5MiB.wav"}));
    let mut response = env.client.send_streaming(&request).await.unwrap();
    let mut offset = 0;
    while let Some(chunk) = response.chunk().await.unwrap() {
        assert!(files::matches(offset, &chunk));
        offset += chunk.len() as u64;
    }
    assert_eq!(offset, 5 << 20);
    let failing = env.envelope(
        "downloadRecordFile",
        &json!({"fileName": "code-0300011.wav"}),
    );
    let response = env.send(&failing).await.unwrap();
    assert_eq!(
        (
            response.status.as_u16(),
            response.result_code().unwrap().as_str()
        ),
        (200, "0300011")
    );
}

#[tokio::test]
async fn unlisted_paths_need_a_signature() {
    let env = test_env().await;
    let probe = ClientRequest::get(&format!("{}/", env.node.url())).unwrap();
    assert_eq!(env.send(&probe).await.unwrap().status, 404);
    let url = format!("{}/rest/cmsapp/v1/x?a=1", env.node.url());
    let request = ClientRequest::post(&url, "{}").unwrap();
    let request = request
        .sign(&env.credential, DEFAULT_SIGNED_FIELDS, now())
        .unwrap();
    assert_eq!(env.send(&request).await.unwrap().status, 200);
    assert_eq!(env.node.count(UNLISTED), 2);
}

#[tokio::test]
async fn content_faults_are_valid_http() {
    let env = test_env().await;
    let faults = env.node.faults();
    for (fault, status, code) in [
        (Fault::Status(503), 503, None),
        (Fault::Status(401), 401, Some("401")),
        (Fault::FlowControl, 200, Some("0300009")),
        (Fault::ResultCode("0300028".into()), 200, Some("0300028")),
        (Fault::GarbageJson, 200, None),
        (Fault::BigResponse(2 << 20), 200, Some("0")),
        (Fault::Chunked, 200, Some("0")),
        (Fault::HopByHopHeaders, 200, Some("0")),
        (Fault::DelayHead(Duration::from_millis(1)), 200, Some("0")),
        (Fault::Drip(50, Duration::from_millis(1)), 200, Some("0")),
        (Fault::Interim, 200, Some("0")),
        (Fault::UntilClose, 200, Some("0")),
        (Fault::CloseAfterResponse, 200, Some("0")),
    ] {
        faults.inject(fault.clone(), When::Next(1));
        let response = env.send(&env.recording("1-1")).await.unwrap();
        assert_eq!(response.status, status, "{fault:?}");
        assert_eq!(response.result_code().as_deref(), code, "{fault:?}");
        env.client.idle.lock().clear();
    }
    let response = env.send(&env.recording("1-1")).await.unwrap();
    assert_eq!(response.result_code().as_deref(), Some("0"));
    assert_eq!(faults.injected(), 13);
}

#[tokio::test]
async fn wire_faults_are_errors_and_the_node_keeps_serving() {
    let env = test_env().await;
    for fault in [
        Fault::CloseBeforeResponse,
        Fault::CloseInHead,
        Fault::CloseInBody,
        Fault::Reset,
        Fault::ResetInBody,
        Fault::GarbageHttp,
        Fault::NulInHeaderValue,
        Fault::ConflictingContentLengths,
    ] {
        env.node.faults().inject(fault.clone(), When::Next(1));
        let error = env.send(&env.recording("1-1")).await.unwrap_err();
        assert!(
            matches!(error, ClientError::Http(_) | ClientError::Body(_)),
            "{fault:?}: {error}"
        );
    }
    assert!(env.send(&env.recording("1-1")).await.is_ok());
}

#[tokio::test]
async fn a_hanging_node_sends_nothing_and_notices_a_closed_connection() {
    let env = test_env().await;
    let request = env.recording("1-1");
    for (fault, count) in [(Fault::Hang, 1), (Fault::HangInBody, 2), (Fault::Hold, 3)] {
        env.node.faults().inject(fault, When::Next(1));
        tokio::select! {
            response = env.send(&request) => panic!("{response:?}"),
            came = env.node.wait_for_requests(RECORDING, count, LONG) => assert!(came),
        }
        assert!(env.node.wait_for_connections(0, LONG).await);
    }
}

#[tokio::test]
async fn requests_can_be_held_until_all_have_arrived() {
    let env = test_env().await;
    env.node.faults().inject(Fault::Hold, When::Always);
    let request = env.recording("1-1");
    let release = async {
        assert!(env.node.wait_for_requests(RECORDING, 64, LONG).await);
        env.node.faults().clear();
    };
    let sends = join_all((0..64).map(|_| env.send(&request)));
    let (responses, ()) = tokio::join!(sends, release);
    assert!(
        responses
            .iter()
            .all(|response| response.as_ref().is_ok_and(|a| a.status == 200))
    );
    assert_eq!(env.node.connections(), 64);
}

/// All outputs, in order; the futures run side by side.
async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(move |context| {
        for (future, output) in &mut futures {
            if output.is_none()
                && let std::task::Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *output = Some(ready);
            }
        }
        if futures.iter().any(|(_, output)| output.is_none()) {
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(
            futures
                .iter_mut()
                .filter_map(|(_, output)| output.take())
                .collect(),
        )
    })
    .await
}

#[tokio::test]
async fn a_stopped_node_refuses_and_a_restarted_one_keeps_its_record() {
    let mut env = test_env().await;
    let request = env.recording("1-1");
    env.send(&request).await.unwrap();
    env.node.stop().await;
    assert_eq!(env.node.open_connections(), 0);
    env.client.idle.lock().clear();
    let error = env.send(&request).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect(..)), "{error}");
    env.node.restart().await.unwrap();
    env.send(&request).await.unwrap();
    assert_eq!((env.node.count(RECORDING), env.node.connections()), (2, 2));
}

#[tokio::test]
async fn connections_can_be_reset_or_stalled_before_tls() {
    let env = test_env().await;
    env.node.faults().set_accept_behavior(AcceptBehavior::Reset);
    let error = env.send(&env.recording("1-1")).await.unwrap_err();
    assert!(matches!(error, ClientError::Handshake(_)), "{error}");
    env.node.faults().set_accept_behavior(AcceptBehavior::Stall);
    let impatient = Client {
        timeout: Duration::from_millis(1),
        ..env.client
    };
    let request = ClientRequest::post(&env.node.url(), "{}").unwrap();
    let error = impatient.send(&request).await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout(_)), "{error}");
}

#[tokio::test]
async fn reuse_after_an_extra_response_is_counted() {
    let env = test_env().await;
    env.node
        .faults()
        .inject_everywhere(Fault::ExtraResponse, When::Next(1));
    let stream = TcpStream::connect(env.node.address()).await.unwrap();
    let connector = TlsConnector::from(Arc::clone(&env.client.tls));
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = connector.connect(name, stream).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let mut received = Vec::new();
    while !String::from_utf8_lossy(&received).contains("surplus") {
        assert!(stream.read_buf(&mut received).await.unwrap() > 0);
    }
    stream.write_all(b"GET").await.unwrap();
    assert!(env.node.wait_for_connections(0, LONG).await);
    assert_eq!(env.node.forbidden_reuses(), 1);
}

#[tokio::test]
async fn an_untrusted_certificate_is_rejected_unless_any_is_accepted() {
    let env = test_env().await;
    let request = env.recording("1-1");
    let other_ca = CertificateAuthority::new().unwrap().roots().unwrap();
    let error = Client::new(&Trust::Roots(other_ca))
        .unwrap()
        .send(&request)
        .await;
    assert!(
        matches!(error, Err(ClientError::Certificate(_))),
        "{error:?}"
    );
    let insecure = Client::new(&Trust::AnyCertificate).unwrap();
    assert_eq!(insecure.send(&request).await.unwrap().status, 200);
}
