//! Continuous load by clients that tolerate no failure.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ccfs_gateway::client::{Client, ClientError};
use tokio::task::JoinHandle;

use crate::support::{BEGIN, END, signed};

/// How a client uses connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ConnectionMode {
    /// HTTP/1.1, one kept-alive connection per client.
    KeepAlive,
    /// HTTP/1.1, a new connection for each request.
    NewConnection,
    /// HTTP/2, one connection per client.
    Http2,
}

/// Whether the request was certainly not processed when its connection was closed gracefully: it
/// had not been sent, or GOAWAY excludes it (RFC 9113 section 6.8). Every client may retry it.
fn is_unprocessed(error: &hyper::Error) -> bool {
    error.is_canceled() || format!("{error:?}").contains("GoAway(b\"\", NO_ERROR, Remote)")
}

/// Running clients.
#[derive(Debug)]
pub(crate) struct ContinuousLoad {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl ContinuousLoad {
    /// Starts one client per mode. A request fails if its response is not 200, or if its connection
    /// is closed without notice.
    pub(crate) fn start(
        client: impl Fn() -> Client,
        url: &str,
        ak: &'static str,
        manners: &[ConnectionMode],
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let clients = manners
            .iter()
            .enumerate()
            .map(|(index, &manner)| {
                let client = match manner {
                    ConnectionMode::KeepAlive => client().with_idle_connections(1),
                    ConnectionMode::NewConnection => client().with_idle_connections(0),
                    ConnectionMode::Http2 => client().http2_only().with_idle_connections(1),
                };
                let (stop, answered, url) = (stop.clone(), answered.clone(), url.to_owned());
                tokio::spawn(async move {
                    let mut failed = Vec::new();
                    for n in 0_u64.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        // Two of three requests are cache hits.
                        let id = format!("{}-{index}", n / 3);
                        let query = ccfs_gateway::client::RecordingQuery {
                            call_id: &id,
                            begin: BEGIN,
                            end: END,
                            version: Some("2.0"),
                        };
                        let request = ccfs_gateway::client::ClientRequest::recording(&url, &query);
                        match client.send(&signed(request.unwrap(), ak)).await {
                            Ok(response) if response.status == 200 => {
                                answered.fetch_add(1, Ordering::Relaxed);
                            }
                            Ok(response) => failed.push(format!(
                                "{manner:?}: {} {}",
                                response.status,
                                String::from_utf8_lossy(&response.body)
                            )),
                            Err(ClientError::Http(error)) if is_unprocessed(&error) => {}
                            Err(error) => {
                                failed.push(format!("{manner:?}: {error:?}"));
                            }
                        }
                        // Yields the CPU to other tests; nothing depends on this duration.
                        tokio::time::sleep(Duration::from_millis(3)).await;
                    }
                    failed
                })
            })
            .collect();
        Self {
            stop,
            answered,
            clients,
        }
    }

    /// The number of responses so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits for `more` further responses.
    pub(crate) async fn progress(&self, more: u64) {
        let target = self.answered() + more;
        crate::support::eventually("requests get responses", async || self.answered() >= target)
            .await;
    }

    /// Stops the clients; panics if any request failed.
    pub(crate) async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let mut failed = Vec::new();
        for client in self.clients {
            failed.extend(client.await.unwrap());
        }
        let answered = self.answered.load(Ordering::Relaxed);
        failed.truncate(5);
        assert!(
            failed.is_empty(),
            "beside {answered} successes: {failed:#?}"
        );
        answered
    }
}
