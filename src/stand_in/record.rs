//! Records what a stand-in received: counts, and the last requests. Tests and the demo inspect it and
//! wait for it instead of sleeping.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use tokio::sync::watch;

use parking_lot::Mutex;

/// One request as it was received.
#[derive(Clone)]
pub struct RecordedRequest {
    /// The number of its connection, from 1 in the order of acceptance.
    pub connection: u64,
    /// The method.
    pub method: Method,
    /// The raw target; may contain a play token.
    pub target: String,
    /// The header fields in their order, names in lower case.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The first 64 KiB of the body.
    pub body: Bytes,
    /// Length of the whole body in bytes.
    pub body_length: u64,
    /// The access key, if the signature was valid.
    pub access_key: Option<String>,
    /// Why it was rejected, if it was: an error of the head or of the signature.
    pub rejection: Option<String>,
}

impl RecordedRequest {
    /// Returns the value of the field of this name; `None` if it is absent or repeated.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(given, _)| given == name);
        let (_, value) = values.next()?;
        values.next().is_none().then(|| value.to_str().ok())?
    }

    /// Returns the target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

impl fmt::Debug for RecordedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("connection", &self.connection)
            .field("method", &self.method)
            .field("path", &self.path())
            .field("headers", &self.headers)
            .field("body_length", &self.body_length)
            .field("access_key", &self.access_key)
            .field("refused", &self.rejection)
            .finish_non_exhaustive()
    }
}

/// Records requests. Bounded: a fixed set of interface names, and `max_requests` requests.
#[derive(Debug)]
pub(super) struct Recorder {
    max_requests: usize,
    state: Mutex<RecorderState>,
    changes: watch::Sender<u64>,
}

impl Recorder {
    pub(super) fn new(keep: usize) -> Self {
        Self {
            max_requests: keep,
            state: Mutex::default(),
            changes: watch::channel(0).0,
        }
    }

    /// Counts a request; `received` is called only if requests are recorded.
    pub(super) fn record(
        &self,
        interface: &'static str,
        refused: bool,
        received: impl FnOnce() -> RecordedRequest,
    ) {
        let received = (self.max_requests > 0).then(received);
        {
            let mut state = self.state.lock();
            *state.counts.entry(interface).or_default() += 1;
            state.rejected += u64::from(refused);
            if state.requests.len() >= self.max_requests {
                state.requests.pop_front();
            }
            state.requests.extend(received);
        }
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Counts an accepted connection and returns its number, from 1.
    pub(super) fn connected(&self) -> u64 {
        let number = {
            let mut state = self.state.lock();
            state.connections += 1;
            state.open_connections += 1;
            state.connections
        };
        self.changes.send_modify(|changes| *changes += 1);
        number
    }

    pub(super) fn disconnected(&self) {
        self.state.lock().open_connections -= 1;
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Counts a request on a connection that must not be reused.
    pub(super) fn count_forbidden_reuse(&self) {
        self.state.lock().forbidden_reuses += 1;
    }

    pub(super) fn with_state<T>(&self, read: impl FnOnce(&RecorderState) -> T) -> T {
        read(&self.state.lock())
    }

    pub(super) fn clear(&self) {
        let mut state = self.state.lock();
        *state = RecorderState {
            connections: state.connections,
            open_connections: state.open_connections,
            ..RecorderState::default()
        };
    }

    /// Waits until `done` returns true; false if the timeout passes first.
    pub(super) async fn wait(
        &self,
        done: impl Fn(&RecorderState) -> bool,
        deadline: Duration,
    ) -> bool {
        let mut changes = self.changes.subscribe();
        let waiting = changes.wait_for(|_| self.with_state(&done));
        matches!(tokio::time::timeout(deadline, waiting).await, Ok(Ok(_)))
    }
}

#[derive(Debug, Default)]
pub(super) struct RecorderState {
    pub(super) counts: BTreeMap<&'static str, u64>,
    pub(super) requests: VecDeque<RecordedRequest>,
    pub(super) connections: u64,
    pub(super) open_connections: u64,
    pub(super) rejected: u64,
    pub(super) forbidden_reuses: u64,
}

impl RecorderState {
    pub(super) fn count(&self, interface: &str) -> u64 {
        self.counts.get(interface).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(target: &str) -> RecordedRequest {
        RecordedRequest {
            connection: 1,
            method: Method::POST,
            target: target.into(),
            headers: Vec::new(),
            body: Bytes::new(),
            body_length: 0,
            access_key: None,
            rejection: None,
        }
    }

    #[tokio::test]
    async fn the_record_counts_all_and_keeps_the_last() {
        let recorder = Recorder::new(1_000);
        for number in 0..=1_000 {
            recorder.record("a", false, || received(&number.to_string()));
        }
        let first = recorder.with_state(|state| state.requests[0].target.clone());
        assert_eq!(
            (first.as_str(), recorder.with_state(|s| s.count("a"))),
            ("1", 1001)
        );
        assert!(
            recorder
                .wait(|s| s.count("a") > 1_000, Duration::ZERO)
                .await
        );
        assert!(!recorder.wait(|s| s.count("b") > 0, Duration::ZERO).await);
        recorder.clear();
        assert_eq!(recorder.with_state(|s| s.count("a")), 0);
    }

    #[test]
    fn a_token_in_a_target_is_not_printed() {
        let text = format!("{:?}", received("/playVoice?st=secret"));
        assert!(
            text.contains("/playVoice") && !text.contains("secret"),
            "{text}"
        );
    }
}
