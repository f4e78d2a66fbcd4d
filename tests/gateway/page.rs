//! Raw requests to the admin interface: the test controls every byte of the request head.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::eventually;

/// A response of the admin interface.
#[derive(Clone, Debug)]
pub(crate) struct AdminResponse {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl AdminResponse {
    /// The value of a header by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (given, value) = line.split_once(':')?;
            given.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// Sends `GET path`.
pub(crate) async fn get(admin: SocketAddr, path: &str) -> AdminResponse {
    exchange(admin, &format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\n")).await
}

/// Sends `POST path` with the field that admin commands require.
pub(crate) async fn post(admin: SocketAddr, path: &str) -> AdminResponse {
    let head = format!("POST {path} HTTP/1.1\r\nHost: {admin}\r\nX-Ccfs-Gateway: 1\r\n");
    exchange(admin, &head).await
}

/// Like [`post`], with the admin token.
pub(crate) async fn post_with_token(admin: SocketAddr, path: &str, token: &str) -> AdminResponse {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {admin}\r\nX-Ccfs-Gateway: 1\r\nAuthorization: Bearer {token}\r\n"
    );
    exchange(admin, &head).await
}

/// Sends these lines as a request head and reads until the connection closes.
pub(crate) async fn exchange(admin: SocketAddr, lines: &str) -> AdminResponse {
    let mut stream = TcpStream::connect(admin).await.unwrap();
    let head = format!("{lines}Connection: close\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    let response = String::from_utf8(response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").expect("a complete head");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    AdminResponse {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

/// The value of a sample of `/metrics` by name and labels; 0 if absent.
pub(crate) async fn metric(admin: SocketAddr, sample: &str) -> f64 {
    let page = get(admin, "/metrics").await;
    let value = page.body.lines().find_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        (name == format!("ccfs_gateway_{sample}")).then(|| value.parse().unwrap())
    });
    value.unwrap_or_default()
}

/// Waits until the gateway has rejected more reloads than `before`; returns their number.
pub(crate) async fn rejected_reloads_after(admin: SocketAddr, before: f64) -> f64 {
    let rejected = async || metric(admin, r#"config_reloads_total{result="refused"}"#).await;
    eventually("a reload is rejected", async || rejected().await > before).await;
    rejected().await
}
