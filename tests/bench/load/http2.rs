//! HTTP/2: one request at a time on each of the streams of a connection.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use ccfs_gateway::client::ClientRequest;
use h2::client::SendRequest;
use http::header::HOST as HOST_FIELD;
use http::{HeaderMap, Request, Version};

use super::{Dialer, Prepared};
use crate::site::HOST;

/// One of the streams; its clones share the connection.
#[derive(Clone)]
pub(super) struct Stream(SendRequest<Bytes>);

impl Stream {
    /// Opens a connection.
    pub(super) async fn connect(dialer: &Dialer, address: SocketAddr) -> io::Result<Self> {
        let stream = Dialer::dial(&dialer.http2, address).await?;
        let (sender, connection) = h2::client::handshake(stream).await.map_err(failed)?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// Sends a request and reads the response, which must be a 200; returns its fields and the length of its body.
    pub(super) async fn exchange(&mut self, request: &Prepared) -> io::Result<(HeaderMap, u64)> {
        let mut sender = self.0.clone().ready().await.map_err(failed)?;
        let is_end = request.body.is_empty();
        let (response, mut body) = sender
            .send_request(request.head.clone(), is_end)
            .map_err(failed)?;
        if !is_end {
            body.send_data(request.body.clone(), true).map_err(failed)?;
        }
        let (head, mut body) = response.await.map_err(failed)?.into_parts();
        if head.status != http::StatusCode::OK {
            return Err(io::Error::other(format!("not a 200: {head:?}")));
        }
        let mut length = 0;
        while let Some(data) = body.data().await {
            let data = data.map_err(failed)?;
            length += data.len() as u64;
            body.flow_control()
                .release_capacity(data.len())
                .map_err(failed)?;
        }
        Ok((head.headers, length))
    }
}

/// Returns the head of a request.
pub(super) fn head(request: &ClientRequest) -> Request<()> {
    let mut head = Request::builder()
        .version(Version::HTTP_2)
        .method(request.method.clone())
        .uri(format!("https://{HOST}{}", request.target))
        .body(())
        .unwrap();
    *head.headers_mut() = request.headers.clone();
    // `:authority` says the same.
    head.headers_mut().remove(HOST_FIELD);
    head
}

/// Returns fields as lines of HTTP/1.1.
pub(super) fn text(fields: &HeaderMap) -> String {
    let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()))
    };
    fields.iter().map(line).collect()
}

fn failed(error: h2::Error) -> io::Error {
    io::Error::other(error)
}
