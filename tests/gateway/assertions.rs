//! Assertions shared by the scenarios: requests that reached the nodes, error responses, common
//! headers.

use ccfs_gateway::client::{Client, ClientError, ClientRequest, ClientResponse, Trust};
use ccfs_gateway::stand_in::RecordedRequest;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::TestEnv;

impl TestEnv {
    /// The requests that reached the nodes, without health checks.
    pub(crate) fn upstream_requests(&self) -> Vec<RecordedRequest> {
        let all = self.nodes.iter().flat_map(|node| node.requests());
        all.filter(|request| request.target != "/").collect()
    }

    /// The only request that reached a node since the last call.
    #[track_caller]
    pub(crate) fn sole_upstream_request(&self) -> RecordedRequest {
        let mut received = self.upstream_requests();
        assert_eq!(received.len(), 1, "{received:#?}");
        self.nodes.iter().for_each(|node| node.clear_record());
        received.remove(0)
    }

    /// Asserts that no request reached a node since the last call.
    #[track_caller]
    pub(crate) fn assert_no_upstream_request(&self) {
        let received = self.upstream_requests();
        assert!(received.is_empty(), "{received:#?}");
    }

    /// A new client that trusts the gateway and keeps connections alive.
    pub(crate) fn new_client(&self) -> Client {
        let trust = Trust::from_pem_file(&self.file("ca.pem")).unwrap();
        Client::new(&trust).unwrap().with_idle_connections(8)
    }

    /// Sends raw bytes on a connection of its own and reads until the connection closes.
    pub(crate) async fn exchange_raw(&self, bytes: &[u8]) -> String {
        let mut tls = self.connect().await;
        tls.write_all(bytes).await.unwrap();
        let mut response = Vec::new();
        let _ = tls.read_to_end(&mut response).await;
        String::from_utf8_lossy(&response).into_owned()
    }

    /// A new TLS connection to the gateway; no data has been sent on it.
    pub(crate) async fn connect(&self) -> tokio_rustls::client::TlsStream<TcpStream> {
        let trust = Trust::from_pem_file(&self.file("ca.pem")).unwrap();
        let connector = TlsConnector::from(trust.client_config().unwrap());
        let stream = TcpStream::connect(self.bound.listeners["ccfs"])
            .await
            .unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        connector.connect(name, stream).await.unwrap()
    }

    /// Reads a streamed response as far as it arrives: its bytes, and the error that ended it.
    pub(crate) async fn read_stream(
        &self,
        request: &ClientRequest,
    ) -> (Vec<u8>, Option<ClientError>) {
        let mut response = self.client.send_streaming(request).await.unwrap();
        let mut bytes = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(piece)) => bytes.extend_from_slice(&piece),
                Ok(None) => return (bytes, None),
                Err(error) => return (bytes, Some(error)),
            }
        }
    }
}

/// Asserts an error response made by the gateway: status, kind, code, and the common envelope.
#[track_caller]
pub(crate) fn assert_gateway_error(response: &ClientResponse, status: u16, kind: &str, code: &str) {
    let seen = (
        response.status.as_u16(),
        response.header("x-gateway-error").unwrap_or("(a node's)"),
        response.result_code().unwrap_or_default(),
    );
    let text = String::from_utf8_lossy(&response.body);
    assert_eq!(seen, (status, kind, code.to_owned()), "{text}");
    let json = response.json();
    let envelope = json.as_object().unwrap();
    let names: Vec<_> = envelope.keys().map(String::as_str).collect();
    assert!(
        names.len() == 3 && json["resultData"].is_null() && json["resultDesc"].is_string(),
        "{text}"
    );
    assert_eq!(
        response.header("content-type"),
        Some("application/json;charset=UTF-8")
    );
    let proxy_status = response.header("proxy-status").unwrap_or_default();
    assert!(
        proxy_status.starts_with("ccfs-gateway; error="),
        "{proxy_status}"
    );
    assert_common_headers(response);
}

/// The `resultDesc` of a response.
pub(crate) fn result_desc(response: &ClientResponse) -> String {
    response.json()["resultDesc"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Asserts a response made by a node, with this resultCode.
#[track_caller]
pub(crate) fn assert_node_response(response: &ClientResponse, code: &str) {
    let text = String::from_utf8_lossy(&response.body);
    assert_eq!(
        response.header("x-gateway-error"),
        None,
        "{} {text}",
        response.status
    );
    assert_eq!(
        (response.status.as_u16(), response.result_code().as_deref()),
        (200, Some(code)),
        "{text}"
    );
    assert_common_headers(response);
}

/// Asserts the headers that every response carries.
#[track_caller]
pub(crate) fn assert_common_headers(response: &ClientResponse) {
    let id = response.header("x-request-id").unwrap_or_default();
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    assert!(
        (1..=64).contains(&id.len()) && id.bytes().all(sane),
        "{id:?}"
    );
    let via: Vec<_> = response.headers.get_all("via").iter().collect();
    assert_eq!(via, ["1.1 ccfs-gateway"]);
}
