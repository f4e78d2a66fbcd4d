//! What a stand-in received: counts, and the last requests as they came. For tests and the demo to
//! look at, and to wait on, so that nobody has to sleep.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use tokio::sync::watch;

use super::lock::Mutex;

/// One request as it came.
#[derive(Clone)]
pub struct RecordedRequest {
    /// The number of its connection, from 1 in the order of acceptance.
    pub connection: u64,
    /// The method.
    pub method: Method,
    /// The raw target; a play token may stand in it.
    pub target: String,
    /// The fields in their order, names in lower case.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body, of which at most the first 64 KiB are kept.
    pub body: Bytes,
    /// How long the body was.
    pub body_length: u64,
    /// Who signed it, if the signature was right.
    pub access_key: Option<String>,
    /// Why it was refused, if it was: what is wrong with the head, or with the signature.
    pub rejection: Option<String>,
}

impl RecordedRequest {
    /// The value of the only field of this name; `None` if there is none, or several.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(given, _)| given == name);
        let (_, value) = values.next()?;
        values.next().is_none().then(|| value.to_str().ok())?
    }

    /// The target without its query.
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

/// Keeps the record. Bounded: a closed set of names, and so many of the last requests.
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

    /// Counts a request; `received` is asked for only if it is kept.
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

    /// Numbers an accepted connection, from 1.
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

    /// A request came on a connection that was not fit for another one.
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

    /// Waits until `done`, at most `deadline`; says whether it came to that.
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
