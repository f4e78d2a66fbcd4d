//! What goes wrong, and when. Shared with whoever started the stand-in, and changeable while it
//! runs: each request asks once which faults are its own.

use std::collections::HashSet;
use std::time::Duration;

use super::lock::Mutex;
use tokio::sync::watch;

/// One thing that can go wrong. Those about content replace the answer, those about time delay it,
/// those about the wire end the connection (the first one drawn counts).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    /// Content: so many bytes of JSON, which is otherwise right.
    BigResponse(usize),
    /// Wire: an orderly end before the first byte.
    CloseBeforeResponse,
    /// Wire: an orderly end after a whole answer that did not announce it: a kept connection that
    /// is stale when it is used again.
    CloseAfterResponse,
    /// Wire: an orderly end in the middle of the body, whose length was announced.
    CloseInBody,
    /// Wire: an orderly end in the middle of the head.
    CloseInHead,
    /// Shape: the answer is chunked.
    Chunked,
    /// Time: wait before the body.
    DelayBody(Duration),
    /// Time: wait before the head.
    DelayHead(Duration),
    /// Time: the body comes in pieces of so many bytes, with a pause between them.
    Drip(usize, Duration),
    /// Content: 0300008 on downloads, 0300009 elsewhere; nothing was done.
    FlowControl,
    /// Wire: what comes is not HTTP.
    GarbageHttp,
    /// Content: what comes with a right length and type is no JSON.
    GarbageJson,
    /// Wire: no answer, ever; the connection stays.
    Hang,
    /// Wire: nothing after the first half of the body; the connection stays.
    HangInBody,
    /// Time: wait until [`Faults::release`] or [`Faults::clear`].
    Hold,
    /// Shape: fields that a proxy must not pass on, one of them named in `Connection`.
    HopByHopHeaders,
    /// Wire: an interim answer (103) before the true one.
    Interim,
    /// Wire: both `Content-Length` and `Transfer-Encoding: chunked`.
    ContentLengthAndChunked,
    /// Wire: a NUL in a field's value.
    NulInHeaderValue,
    /// Wire: a TCP reset before the first byte.
    Reset,
    /// Wire: a TCP reset in the middle of the body.
    ResetInBody,
    /// Content: this resultCode.
    ResultCode(String),
    /// Content: this HTTP status, with a page that is no JSON; 401 comes as CC-FS says it.
    Status(u16),
    /// Wire: a second answer behind the first that nobody asked for; the connection stays.
    ExtraResponse,
    /// Wire: two different `Content-Length` fields.
    ConflictingContentLengths,
    /// Wire: a right answer whose end is the end of the connection.
    UntilClose,
}

/// Which requests a fault befalls, among those of its scope.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum When {
    /// All.
    Always,
    /// Every n-th: the n-th, the 2n-th, and so on.
    Every(u64),
    /// The next n.
    Next(u64),
}

/// What a connection finds before TLS.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AcceptBehavior {
    /// It is served.
    #[default]
    Serve,
    /// A TCP reset as soon as it is accepted.
    Reset,
    /// It is accepted, and no handshake ever begins: a hung process.
    Stall,
}

/// The faults of one stand-in, and the calls it does not know.
#[derive(Debug)]
pub struct Faults {
    state: Mutex<FaultState>,
    release_generation: watch::Sender<u64>,
}

impl Faults {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::default(),
            release_generation: watch::channel(0).0,
        }
    }

    /// Befalls the CC-FS interfaces (so not the health probes).
    pub fn inject(&self, fault: Fault, when: When) {
        self.add(fault, when, Scope::Interfaces);
    }

    /// Befalls one interface, named by the tail of its path, e.g. `getRecordFileUrlFromObs`.
    pub fn inject_on(&self, interface: &str, fault: Fault, when: When) {
        self.add(fault, when, Scope::Only(interface.to_owned()));
    }

    /// Befalls every request, probes too.
    pub fn inject_everywhere(&self, fault: Fault, when: When) {
        self.add(fault, when, Scope::AllRequests);
    }

    /// What connections find before TLS, from the next one on.
    pub fn set_accept_behavior(&self, admission: AcceptBehavior) {
        self.state.lock().accept_behavior = admission;
    }

    /// Answers 0300012 for this callId, as for a recording that is not yet synchronised.
    pub fn add_unknown_call(&self, call_id: &str) {
        self.state.lock().unknown_calls.insert(call_id.to_owned());
    }

    /// Takes a [`Faults::forget`] back.
    pub fn remove_unknown_call(&self, call_id: &str) {
        self.state.lock().unknown_calls.remove(call_id);
    }

    /// Lets the requests go on that wait now because of [`Fault::Hold`].
    pub fn release(&self) {
        self.release_generation
            .send_modify(|generation| *generation += 1);
    }

    /// Ends all faults, and lets go on what they hold. Unknown calls stay unknown.
    pub fn clear(&self) {
        {
            let mut state = self.state.lock();
            state.rules.clear();
            state.accept_behavior = AcceptBehavior::Serve;
        }
        self.release();
    }

    /// How many faults befell a request so far.
    pub fn injected(&self) -> u64 {
        self.state.lock().injected
    }

    pub(super) fn accept_behavior(&self) -> AcceptBehavior {
        self.state.lock().accept_behavior
    }

    pub(super) fn is_unknown(&self, call_id: &str) -> bool {
        call_id.starts_with("0000") || self.state.lock().unknown_calls.contains(call_id)
    }

    /// The faults of one request to `interface` (`None`: no interface of CC-FS).
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
        // Subscribed under the lock: a release after this draw is seen by this request.
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

/// What befalls one request.
#[derive(Debug)]
pub(super) struct ActiveFaults {
    pub(super) faults: Vec<Fault>,
    release_generation: watch::Receiver<u64>,
}

impl ActiveFaults {
    /// Waits as long as the faults about time say, before the head of the answer.
    pub(super) async fn delay_head(&mut self) {
        for fault in &self.faults {
            match fault {
                Fault::DelayHead(delay) => tokio::time::sleep(*delay).await,
                // An error means that the stand-in is gone: nobody will release this.
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
    /// Requests of the scope so far.
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
        let befalls = match self.when {
            When::Always | When::Next(_) => true,
            When::Every(n) => self.requests_seen.is_multiple_of(n),
        };
        befalls.then(|| self.fault.clone())
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

    fn draws(faults: &Faults, interface: Option<&str>, times: usize) -> Vec<usize> {
        (0..times)
            .map(|_| faults.activate(interface).faults.len())
            .collect()
    }

    #[test]
    fn a_fault_befalls_whom_it_shall() {
        let faults = Faults::new();
        faults.inject(Fault::GarbageJson, When::Next(2));
        assert_eq!(draws(&faults, None, 1), [0], "a probe uses nothing up");
        assert_eq!(draws(&faults, Some("a"), 4), [1, 1, 0, 0]);
        faults.inject_on("b", Fault::Status(503), When::Every(3));
        assert_eq!(draws(&faults, Some("a"), 3), [0, 0, 0]);
        assert_eq!(draws(&faults, Some("b"), 6), [0, 0, 1, 0, 0, 1]);
        faults.inject_everywhere(Fault::Hang, When::Always);
        assert_eq!(draws(&faults, None, 1), [1]);
        assert_eq!(faults.injected(), 5);
        faults.clear();
        assert_eq!(draws(&faults, Some("b"), 3), [0, 0, 0]);
    }

    #[tokio::test]
    async fn what_is_held_goes_on_when_it_is_released() {
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
    fn calls_can_be_forgotten_and_learned() {
        let faults = Faults::new();
        assert!(faults.is_unknown("0000-1"));
        assert!(!faults.is_unknown("1-1"));
        faults.add_unknown_call("1-1");
        assert!(faults.is_unknown("1-1"));
        faults.remove_unknown_call("1-1");
        assert!(!faults.is_unknown("1-1"));
    }
}
