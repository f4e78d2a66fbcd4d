//! The admin interface: probes, status, metrics and commands. Protected against cross-site requests from
//! browsers by `guard`. Commands are sent to `app`, which carries them out.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use crate::cache::Purge;
use crate::config::{AdminToken, Config};
use crate::drain::{Phase, Watch};
use crate::gateway::GatewayState;
use crate::listener::{ConnectionInfo, Handler, ProtocolError, RequestBody};
use crate::metrics::Metrics;
use crate::telemetry::{AuditQueue, Tail};

mod access_keys;
mod certificates;
mod findings;
mod gauges;
mod guard;
mod histories;
mod history;
mod journal;
mod key_rates;
mod node_history;
mod openapi;
mod openmetrics;
mod orders;
mod page;
mod ports;
mod process;
mod reloads;
mod respond;
mod signatures;
mod status;
mod status_schema;
mod tail;

pub use findings::{FindingsList, watch_findings};
pub use journal::Journal;
pub use ports::{Connections, OpenPort, Ports};
pub use reloads::{RefusedKeyFile, ReloadAttempt, Reloaded, Reloads};
pub use status_schema::STATUS_SCHEMA;

use histories::Histories;
use respond::AdminResponse;

/// A command to the `app`.
#[derive(Debug)]
pub enum AdminCommand {
    /// Start the graceful shutdown.
    Drain,
    /// SIGTERM or SIGINT: the first starts the graceful shutdown, the second ends it immediately.
    Terminate,
    /// Reload the configuration; the reply is the configuration in force, or the mistakes.
    Reload(oneshot::Sender<Result<Reloaded, String>>),
    /// Reopen the access log, after a rotation.
    ReopenLog,
}

/// The admin interface of one gateway.
#[derive(Debug)]
pub struct Admin {
    guard: guard::Guard,
    state: AdminState,
    histories: Histories,
}

/// The parts of the gateway that the admin interface reads.
#[derive(Debug)]
pub struct AdminState {
    /// The state shared by the workers.
    pub shared: Arc<GatewayState>,
    /// All counters.
    pub metrics: Arc<Metrics>,
    /// The configuration in force.
    pub config: Arc<ArcSwap<Config>>,
    /// When the process started.
    pub started: Timestamp,
    /// Past [`Phase::Serving`], `/readyz` answers 503.
    pub drain: Watch,
    /// Commands to the `app`.
    pub commands: mpsc::Sender<AdminCommand>,
    /// The results of reloads.
    pub reloads: Arc<Reloads>,
    /// The open ports.
    pub ports: Arc<Ports>,
    /// The audit log, for orders; `None` if it is off.
    pub audit: Option<Arc<AuditQueue>>,
    /// The configuration file; `None` if there is none.
    pub config_file: Option<Arc<str>>,
    /// What is wrong; [`watch_findings`] writes it.
    pub findings: Arc<FindingsList>,
    /// What happened; [`watch_findings`] writes it.
    pub journal: Arc<Journal>,
    /// The followers of requests.
    pub tail: Arc<Tail>,
}

impl AdminState {
    fn is_draining(&self) -> bool {
        self.drain.phase() > Phase::Serving
    }
}

impl Admin {
    /// Creates the admin interface of the socket bound to `bound`.
    pub fn new(
        bound: std::net::SocketAddr,
        token: Option<Arc<AdminToken>>,
        state: AdminState,
    ) -> Self {
        Self {
            guard: guard::Guard::new(bound, token),
            state,
            histories: Histories::default(),
        }
    }

    /// Replaces the required token.
    pub fn set_token(&self, token: Option<Arc<AdminToken>>) {
        self.guard.set_token(token);
    }

    /// Records the history of the status page for as long as it is polled.
    pub async fn keep_history(&self) {
        let mut ticks = tokio::time::interval(history::PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.histories.take_sample(&self.state);
        }
    }

    async fn respond(&self, scheme: &str, head: &Parts) -> AdminResponse {
        let (method, uri) = (&head.method, &head.uri);
        if let Err((status, detail)) = self.guard.check(scheme, method, uri, &head.headers) {
            let response = respond::problem(status, detail);
            return match status {
                StatusCode::UNAUTHORIZED => respond::with_basic_challenge(response),
                _ => response,
            };
        }
        let read = *method == Method::GET || *method == Method::HEAD;
        match (uri.path(), read, *method == Method::POST) {
            ("/livez", true, _) => respond::plain(StatusCode::OK, "alive\n"),
            ("/readyz", true, _) => self.readiness(),
            ("/metrics", true, _) => self.metrics(),
            ("/status", true, _) => self.status(uri.query().unwrap_or_default()),
            ("/tail", true, _) => self.tail(uri.query().unwrap_or_default()),
            ("/config", true, _) => {
                respond::json(StatusCode::OK, &self.state.config.load().redacted())
            }
            ("/openapi.json", true, _) => respond::json(StatusCode::OK, openapi::description()),
            ("/drain", _, true) => self.drain().await,
            ("/reload", _, true) => self.reload().await,
            ("/cache/purge", _, true) => self.purge(uri.query().unwrap_or_default()).await,
            (path, true, _) if path.starts_with(signatures::PREFIX) => self.signature(path),
            (path, _, true) if path.starts_with("/nodes/") => self.node_command(path),
            (path, _, true) if path.starts_with("/access_keys/") => {
                self.access_key_command(path).await
            }
            (
                "/livez" | "/readyz" | "/metrics" | "/status" | "/config" | "/openapi.json"
                | "/tail",
                ..,
            ) => respond::method_not_allowed("GET, HEAD"),
            ("/drain" | "/reload" | "/cache/purge", ..) => respond::method_not_allowed("POST"),
            (path, ..) => match page::asset(path) {
                Some(file) if read => file,
                Some(_) => respond::method_not_allowed("GET, HEAD"),
                None => respond::problem(StatusCode::NOT_FOUND, "no such page"),
            },
        }
    }

    /// Reports the gateway's own readiness, not the nodes': otherwise a failed cluster would take all
    /// gateways out of their load balancer at once.
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

    /// With `after=N`, includes the chart points after number N, and with `keys=TEXT` the access keys that match; the
    /// status page polls with both.
    fn status(&self, query: &str) -> AdminResponse {
        let query = status::StatusQuery::parse(query);
        let status = status::write(&self.state, &self.histories, &query);
        respond::json(StatusCode::OK, &status)
    }

    async fn drain(&self) -> AdminResponse {
        // The receiver is gone only during the shutdown.
        let _ = self.state.commands.send(AdminCommand::Drain).await;
        respond::json(StatusCode::ACCEPTED, &json!({ "draining": true }))
    }

    async fn reload(&self) -> AdminResponse {
        let (reply, result) = oneshot::channel();
        let _ = self.state.commands.send(AdminCommand::Reload(reply)).await;
        match result.await {
            Ok(Ok(done)) => respond::json(StatusCode::OK, &done.to_json()),
            Ok(Err(error)) => respond::problem(StatusCode::CONFLICT, &error),
            Err(_) => respond::problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "the gateway is shutting down",
            ),
        }
    }

    /// Purges the cache by access key, callId or both, or all of it.
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
                // A mistyped filter must not purge everything, nor anything unintended.
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
            store.purge([purge.clone()]);
        }
        let entries = self.purge_cache(purge).await;
        tracing::info!(entries, "cache purged");
        let mut body =
            json!({ "purged": true, "entries": entries, "store": null, "replicas_told": null });
        if let Some(store) = store {
            let told = store.wait_until_published(PURGE_PUBLISH_TIMEOUT).await;
            // False if the store is unavailable: the purge is published once it is back.
            body["store"] = told.is_some().into();
            body["replicas_told"] = told.unwrap_or(0).into();
            body["shared"] = body["store"].clone();
        }
        respond::json(StatusCode::OK, &body)
    }

    /// Returns the number of removed entries. The pass over the cache runs on a thread of its own.
    async fn purge_cache(&self, purge: Purge) -> usize {
        let shared = self.state.shared.clone();
        let handle = shared.begin_purge(purge.into());
        let sweep = tokio::task::spawn_blocking(move || shared.cache.sweep());
        // Fails only by panic; the purge is effective in any case.
        let _ = sweep.await;
        handle.removed()
    }

    /// Handles `/nodes/{cluster}/{host:port}/drain` and `…/undrain`.
    fn node_command(&self, path: &str) -> AdminResponse {
        let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
        let parts: Vec<_> = decoded.split('/').skip(2).collect();
        let [cluster, node, action] = parts[..] else {
            return respond::problem(
                StatusCode::NOT_FOUND,
                "expected /nodes/{cluster}/{host:port}/drain",
            );
        };
        let snapshot = self.state.shared.snapshot.load();
        let Some(cluster) = snapshot.clusters().get(cluster) else {
            return respond::problem(StatusCode::NOT_FOUND, "no such cluster");
        };
        let known = match action {
            "drain" => cluster.drain_node(node),
            "undrain" => cluster.undrain_node(node),
            _ => return respond::problem(StatusCode::NOT_FOUND, "a node takes drain or undrain"),
        };
        if known {
            tracing::info!(cluster = parts[0], node, "node is {action}ed");
            respond::json(StatusCode::OK, &json!({ "node": node, "order": action }))
        } else {
            respond::problem(
                StatusCode::NOT_FOUND,
                "no such node in this cluster: /status lists them",
            )
        }
    }
}

/// How long `POST /cache/purge` waits for the shared store to accept the purge. Our choice: far more than
/// a round trip to a healthy store.
const PURGE_PUBLISH_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);

impl Handler for Admin {
    type Body = respond::AdminBody;

    fn handle(
        self: &Arc<Self>,
        connection: &Arc<ConnectionInfo>,
        request: Request<RequestBody>,
    ) -> impl Future<Output = AdminResponse> + Send + 'static {
        let admin = self.clone();
        let scheme = match connection.tls_version {
            Some(_) => "https",
            None => "http",
        };
        let client = connection.client_address.ip();
        let (head, body) = request.into_parts();
        async move {
            let _unread = body;
            admin.respond_audited(scheme, &head, client).await
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
