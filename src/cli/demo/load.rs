//! `demo --load`: a realistic mix of requests, so that the status page has something to show.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::environment::{DemoEnv, now};
use super::requests::{SHANGHAI, TimeWindow};
use crate::auth::Credential;
use crate::client::{Client, ClientRequest, DEFAULT_SIGNED_FIELDS, RecordingQuery};
use crate::stand_in::{Fault, When};
use crate::task::boxed;

/// Sends requests and counts their responses.
pub(super) struct Load {
    client: Arc<Client>,
    url: String,
    credentials: Vec<Arc<Credential>>,
    counts: Counts,
}

/// The responses so far.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    hits: AtomicU64,
    failed: AtomicU64,
}

/// What one request of the mix asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// One of the recordings that many ask for.
    Popular(u32),
    /// A recording that nobody has asked for before.
    New(u64),
    /// A recording that is not there yet.
    Unknown(u64),
    /// The second tenant, whose rate limit is small.
    Berlin(u64),
    /// A signature that does not verify.
    Forged,
    /// A window that ends before it begins.
    Invalid,
    /// A file of 256 KiB.
    Download(u64),
}

impl Kind {
    /// Returns the kind of the `n`-th request. Of a hundred 64 ask for one of 200 popular recordings, 24 for a
    /// new one, 4 for one that is not there, 3 are of the second tenant, 3 download, one is forged, one invalid.
    fn nth(n: u64) -> Self {
        match n % 100 {
            0..64 => {
                // The square prefers small numbers: a few recordings are asked for again and again.
                let share = rand::random::<f64>();
                Self::Popular((share * share * POPULAR) as u32)
            }
            64..88 => Self::New(n),
            88..92 => Self::Unknown(n),
            92..95 => Self::Berlin(n),
            95..98 => Self::Download(n),
            98 => Self::Forged,
            _ => Self::Invalid,
        }
    }
}

impl Load {
    /// Makes the nodes as slow as real ones are, and returns what sends to the gateway before them.
    pub(super) fn new(env: &DemoEnv) -> Arc<Self> {
        for (node, delay) in env.nodes.iter().zip(DELAYS_MS) {
            let delay = Duration::from_millis(delay);
            node.faults().inject(Fault::DelayHead(delay), When::Always);
        }
        Arc::new(Self {
            client: env.client.clone(),
            url: env.url(),
            credentials: env.credentials.clone(),
            counts: Counts::default(),
        })
    }

    /// Sends 40 requests a second, at most 64 at once, until it is dropped. `tell` is called once a second
    /// with a line of the counts so far.
    pub(super) async fn run(self: &Arc<Self>, mut tell: impl FnMut(&str)) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut running = JoinSet::new();
        // The order of the kinds within a hundred is a stride, so that they are spread.
        for n in (0u64..).map(|n| n / 100 * 100 + n * STRIDE % 100) {
            ticks.tick().await;
            while running.try_join_next().is_some() {}
            if running.len() < MAX_AT_ONCE {
                let load = self.clone();
                running.spawn(boxed(async move { load.send(Kind::nth(n)).await }));
            }
            let sent = self.counts.sent.fetch_add(1, Relaxed);
            if sent.is_multiple_of(40) {
                tell(&self.describe());
            }
        }
    }

    fn describe(&self) -> String {
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        let sent = count(&self.counts.sent);
        let hits = count(&self.counts.hits) * 100 / sent.max(1);
        let failed = count(&self.counts.failed);
        format!("{sent} requests, {hits} % answered from the cache, {failed} failed")
    }

    async fn send(&self, kind: Kind) {
        // A request that cannot be built or sent counts as failed too.
        let response = match self.request(kind) {
            Some(request) => self.client.send(&request).await.ok(),
            None => None,
        };
        let failed = match &response {
            None => true,
            Some(response) => response.status >= StatusCode::INTERNAL_SERVER_ERROR,
        };
        self.counts.failed.fetch_add(failed.into(), Relaxed);
        let is_hit = response.is_some_and(|response| {
            let status = response.header("cache-status").unwrap_or_default();
            status.starts_with("ccfs-gateway; hit")
        });
        self.counts.hits.fetch_add(is_hit.into(), Relaxed);
    }

    fn request(&self, kind: Kind) -> Option<ClientRequest> {
        let [shanghai, berlin] = &self.credentials[..] else {
            return None;
        };
        let (credential, request) = match kind {
            Kind::Popular(call) => (shanghai, self.recording(&format!("1637742300-{call}"))),
            Kind::New(n) => (shanghai, self.recording(&format!("1637742400-{n}"))),
            // The stand-in has no recording of a callId that begins so.
            Kind::Unknown(n) => (shanghai, self.recording(&format!("0000{n}"))),
            Kind::Berlin(n) => (berlin, self.recording(&format!("1637742500-{n}"))),
            Kind::Download(n) => (shanghai, self.download(n)),
            Kind::Forged => (shanghai, self.recording("1637742300-1")),
            Kind::Invalid => {
                let window = TimeWindow {
                    begin: "2021-11-25 00:00:00",
                    ..SHANGHAI
                };
                (shanghai, self.recording_in("1637742300-1", window))
            }
        };
        let signed = request?
            .sign(credential, DEFAULT_SIGNED_FIELDS, now())
            .ok()?;
        if kind != Kind::Forged {
            return Some(signed);
        }
        let ak = credential.access_key().as_str();
        let forged = format!("auth-v2/{ak}/{:.0}/host/{}", now(), "0".repeat(64));
        Some(signed.with_authorization(HeaderValue::from_str(&forged).ok()?))
    }

    fn recording(&self, call_id: &str) -> Option<ClientRequest> {
        self.recording_in(call_id, SHANGHAI)
    }

    fn recording_in(&self, call_id: &str, window: TimeWindow) -> Option<ClientRequest> {
        let query = RecordingQuery {
            call_id,
            begin: window.begin,
            end: window.end,
            version: window.version,
        };
        ClientRequest::recording(&self.url, &query).ok()
    }

    fn download(&self, n: u64) -> Option<ClientRequest> {
        let url = format!("{}/CCFS/resource/ccfs/downloadRecordFile", self.url);
        let name = format!("Y:/record/{n}_size-262144.wav");
        let body = serde_json::json!({
            "request": { "version": "2.0" },
            "msgBody": { "fileName": name },
        });
        ClientRequest::post(&url, body.to_string()).ok()
    }
}

/// 40 requests a second.
const INTERVAL: Duration = Duration::from_millis(25);
const MAX_AT_ONCE: usize = 64;
/// Has no common divisor with 100.
const STRIDE: u64 = 37;
const POPULAR: f64 = 200.0;
/// What the nodes take for an answer: the third is on another site.
const DELAYS_MS: [u64; 3] = [12, 15, 40];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_requests_are_the_mix() {
        let kinds: Vec<_> = (0..100).map(Kind::nth).collect();
        let count = |is: fn(&Kind) -> bool| kinds.iter().filter(|kind| is(kind)).count();
        assert_eq!(count(|kind| matches!(kind, Kind::Popular(0..200))), 64);
        assert_eq!(count(|kind| matches!(kind, Kind::New(_))), 24);
        assert_eq!(count(|kind| *kind == Kind::Forged), 1);
        let mut order: Vec<_> = (0..100u64).map(|n| n * STRIDE % 100).collect();
        order.sort_unstable();
        assert!(order.into_iter().eq(0..100));
    }
}
