//! The admin interface: is it alive, is it ready, how is it, and a few orders. Safe to have a browser
//! near: see [`guard`]. Knows nothing of how orders are carried out; they go to the app.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::cache::Purge;
use crate::config::{AdminToken, Config};
use crate::drain::{Phase, Watch};
use crate::gateway::Shared;
use crate::listener::{Handler, Peer, RequestBody, Violation};
use crate::metrics::Metrics;

mod exposition;
mod guard;
mod status;

/// What the app is asked to do.
#[derive(Debug)]
pub enum Order {
    /// Begin the drain, and with it the end.
    Drain,
    /// A signal: like [`Order::Drain`], and the second time end at once.
    End,
    /// Read the configuration again; answers with the new generation, or with what is wrong.
    Reload(oneshot::Sender<Result<u64, String>>),
    /// Open the access log anew, after a rotation.
    ReopenLog,
}

/// The admin interface of one gateway.
#[derive(Debug)]
pub struct Admin {
    guard: guard::Guard,
    subject: Subject,
}

/// What the admin interface looks at.
#[derive(Debug)]
pub struct Subject {
    /// What the workers share.
    pub shared: Arc<Shared>,
    /// All counters.
    pub metrics: Arc<Metrics>,
    /// The configuration in force.
    pub config: Arc<ArcSwap<Config>>,
    /// When the program started.
    pub started: Timestamp,
    /// Not ready once this is past [`Phase::Serving`].
    pub drain: Watch,
    /// Takes orders.
    pub orders: mpsc::Sender<Order>,
}

impl Admin {
    /// An admin interface that is reached at `bound`.
    pub fn new(
        bound: std::net::SocketAddr,
        token: Option<Arc<AdminToken>>,
        subject: Subject,
    ) -> Self {
        Self {
            guard: guard::Guard::new(bound, token),
            subject,
        }
    }

    async fn answer(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Response<Full<Bytes>> {
        if let Err((status, why)) = self.guard.check(method, uri, headers) {
            let mut response = problem(status, why);
            if status == StatusCode::UNAUTHORIZED {
                let challenge = HeaderValue::from_static("Basic realm=\"ccfs-gateway\"");
                response
                    .headers_mut()
                    .insert(header::WWW_AUTHENTICATE, challenge);
            }
            return response;
        }
        let read = *method == Method::GET || *method == Method::HEAD;
        match (uri.path(), read, *method == Method::POST) {
            ("/livez", true, _) => plain(StatusCode::OK, "alive\n"),
            ("/readyz", true, _) => self.ready(),
            ("/metrics", true, _) => self.metrics(),
            ("/status", true, _) => json_page(StatusCode::OK, &self.status()),
            ("/config", true, _) => json_page(StatusCode::OK, &self.subject.config.load().masked()),
            ("/drain", _, true) => self.drain().await,
            ("/reload", _, true) => self.reload().await,
            ("/cache/purge", _, true) => self.purge(uri.query().unwrap_or_default()),
            (path, _, true) if path.starts_with("/nodes/") => self.node(path),
            ("/livez" | "/readyz" | "/metrics" | "/status" | "/config", ..) => {
                method_not_allowed("GET, HEAD")
            }
            ("/drain" | "/reload" | "/cache/purge", ..) => method_not_allowed("POST"),
            _ => problem(StatusCode::NOT_FOUND, "no such page"),
        }
    }

    fn draining(&self) -> bool {
        self.subject.drain.phase() > Phase::Serving
    }

    /// Own ability, not the nodes': otherwise all gateways would leave their balancer together.
    fn ready(&self) -> Response<Full<Bytes>> {
        if self.draining() {
            plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
        } else {
            plain(StatusCode::OK, "ready\n")
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let gauges = exposition::Gauges::read(&self.subject.shared, self.draining());
        match exposition::write(self.subject.metrics.sum(), gauges) {
            Ok(page) => page_of(StatusCode::OK, exposition::CONTENT_TYPE, page),
            Err(_) => problem(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the metrics cannot be written",
            ),
        }
    }

    fn status(&self) -> Value {
        let Subject {
            shared,
            metrics,
            config,
            started,
            ..
        } = &self.subject;
        status::write(
            shared,
            &config.load(),
            &metrics.sum(),
            *started,
            self.draining(),
        )
    }

    async fn drain(&self) -> Response<Full<Bytes>> {
        // A full inbox holds the same order already.
        let _ = self.subject.orders.send(Order::Drain).await;
        json_page(StatusCode::ACCEPTED, &json!({ "draining": true }))
    }

    async fn reload(&self) -> Response<Full<Bytes>> {
        let (answer, result) = oneshot::channel();
        let _ = self.subject.orders.send(Order::Reload(answer)).await;
        match result.await {
            Ok(Ok(generation)) => json_page(
                StatusCode::OK,
                &json!({ "reloaded": true, "generation": generation }),
            ),
            Ok(Err(why)) => problem(StatusCode::CONFLICT, &why),
            Err(_) => problem(StatusCode::SERVICE_UNAVAILABLE, "the gateway is ending"),
        }
    }

    /// By ak, by callId, by both, or everything.
    fn purge(&self, query: &str) -> Response<Full<Bytes>> {
        let mut purge = Purge::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
            match name {
                "ak" if !value.is_empty() => purge.access_key = Some(value.as_ref().into()),
                "call_id" if !value.is_empty() => purge.call_id = Some(value.into()),
                // A slip must not become "everything".
                _ => {
                    return problem(
                        StatusCode::BAD_REQUEST,
                        "purge takes ak=… and call_id=…, each not empty; neither purges everything",
                    );
                }
            }
        }
        self.subject.shared.cache.purge(purge);
        json_page(StatusCode::OK, &json!({ "purged": true }))
    }

    /// `/nodes/{cluster}/{host:port}/drain` and `…/undrain`.
    fn node(&self, path: &str) -> Response<Full<Bytes>> {
        let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
        let parts: Vec<_> = decoded.split('/').skip(2).collect();
        let [cluster, node, order] = parts[..] else {
            return problem(
                StatusCode::NOT_FOUND,
                "expected /nodes/{cluster}/{host:port}/drain",
            );
        };
        let snapshot = self.subject.shared.snapshot.load();
        let Some(cluster) = snapshot.clusters().get(cluster) else {
            return problem(StatusCode::NOT_FOUND, "no such cluster");
        };
        let known = match order {
            "drain" => cluster.drain_node(node),
            "undrain" => cluster.undrain_node(node),
            _ => return problem(StatusCode::NOT_FOUND, "a node takes drain or undrain"),
        };
        if known {
            json_page(StatusCode::OK, &json!({ "node": node, "order": order }))
        } else {
            problem(StatusCode::NOT_FOUND, "no such node in this cluster")
        }
    }
}

impl Handler for Admin {
    type Body = Full<Bytes>;

    async fn handle(
        &self,
        _peer: &Arc<Peer>,
        request: Request<RequestBody>,
    ) -> Response<Full<Bytes>> {
        let (head, _body) = request.into_parts();
        self.answer(&head.method, &head.uri, &head.headers).await
    }

    fn refuse(&self, _peer: &Arc<Peer>, violation: &Violation) -> Response<Bytes> {
        let status = match violation {
            Violation::HeadTimeout => StatusCode::REQUEST_TIMEOUT,
            Violation::Malformed(_) => StatusCode::BAD_REQUEST,
            Violation::Method => StatusCode::METHOD_NOT_ALLOWED,
            Violation::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        };
        let body = json!({ "status": status.as_u16(), "detail": violation.to_string() });
        let mut response = Response::new(Bytes::from(body.to_string()));
        *response.status_mut() = status;
        response
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    page_of(status, "text/plain; charset=utf-8", text)
}

fn json_page(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    page_of(status, "application/json", format!("{value:#}\n"))
}

/// RFC 9457.
fn problem(status: StatusCode, detail: &str) -> Response<Full<Bytes>> {
    let body = json!({ "status": status.as_u16(), "detail": detail });
    page_of(status, "application/problem+json", format!("{body}\n"))
}

fn method_not_allowed(allow: &'static str) -> Response<Full<Bytes>> {
    let mut response = problem(
        StatusCode::METHOD_NOT_ALLOWED,
        "another method is needed here",
    );
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

fn page_of(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
