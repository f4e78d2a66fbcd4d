//! Fault injection: which faults apply to which requests. Can be changed while the stand-in runs; each
//! request takes its faults once.

use std::collections::HashSet;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::flow_limits::{FlowClass, FlowLimit, FlowLimits, FlowPermit};

/// A fault. Content faults replace the response, time faults delay it, shape faults change its framing,
/// and wire faults replace it by raw bytes (the first wire fault of a request applies).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    /// Content: a valid JSON response of at least this many bytes.
    BigResponse(usize),
    /// Wire: the connection is closed before the first byte.
    CloseBeforeResponse,
    /// Wire: the connection is closed after a complete response without `Connection: close`, so that a
    /// pooled connection is stale when it is reused.
    CloseAfterResponse,
    /// Wire: the connection is closed in the middle of a body with Content-Length.
    CloseInBody,
    /// Wire: the connection is closed in the middle of the head.
    CloseInHead,
    /// Shape: the response is chunked.
    Chunked,
    /// Time: a delay before the body.
    DelayBody(Duration),
    /// Time: a delay before the head.
    DelayHead(Duration),
    /// Time: the body is sent in chunks of this many bytes, with this interval.
    Drip(usize, Duration),
    /// Content: flow control, 0300008 for downloads, 0300009 otherwise; the request is not executed.
    FlowControl,
    /// Wire: the response is not HTTP.
    GarbageHttp,
    /// Content: the body is not JSON, with correct length and type.
    GarbageJson,
    /// Wire: no response; the connection stays open.
    Hang,
    /// Wire: nothing after the first half of the body; the connection stays open.
    HangInBody,
    /// Time: the response waits for [`Faults::release`] or [`Faults::clear`].
    Hold,
    /// Shape: this header field is added.
    Header(&'static str, &'static str),
    /// Shape: header fields that a proxy must not forward, one of them named in `Connection`.
    HopByHopHeaders,
    /// Wire: an interim response (103) before the final one.
    Interim,
    /// Wire: both `Content-Length` and `Transfer-Encoding: chunked`.
    ContentLengthAndChunked,
    /// Wire: a NUL in the value of a header field.
    NulInHeaderValue,
    /// Wire: a TCP reset before the first byte.
    Reset,
    /// Wire: a TCP reset in the middle of the body.
    ResetInBody,
    /// Content: this resultCode.
    ResultCode(String),
    /// Content: this body, of this type.
    Body(&'static str, String),
    /// Content: this HTTP status with an HTML page; 401 with the JSON of CC-FS.
    Status(u16),
    /// Wire: a second response without a request follows the first; the connection stays open.
    ExtraResponse,
    /// Wire: two different `Content-Length` fields.
    ConflictingContentLengths,
    /// Wire: a valid response that is delimited by the close of the connection.
    UntilClose,
}

/// The requests that a fault applies to, among those of its scope.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum When {
    /// All.
    Always,
    /// Every n-th: the n-th, the 2n-th, and so on.
    Every(u64),
    /// The next n.
    Next(u64),
}

/// What happens to a connection before the TLS handshake.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AcceptBehavior {
    /// It is served.
    #[default]
    Serve,
    /// It is reset as soon as it is accepted.
    Reset,
    /// It is accepted and the handshake never starts, as with a hung process.
    Stall,
}

/// The faults of one stand-in, and the call IDs that are unknown to it.
#[derive(Debug)]
pub struct Faults {
    state: Mutex<FaultState>,
    flow_limits: FlowLimits,
    release_generation: watch::Sender<u64>,
}

impl Faults {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::default(),
            flow_limits: FlowLimits::default(),
            release_generation: watch::channel(0).0,
        }
    }

    /// Injects a fault into requests to CC-FS interfaces, and so not into health checks.
    pub fn inject(&self, fault: Fault, when: When) {
        self.add(fault, when, Scope::Interfaces);
    }

    /// Injects a fault into one interface, named by the tail of its path, e.g. `getRecordFileUrlFromObs`.
    pub fn inject_on(&self, interface: &str, fault: Fault, when: When) {
        self.add(fault, when, Scope::Only(interface.to_owned()));
    }

    /// Injects a fault into every request, health checks included.
    pub fn inject_everywhere(&self, fault: Fault, when: When) {
        self.add(fault, when, Scope::AllRequests);
    }

    /// Sets what happens to new connections before the TLS handshake.
    pub fn set_accept_behavior(&self, admission: AcceptBehavior) {
        self.state.lock().accept_behavior = admission;
    }

    /// Sets what the node takes of one class of requests; the rest is refused without any other fault.
    pub fn set_flow_limit(&self, class: FlowClass, limit: FlowLimit) {
        self.flow_limits.set(class, limit);
    }

    /// Returns how many requests passed the limits of [`Faults::set_flow_limit`], and how many were
    /// refused.
    pub fn flow_counts(&self) -> (u64, u64) {
        self.flow_limits.counts()
    }

    /// Responds with 0300012 for this callId, as for a recording that is not yet synchronised.
    pub fn add_unknown_call(&self, call_id: &str) {
        self.state.lock().unknown_calls.insert(call_id.to_owned());
    }

    /// Reverts [`Faults::add_unknown_call`].
    pub fn remove_unknown_call(&self, call_id: &str) {
        self.state.lock().unknown_calls.remove(call_id);
    }

    /// Releases the requests that currently wait because of [`Fault::Hold`].
    pub fn release(&self) {
        self.release_generation
            .send_modify(|generation| *generation += 1);
    }

    /// Removes all faults and flow limits, and releases held requests. Unknown call IDs stay unknown.
    pub fn clear(&self) {
        for class in [FlowClass::Download, FlowClass::Query] {
            self.flow_limits.set(class, FlowLimit::default());
        }
        {
            let mut state = self.state.lock();
            state.rules.clear();
            state.accept_behavior = AcceptBehavior::Serve;
        }
        self.release();
    }

    /// Returns how many faults were applied.
    pub fn injected(&self) -> u64 {
        self.state.lock().injected
    }

    pub(super) fn accept_behavior(&self) -> AcceptBehavior {
        self.state.lock().accept_behavior
    }

    pub(super) fn is_unknown(&self, call_id: &str) -> bool {
        call_id.starts_with("0000") || self.state.lock().unknown_calls.contains(call_id)
    }

    /// Takes a request of this class, or refuses it.
    pub(super) fn admit(&self, class: FlowClass, access_key: Option<&str>) -> Option<FlowPermit> {
        self.flow_limits.admit(class, access_key, Instant::now())
    }

    /// Takes the faults of one request to `interface` (`None`: no CC-FS interface).
    pub(super) fn activate(&self, interface: Option<&str>) -> ActiveFaults {
        let mut state = self.state.lock();
        let faults: Vec<Fault> = state
            .rules
            .iter_mut()
            .filter_map(|rule| rule.activate(interface))
            .collect();
        state
            .rules
            .retain(|rule| rule.when != When::Next(rule.requests_seen));
        state.injected += faults.len() as u64;
        // Subscribed under the lock, so that this request sees every later release.
        let gate = self.release_generation.subscribe();
        ActiveFaults {
            faults,
            release_generation: gate,
        }
    }

    fn add(&self, fault: Fault, when: When, scope: Scope) {
        if matches!(when, When::Every(0) | When::Next(0)) {
            return;
        }
        self.state.lock().rules.push(Rule {
            fault,
            when,
            scope,
            requests_seen: 0,
        });
    }
}

/// The faults of one request.
#[derive(Debug)]
pub(super) struct ActiveFaults {
    pub(super) faults: Vec<Fault>,
    release_generation: watch::Receiver<u64>,
}

impl ActiveFaults {
    /// Waits before the head of the response, as long as the time faults require.
    pub(super) async fn delay_head(&mut self) {
        for fault in &self.faults {
            match fault {
                Fault::DelayHead(delay) => tokio::time::sleep(*delay).await,
                // An error means that the stand-in was dropped: no release will follow.
                Fault::Hold => drop(self.release_generation.changed().await),
                _ => {}
            }
        }
    }
}

#[derive(Debug, Default)]
struct FaultState {
    rules: Vec<Rule>,
    accept_behavior: AcceptBehavior,
    unknown_calls: HashSet<String>,
    injected: u64,
}

#[derive(Debug)]
struct Rule {
    fault: Fault,
    when: When,
    scope: Scope,
    /// Number of requests of the scope so far.
    requests_seen: u64,
}

impl Rule {
    fn activate(&mut self, interface: Option<&str>) -> Option<Fault> {
        let in_scope = match &self.scope {
            Scope::AllRequests => true,
            Scope::Interfaces => interface.is_some(),
            Scope::Only(name) => interface == Some(name),
        };
        if !in_scope {
            return None;
        }
        self.requests_seen += 1;
        let applies = match self.when {
            When::Always | When::Next(_) => true,
            When::Every(n) => self.requests_seen.is_multiple_of(n),
        };
        applies.then(|| self.fault.clone())
    }
}

#[derive(Debug)]
enum Scope {
    AllRequests,
    Interfaces,
    Only(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(faults: &Faults, interface: Option<&str>, times: usize) -> Vec<usize> {
        (0..times)
            .map(|_| faults.activate(interface).faults.len())
            .collect()
    }

    #[test]
    fn a_fault_applies_to_its_scope_and_schedule() {
        let faults = Faults::new();
        faults.inject(Fault::GarbageJson, When::Next(2));
        assert_eq!(
            counts(&faults, None, 1),
            [0],
            "a health check does not count"
        );
        assert_eq!(counts(&faults, Some("a"), 4), [1, 1, 0, 0]);
        faults.inject_on("b", Fault::Status(503), When::Every(3));
        assert_eq!(counts(&faults, Some("a"), 3), [0, 0, 0]);
        assert_eq!(counts(&faults, Some("b"), 6), [0, 0, 1, 0, 0, 1]);
        faults.inject_everywhere(Fault::Hang, When::Always);
        assert_eq!(counts(&faults, None, 1), [1]);
        assert_eq!(faults.injected(), 5);
        faults.clear();
        assert_eq!(counts(&faults, Some("b"), 3), [0, 0, 0]);
    }

    #[tokio::test]
    async fn a_release_resumes_held_requests() {
        let faults = Faults::new();
        faults.inject(Fault::Hold, When::Always);
        faults.release();
        let mut held = faults.activate(Some("a"));
        let mut other = faults.activate(Some("a"));
        tokio::select! {
            biased;
            () = held.delay_head() => panic!("an earlier release must not count"),
            () = std::future::ready(()) => faults.release(),
        }
        held.delay_head().await;
        other.delay_head().await;
    }

    #[test]
    fn unknown_calls_can_be_added_and_removed() {
        let faults = Faults::new();
        assert!(faults.is_unknown("0000-1"));
        assert!(!faults.is_unknown("1-1"));
        faults.add_unknown_call("1-1");
        assert!(faults.is_unknown("1-1"));
        faults.remove_unknown_call("1-1");
        assert!(!faults.is_unknown("1-1"));
    }
}
