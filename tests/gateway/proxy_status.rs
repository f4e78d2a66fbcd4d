//! `Proxy-Status` (RFC 9209, §4) where no node answered: one error type for each cause.

use std::time::Duration;

use ccfs_gateway::client::{ClientRequest, ClientResponse, RecordingQuery};
use ccfs_gateway::stand_in::{Fault, When};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::assertions::assert_gateway_error;
use crate::page;
use crate::support::{BEGIN, END, SHANGHAI, Setup, TestEnv, eventually, signed};

/// What a peer that is no TLS server does with a connection.
#[derive(Clone, Copy)]
enum Peer {
    /// Closes it in the middle of the handshake.
    Closes,
    /// Responds as a server without TLS does.
    SpeaksPlainHttp,
    /// Keeps it open and is silent.
    Stalls,
}

impl Peer {
    /// Starts the peer; returns its `host:port`.
    async fn start(self) -> (String, AbortHandle) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let task = tokio::spawn(async move {
            let mut open = Vec::new();
            loop {
                let (mut tcp, _) = listener.accept().await.unwrap();
                if !matches!(self, Self::Stalls) {
                    // All of the ClientHello, so that the close is no reset.
                    let _ = tcp.read(&mut [0; 16 * 1024]).await;
                }
                if matches!(self, Self::SpeaksPlainHttp) {
                    let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
                }
                if !matches!(self, Self::Closes) {
                    open.push(tcp);
                }
            }
        });
        (address, task.abort_handle())
    }
}

/// Returns an address that refuses connections.
async fn refusing() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Sends a recording request to this listener of the gateway.
async fn ask(env: &TestEnv, listener: &str) -> ClientResponse {
    let query = RecordingQuery {
        call_id: "1-1",
        begin: BEGIN,
        end: END,
        version: Some("2.0"),
    };
    let url = format!("https://{}", env.bound.listeners[listener]);
    let request = ClientRequest::recording(&url, &query).unwrap();
    env.send(&signed(request, SHANGHAI)).await
}

#[track_caller]
fn assert_cause(response: &ClientResponse, case: &str, error: &str) {
    let (status, kind) = match error {
        "connection_timeout" | "http_response_timeout" => (504, "node-timeout"),
        _ => (502, "node-failed"),
    };
    assert_gateway_error(response, status, kind, &format!("GW{status}"));
    let expected = format!("ccfs-gateway; error={error}");
    let seen = response.header("proxy-status");
    assert_eq!(seen, Some(expected.as_str()), "{case}");
}

#[tokio::test]
async fn a_connection_that_fails_has_its_cause() {
    let (closes, closing) = Peer::Closes.start().await;
    let (plain, speaking) = Peer::SpeaksPlainHttp.start().await;
    let (stalls, stalling) = Peer::Stalls.start().await;
    let cases = [
        ("refused", refusing().await, "connection_refused"),
        ("closed", closes, "connection_terminated"),
        ("plain", plain, "tls_protocol_error"),
        ("stalled", stalls, "connection_timeout"),
        ("name", "nobody.invalid:8443".to_owned(), "dns_error"),
        ("other", "{other}".to_owned(), "tls_certificate_error"),
    ];
    let mut tables = String::new();
    for (name, address, _) in &cases {
        let address = address.replace("{other}", "127.0.0.1:{port}");
        tables += &format!(
            "[clusters.{name}]\nnodes = [\"https://{address}\"]\nhealth_check = {{ interval = \"1h\" }}\n\
             timeouts = {{ connect = \"200ms\" }}\n\
             tls = {{ ca = \"ca.pem\", server_name = \"other.test\" }}\n\
             [listeners.{name}]\nbind = \"127.0.0.1:0\"\ncluster = \"{name}\"\n\
             tls = {{ certificate = \"leaf.pem\", private_key = \"leaf.key\" }}\n"
        );
    }
    let setup = Setup {
        tables: tables.replace("https://127.0.0.1:{port}", "{node0}"),
        ..Setup::default()
    };
    let env = setup.start().await;
    let admin = env.bound.admin.unwrap();
    eventually("the name is known to have no address", async || {
        page::get(admin, "/status").await.body.contains("NXDOMAIN")
    })
    .await;
    for (name, _, error) in cases {
        assert_cause(&ask(&env, name).await, name, error);
    }
    for task in [closing, speaking, stalling] {
        task.abort();
    }
}

#[tokio::test]
async fn a_response_that_fails_has_its_cause() {
    let setup = Setup {
        cluster: "ejection = { consecutive_failures = 0 }\n\
                  timeouts = { per_try = \"300ms\", overall = \"300ms\", fetch = \"300ms\" }"
            .to_owned(),
        ..Setup::default()
    };
    let env = setup.start().await;
    let faults = env.nodes[0].faults();
    for (fault, error) in [
        (Fault::CloseBeforeResponse, "connection_terminated"),
        (Fault::Reset, "connection_terminated"),
        (Fault::CloseInHead, "http_response_incomplete"),
        (Fault::CloseInBody, "http_response_incomplete"),
        (Fault::ResetInBody, "http_response_incomplete"),
        (Fault::GarbageHttp, "http_protocol_error"),
        (Fault::GarbageJson, "http_protocol_error"),
        (Fault::NulInHeaderValue, "http_protocol_error"),
        (Fault::Hang, "http_response_timeout"),
        (
            Fault::DelayHead(Duration::from_secs(5)),
            "http_response_timeout",
        ),
    ] {
        faults.inject(fault.clone(), When::Always);
        assert_cause(&ask(&env, "ccfs").await, &format!("{fault:?}"), error);
        faults.clear();
    }
}
