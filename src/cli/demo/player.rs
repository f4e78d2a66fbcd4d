//! The page on which the demo plays recordings: a small server of its own beside the gateway, as a team would write
//! one. It holds the API key of a caller. A browser that has signed in gets links with tickets from it.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::environment::DemoEnv;
use crate::cli::control::AdminArgs;
use crate::client::{Client, ClientRequest};
use crate::stand_in::StandIn;
use crate::stand_in::certificates::write_private_file;
use crate::task::boxed;

/// The name of the caller in the demo's configuration.
pub(super) const CALLER: &str = "player";

/// Writes a random API key.
pub(super) fn write_api_key(path: &Path) -> anyhow::Result<()> {
    write_private_file(path, random_text().as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The server, bound and not yet serving.
pub(super) struct Player {
    listener: TcpListener,
    pub(super) address: SocketAddr,
    /// What a user signs in with.
    pub(super) code: String,
    server: Arc<Server>,
}

impl Player {
    /// Binds a free port of this machine.
    pub(super) async fn bind(env: &DemoEnv) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let key = std::fs::read_to_string(env.api_key())?;
        let code: String = random_text().chars().take(CODE_LENGTH).collect();
        let server = Server {
            authority: address.to_string(),
            code: code.clone(),
            cookie: format!("session={}", random_text()),
            client: env.client.clone(),
            gateway: env.url(),
            api_key: HeaderValue::from_str(&format!("Bearer {}", key.trim()))?,
            nodes: env.nodes.iter().map(StandIn::url).collect(),
            admin: env.admin().map(AdminArgs::at),
        };
        Ok(Self {
            listener,
            address,
            code,
            server: Arc::new(server),
        })
    }

    /// Serves until it is dropped.
    pub(super) async fn serve(self) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                    if let Ok((stream, _)) = accepted {
                        connections.spawn(boxed(serve_connection(self.server.clone(), stream)));
                    }
                }
                Some(_ended) = connections.join_next() => {}
            }
        }
    }
}

async fn serve_connection(server: Arc<Server>, stream: TcpStream) {
    let service = service_fn(|request| {
        let server = server.clone();
        async move { Ok::<_, Infallible>(server.answer(request).await) }
    });
    // A broken connection concerns nobody else.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// What the answers depend on.
struct Server {
    /// Its address, as a browser writes it in Host.
    authority: String,
    code: String,
    /// The cookie of a browser that has signed in.
    cookie: String,
    client: Arc<Client>,
    gateway: String,
    /// Where the recordings are.
    nodes: Vec<String>,
    api_key: HeaderValue,
    admin: Option<AdminArgs>,
}

impl Server {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let field = |name: HeaderName| head.headers.get(name).map(HeaderValue::as_bytes);
        // A page of another site may have a name that leads here.
        if field(header::HOST) != Some(self.authority.as_bytes()) {
            return text(StatusCode::MISDIRECTED_REQUEST, "another host is meant");
        }
        let has_signed_in = field(header::COOKIE) == Some(self.cookie.as_bytes());
        match (&head.method, head.uri.path()) {
            (&Method::GET, "/") => self.page(),
            (&Method::GET, "/player.js") => file("text/javascript", SCRIPT.to_owned()),
            (&Method::POST, "/sign-in") => self.sign_in(body).await,
            (_, _) if !has_signed_in => text(StatusCode::UNAUTHORIZED, "sign in first"),
            (&Method::GET, "/counts") => json_response(&self.counts().await),
            (&Method::POST, path) => match path.strip_prefix("/link/") {
                Some(call_id) => self.link(call_id).await,
                None => text(StatusCode::NOT_FOUND, "there is no such path"),
            },
            _ => text(StatusCode::NOT_FOUND, "there is no such path"),
        }
    }

    /// Returns the page. Nothing but its own script runs in it, and media come from this machine alone.
    fn page(&self) -> Response<Full<Bytes>> {
        let sites = std::iter::once(&self.gateway).chain(&self.nodes);
        let sites: Vec<_> = sites
            .map(|url| format!("<a href=\"{url}/\">{url}</a>"))
            .collect();
        let page = PAGE.replace("SITES", &sites.join(", "));
        let mut response = file("text/html;charset=UTF-8", page);
        let policy = HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:; \
             media-src https://127.0.0.1:*; frame-ancestors 'none'; form-action 'none'",
        );
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        response
    }

    /// Gives the cookie to a browser that knows the code.
    async fn sign_in(&self, body: Incoming) -> Response<Full<Bytes>> {
        let body = Limited::new(body, MAX_BODY).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if body["code"].as_str() != Some(self.code.as_str()) {
            return text(StatusCode::FORBIDDEN, "this is not the code");
        }
        let cookie = format!("{}; HttpOnly; SameSite=Strict; Path=/", self.cookie);
        let mut response = text(StatusCode::OK, "signed in");
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            response.headers_mut().insert(header::SET_COOKIE, cookie);
        }
        response
    }

    /// Asks the gateway for a link with a ticket.
    async fn link(&self, call_id: &str) -> Response<Full<Bytes>> {
        // What stands in the path is escaped as the path of the gateway needs it.
        let target = format!("{}/recordings/{call_id}/ticket?{WINDOW}", self.gateway);
        let request = match ClientRequest::new(Method::POST, &target) {
            Ok(request) => request.with_authorization(self.api_key.clone()),
            Err(error) => return text(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        match self.client.send(&request).await {
            Ok(response) if response.status == StatusCode::OK => {
                let ticket = response.json();
                let url = ticket["url"].as_str().unwrap_or_default();
                let url = format!("{}{url}", self.gateway);
                json_response(&json!({ "url": url, "expires": ticket["expires"] }))
            }
            Ok(response) => text(
                StatusCode::BAD_GATEWAY,
                &format!("the gateway answered {}", response.status),
            ),
            Err(error) => text(StatusCode::BAD_GATEWAY, &error.to_string()),
        }
    }

    /// Returns what the gateway counted for the caller.
    async fn counts(&self) -> Value {
        let status = match &self.admin {
            Some(admin) => admin.status().await.unwrap_or_default(),
            None => Value::Null,
        };
        let callers = status["callers"].as_array();
        let mut callers = callers.into_iter().flatten();
        let own = callers.find(|it| it["name"] == CALLER);
        own.map_or(Value::Null, |own| json!({ "hits": own["hits"] }))
    }
}

fn json_response(value: &Value) -> Response<Full<Bytes>> {
    file("application/json", value.to_string())
}

fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = file("text/plain;charset=UTF-8", text.to_owned());
    *response.status_mut() = status;
    response
}

fn file(kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    let headers = response.headers_mut();
    let value = HeaderValue::from_static;
    headers.insert(header::CONTENT_TYPE, value(kind));
    headers.insert(header::CACHE_CONTROL, value("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, value("nosniff"));
    headers.insert(header::REFERRER_POLICY, value("no-referrer"));
    response
}

/// 256 random bits in hexadecimal digits.
fn random_text() -> String {
    let (one, two) = (rand::random::<u128>(), rand::random::<u128>());
    format!("{one:032x}{two:032x}")
}

const PAGE: &str = include_str!("player/page.html");
const SCRIPT: &str = include_str!("player/player.js");

/// The window of all recordings of the page.
const WINDOW: &str = "begin=2021-11-24T16:25:03%2B08:00&end=2021-11-24T17:25:11%2B08:00";

/// 48 bits: enough for as long as a demo runs.
const CODE_LENGTH: usize = 12;
const MAX_BODY: usize = 1024;
const MAX_CONNECTIONS: usize = 32;
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
