//! HTTP client of the admin interface.

use anyhow::{Context, bail};
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use zeroize::Zeroizing;

use super::AdminArgs;
use crate::cli::failure::Failure;
use crate::client::Trust;
use crate::encoding;
use crate::task::boxed;

/// The address and credentials of an admin interface. Each request opens a connection.
pub(super) struct AdminClient {
    authority: Authority,
    trust: Option<Trust>,
    token: Option<HeaderValue>,
}

impl AdminClient {
    pub(super) fn new(args: &AdminArgs) -> anyhow::Result<Self> {
        let invalid = || {
            let url = &args.admin;
            format!(
                "{url:?} is not the URL of an admin interface: http://HOST:PORT or https://HOST:PORT"
            )
        };
        let url = match args.admin.contains("://") {
            true => args.admin.clone(),
            false => format!("http://{}", args.admin),
        };
        let uri: Uri = url.parse().with_context(invalid)?;
        let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        let Some(authority) = uri.authority().filter(|_| is_bare).cloned() else {
            bail!(invalid());
        };
        if authority.as_str().contains('@') {
            bail!("a URL with a password in it is shown in process lists: use --token-file");
        }
        let trust = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => None,
            Some(scheme) if *scheme == Scheme::HTTPS => Some(match &args.ca {
                Some(path) => Trust::from_pem_file(path)?,
                None if args.insecure => Trust::AnyCertificate,
                None => Trust::system(),
            }),
            _ => bail!(invalid()),
        };
        Ok(Self {
            authority,
            trust,
            token: bearer_token(args)?,
        })
    }

    /// Sends a request and reads the whole response.
    pub(super) async fn send(&self, method: Method, path: &str) -> anyhow::Result<AdminResponse> {
        self.open(method, path).await?.collect().await
    }

    /// Sends a request and reads the head of the response.
    pub(super) async fn open(
        &self,
        method: Method,
        path: &str,
    ) -> anyhow::Result<StreamingAdminResponse> {
        let host = self.authority.host();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let tls = self.trust.as_ref().map(Trust::client_config).transpose()?;
        let default = if tls.is_some() { 443 } else { 80 };
        let port = self.authority.port_u16().unwrap_or(default);
        let stream = TcpStream::connect((host, port)).await?;
        let request = self.request(method, path)?;
        match tls {
            None => send_request(stream, request).await,
            Some(tls) => {
                let name = ServerName::try_from(host.to_owned())?;
                let stream = TlsConnector::from(tls).connect(name, stream).await?;
                send_request(stream, request).await
            }
        }
    }

    fn request(&self, method: Method, path: &str) -> anyhow::Result<Request<Empty<Bytes>>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.authority.as_str())
            .header("x-ccfs-gateway", "1")
            .body(Empty::new())?;
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        Ok(request)
    }
}

/// A complete response of an admin interface.
#[derive(Debug)]
pub(super) struct AdminResponse {
    pub(super) status: StatusCode,
    body: Bytes,
}

impl AdminResponse {
    /// Returns the JSON body of a 2xx response; any other response is an error.
    pub(super) fn success_json(&self) -> anyhow::Result<Value> {
        if self.status == StatusCode::UNAUTHORIZED {
            bail!(Failure::new(self.message(), TOKEN_HELP));
        }
        if !self.status.is_success() {
            bail!("{}", self.message());
        }
        serde_json::from_slice(&self.body).context(
            "the response is not JSON: check that this is the admin interface of a ccfs-gateway",
        )
    }

    /// Returns the status with the problem detail (RFC 9457), or the text of the response.
    pub(super) fn message(&self) -> String {
        match self.problem_detail() {
            Some(detail) => format!("{}: {detail}", self.status.as_u16()),
            None => self.text(),
        }
    }

    /// Returns the problem detail (RFC 9457), or the text of the response.
    pub(super) fn detail(&self) -> String {
        self.problem_detail().unwrap_or_else(|| self.text())
    }

    fn problem_detail(&self) -> Option<String> {
        let problem: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        problem["detail"].as_str().map(str::to_owned)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim().to_owned()
    }
}

/// A response of an admin interface whose body is not yet read.
#[derive(Debug)]
pub(super) struct StreamingAdminResponse {
    pub(super) status: StatusCode,
    body: Incoming,
    /// The connection; it ends with the response.
    _driver: AbortOnDropHandle<hyper::Result<()>>,
}

impl StreamingAdminResponse {
    /// Reads the remaining body.
    pub(super) async fn collect(self) -> anyhow::Result<AdminResponse> {
        let body = Limited::new(self.body, MAX_RESPONSE_SIZE).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
        Ok(AdminResponse {
            status: self.status,
            body,
        })
    }

    /// Returns the next piece of the body; `None` at its end.
    pub(super) async fn chunk(&mut self) -> hyper::Result<Option<Bytes>> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

async fn send_request<S>(
    stream: S,
    request: Request<Empty<Bytes>>,
) -> anyhow::Result<StreamingAdminResponse>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
    #[expect(clippy::disallowed_methods, reason = "ends with the response")]
    let driver = AbortOnDropHandle::new(tokio::spawn(boxed(driver)));
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok(StreamingAdminResponse {
        status: head.status,
        body,
        _driver: driver,
    })
}

/// Returns the token as a `Bearer` value that is marked as sensitive.
fn bearer_token(args: &AdminArgs) -> anyhow::Result<Option<HeaderValue>> {
    let text = match &args.token_file {
        Some(path) => {
            let bytes = encoding::read_text_file(path)
                .with_context(|| format!("cannot read the token file {}", path.display()))?;
            Some(Zeroizing::new(bytes))
        }
        None => token_from_environment().map(|token| Zeroizing::new(token.into_bytes())),
    };
    let Some(text) = text else {
        return Ok(None);
    };
    let bearer = Zeroizing::new([b"Bearer ", text.trim_ascii_end()].concat());
    // The error would print the token.
    let Ok(mut value) = HeaderValue::from_bytes(&bearer) else {
        bail!("the admin token holds characters that a header field cannot carry");
    };
    value.set_sensitive(true);
    Ok(Some(value))
}

#[expect(
    clippy::disallowed_methods,
    reason = "an edge: a token must not stand on the command line"
)]
fn token_from_environment() -> Option<String> {
    std::env::var("CCFS_GATEWAY_ADMIN_TOKEN")
        .ok()
        .filter(|token| !token.is_empty())
}

const TOKEN_HELP: &str = "give the admin token with --token-file, or in CCFS_GATEWAY_ADMIN_TOKEN";

const MAX_RESPONSE_SIZE: usize = 16 * 1024 * 1024;
