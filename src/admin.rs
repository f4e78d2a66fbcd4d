//! The admin interface: is it alive, is it ready, how is it, and a few orders. Safe to have a browser
//! near: see `guard`. Knows nothing of how orders are carried out; they go to the app.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use crate::cache::Purge;
use crate::config::{AdminToken, Config};
use crate::drain::{Phase, Watch};
use crate::gateway::GatewayState;
use crate::listener::{ConnectionInfo, Handler, ProtocolError, RequestBody};
use crate::metrics::Metrics;

mod certificates;
mod gauges;
mod guard;
mod history;
mod openmetrics;
mod page;
mod ports;
mod process;
mod reloads;
mod respond;
mod status;

pub use ports::{Connections, OpenPort, Ports};
pub use reloads::{ReloadAttempt, Reloaded, Reloads};

use history::{History, Sample};
use respond::AdminResponse;

/// What the app is asked to do.
#[derive(Debug)]
pub enum AdminCommand {
    /// Begin the drain, and with it the end.
    Drain,
    /// A signal: like [`Order::Drain`], and the second time end at once.
    Terminate,
    /// Read the configuration again; answers with what is in force now, or with what is wrong.
    Reload(oneshot::Sender<Result<Reloaded, String>>),
    /// Open the access log anew, after a rotation.
    ReopenLog,
}

/// The admin interface of one gateway.
#[derive(Debug)]
pub struct Admin {
    guard: guard::Guard,
    state: AdminState,
    history: History,
}

/// What the admin interface looks at.
#[derive(Debug)]
pub struct AdminState {
    /// What the workers share.
    pub shared: Arc<GatewayState>,
    /// All counters.
    pub metrics: Arc<Metrics>,
    /// The configuration in force.
    pub config: Arc<ArcSwap<Config>>,
    /// When the program started.
    pub started: Timestamp,
    /// Not ready once this is past [`Phase::Serving`].
    pub drain: Watch,
    /// Takes orders.
    pub commands: mpsc::Sender<AdminCommand>,
    /// What became of reloads.
    pub reloads: Arc<Reloads>,
    /// The ports that are open.
    pub ports: Arc<Ports>,
}

impl AdminState {
    fn is_draining(&self) -> bool {
        self.drain.phase() > Phase::Serving
    }
}

impl Admin {
    /// An admin interface that is reached at `bound`.
    pub fn new(
        bound: std::net::SocketAddr,
        token: Option<Arc<AdminToken>>,
        subject: AdminState,
    ) -> Self {
        Self {
            guard: guard::Guard::new(bound, token),
            state: subject,
            history: History::default(),
        }
    }

    /// From now on this token is needed.
    pub fn set_token(&self, token: Option<Arc<AdminToken>>) {
        self.guard.set_token(token);
    }

    /// Remembers the last quarter of an hour, for as long as it is polled.
    pub async fn keep_history(&self) {
        let mut ticks = tokio::time::interval(history::PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let sample = Sample::take(&self.state.metrics.sum(), status::instant());
            let snapshot = self.state.shared.snapshot.load();
            let keys = snapshot
                .accounts()
                .map(|account| (account.credential.access_key().shared(), account.admitted()));
            self.history.push(sample, keys);
        }
    }

    async fn respond(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> AdminResponse {
        if let Err((status, why)) = self.guard.check(method, uri, headers) {
            let answer = respond::problem(status, why);
            return match status {
                StatusCode::UNAUTHORIZED => respond::with_basic_challenge(answer),
                _ => answer,
            };
        }
        let read = *method == Method::GET || *method == Method::HEAD;
        match (uri.path(), read, *method == Method::POST) {
            ("/livez", true, _) => respond::plain(StatusCode::OK, "alive\n"),
            ("/readyz", true, _) => self.readiness(),
            ("/metrics", true, _) => self.metrics(),
            ("/status", true, _) => self.status(uri.query().unwrap_or_default()),
            ("/config", true, _) => {
                respond::json(StatusCode::OK, &self.state.config.load().redacted())
            }
            ("/drain", _, true) => self.drain().await,
            ("/reload", _, true) => self.reload().await,
            ("/cache/purge", _, true) => self.purge(uri.query().unwrap_or_default()).await,
            (path, _, true) if path.starts_with("/nodes/") => self.node_command(path),
            ("/livez" | "/readyz" | "/metrics" | "/status" | "/config", ..) => {
                respond::method_not_allowed("GET, HEAD")
            }
            ("/drain" | "/reload" | "/cache/purge", ..) => respond::method_not_allowed("POST"),
            (path, ..) => match page::asset(path) {
                Some(file) if read => file,
                Some(_) => respond::method_not_allowed("GET, HEAD"),
                None => respond::problem(StatusCode::NOT_FOUND, "no such page"),
            },
        }
    }

    /// Own ability, not the nodes': otherwise all gateways would leave their balancer together.
    fn readiness(&self) -> AdminResponse {
        if self.state.is_draining() {
            respond::plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
        } else {
            respond::plain(StatusCode::OK, "ready\n")
        }
    }

    fn metrics(&self) -> AdminResponse {
        let totals = self.state.metrics.sum();
        let gauges = gauges::Gauges::read(&self.state, totals.waiters);
        match openmetrics::write(totals, gauges) {
            Ok(page) => respond::with_content_type(StatusCode::OK, openmetrics::CONTENT_TYPE, page),
            Err(_) => respond::problem(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the metrics cannot be written",
            ),
        }
    }

    /// With `after=N` come the points of the charts after number N: what the page asks for.
    fn status(&self, query: &str) -> AdminResponse {
        let after = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("after="))
            .and_then(|number| number.parse().ok());
        let status = status::write(&self.state, &self.history, after);
        respond::json(StatusCode::OK, &status)
    }

    async fn drain(&self) -> AdminResponse {
        // A full inbox holds the same order already.
        let _ = self.state.commands.send(AdminCommand::Drain).await;
        respond::json(StatusCode::ACCEPTED, &json!({ "draining": true }))
    }

    async fn reload(&self) -> AdminResponse {
        let (answer, result) = oneshot::channel();
        let _ = self.state.commands.send(AdminCommand::Reload(answer)).await;
        match result.await {
            Ok(Ok(done)) => respond::json(
                StatusCode::OK,
                &json!({
                    "reloaded": true,
                    "generation": done.generation,
                    "warnings": done.warnings,
                }),
            ),
            Ok(Err(why)) => respond::problem(StatusCode::CONFLICT, &why),
            Err(_) => respond::problem(StatusCode::SERVICE_UNAVAILABLE, "the gateway is ending"),
        }
    }

    /// By ak, by callId, by both, or everything.
    async fn purge(&self, query: &str) -> AdminResponse {
        let mut purge = Purge::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
            match name {
                "ak" if !value.is_empty() && purge.access_key.is_none() => {
                    purge.access_key = Some(value.as_ref().into());
                }
                "call_id" if !value.is_empty() && purge.call_id.is_none() => {
                    purge.call_id = Some(value.into());
                }
                // A slip must not become "everything", nor something else than was meant.
                _ => {
                    return respond::problem(
                        StatusCode::BAD_REQUEST,
                        "purge takes ak=… and call_id=…, each once and not empty; neither purges everything",
                    );
                }
            }
        }
        let store = self.state.shared.store.load_full();
        if let Some(store) = &store {
            store.purge(purge.clone());
        }
        let entries = self.state.shared.cache.purge(purge);
        tracing::info!(entries, "the cache is purged");
        let mut answer = json!({ "purged": true, "entries": entries });
        if let Some(store) = store {
            // Without it, the other replicas are told when the store is back.
            answer["shared"] = store
                .wait_until_published(PURGE_PUBLISH_TIMEOUT)
                .await
                .into();
        }
        respond::json(StatusCode::OK, &answer)
    }

    /// `/nodes/{cluster}/{host:port}/drain` and `…/undrain`.
    fn node_command(&self, path: &str) -> AdminResponse {
        let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
        let parts: Vec<_> = decoded.split('/').skip(2).collect();
        let [cluster, node, order] = parts[..] else {
            return respond::problem(
                StatusCode::NOT_FOUND,
                "expected /nodes/{cluster}/{host:port}/drain",
            );
        };
        let snapshot = self.state.shared.snapshot.load();
        let Some(cluster) = snapshot.clusters().get(cluster) else {
            return respond::problem(StatusCode::NOT_FOUND, "no such cluster");
        };
        let known = match order {
            "drain" => cluster.drain_node(node),
            "undrain" => cluster.undrain_node(node),
            _ => return respond::problem(StatusCode::NOT_FOUND, "a node takes drain or undrain"),
        };
        if known {
            tracing::info!(cluster = parts[0], node, "node is {order}ed");
            respond::json(StatusCode::OK, &json!({ "node": node, "order": order }))
        } else {
            respond::problem(
                StatusCode::NOT_FOUND,
                "no such node in this cluster: /status lists them",
            )
        }
    }
}

/// So long a purge waits for the store to know of it.
const PURGE_PUBLISH_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);

impl Handler for Admin {
    type Body = Full<Bytes>;

    fn handle(
        self: &Arc<Self>,
        _peer: &Arc<ConnectionInfo>,
        request: Request<RequestBody>,
    ) -> impl Future<Output = AdminResponse> + Send + 'static {
        let admin = self.clone();
        let (head, body) = request.into_parts();
        async move {
            let _unread = body;
            let (method, uri) = (&head.method, &head.uri);
            admin.respond(method, uri, &head.headers).await
        }
    }

    fn reject(&self, _peer: &Arc<ConnectionInfo>, violation: &ProtocolError) -> Response<Bytes> {
        let status = violation.status();
        let body = json!({ "status": status.as_u16(), "detail": violation.to_string() });
        let mut response = Response::new(Bytes::from(body.to_string()));
        *response.status_mut() = status;
        response
    }
}
