//! One connection of a client. Over HTTP/2 several handles share it.

use std::sync::Arc;

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{ClientError, ClientRequest};
use crate::task::boxed;

#[derive(Debug)]
pub(super) struct Connection {
    authority: Authority,
    sender: Sender,
    /// The connection task; aborted when the last handle is dropped.
    driver: Arc<AbortOnDropHandle<()>>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// Connects; the protocol is the one negotiated by ALPN.
    pub(super) async fn connect(
        tls: &Arc<ClientConfig>,
        authority: &Authority,
    ) -> Result<Self, ClientError> {
        let (host, port) = (authority.host(), authority.port_u16().unwrap_or(443));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| ClientError::InvalidUrl(authority.to_string()))?;
        let stream = TcpStream::connect((host, port))
            .await
            .map_err(|error| ClientError::Connect(authority.to_string(), error))?;
        let _ = stream.set_nodelay(true);
        let stream = TlsConnector::from(Arc::clone(tls))
            .connect(name, stream)
            .await
            .map_err(ClientError::from_handshake)?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(stream);
        // The error of a connection task is also returned to the requests on it.
        let (sender, driver) = if is_http2 {
            let (sender, driver) = http2::handshake(TokioExecutor::new(), io).await?;
            let driver = TaskTracker::new().spawn(boxed(async { drop(driver.await) }));
            (Sender::Http2(sender), driver)
        } else {
            let (sender, driver) = http1::handshake(io).await?;
            let driver = TaskTracker::new().spawn(boxed(async { drop(driver.await) }));
            (Sender::Http1(sender), driver)
        };
        Ok(Self {
            authority: authority.clone(),
            sender,
            driver: Arc::new(AbortOnDropHandle::new(driver)),
        })
    }

    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Returns another handle of an HTTP/2 connection; `None` for HTTP/1.1.
    pub(super) fn try_share(&self) -> Option<Self> {
        match &self.sender {
            Sender::Http1(_) => None,
            Sender::Http2(sender) => Some(Self {
                authority: self.authority.clone(),
                sender: Sender::Http2(sender.clone()),
                driver: Arc::clone(&self.driver),
            }),
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::Http2(sender) => sender.is_ready(),
        }
    }

    /// Waits until the next request can be sent; false if the connection is closed.
    pub(super) async fn ready(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await.is_ok(),
            Sender::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    pub(super) async fn send(
        &mut self,
        request: &ClientRequest,
    ) -> Result<Response<Incoming>, ClientError> {
        let invalid = || ClientError::InvalidUrl(request.path().to_owned());
        let target: PathAndQuery = request.target.parse().map_err(|_| invalid())?;
        let mut http = Request::new(Full::new(request.body.clone()));
        *http.method_mut() = request.method.clone();
        http.headers_mut().clone_from(&request.headers);
        match &mut self.sender {
            Sender::Http1(sender) => {
                *http.uri_mut() = target.into();
                Ok(sender.send_request(http).await?)
            }
            Sender::Http2(sender) => {
                // The signed Host is sent as :authority.
                let host = http.headers_mut().remove(HOST);
                let host = host
                    .as_ref()
                    .map_or(self.authority.as_str().as_bytes(), |it| it.as_bytes());
                *http.uri_mut() = Uri::builder()
                    .scheme(Scheme::HTTPS)
                    .authority(host)
                    .path_and_query(target)
                    .build()
                    .map_err(|_| invalid())?;
                *http.version_mut() = Version::HTTP_2;
                Ok(sender.send_request(http).await?)
            }
        }
    }
}
