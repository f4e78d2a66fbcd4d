//! The thread of the signature doctor: of lowest priority, so that it takes no time from requests.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::gateway::{GatewayState, Rounds};
use crate::metrics::Shard;

/// The running thread. Dropping it ends the thread after its current case.
#[derive(Debug)]
pub(super) struct DoctorThread {
    _stop: SyncSender<()>,
    _thread: JoinHandle<()>,
}

impl DoctorThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// The thread could not be started.
    pub(super) fn start(shared: &Arc<GatewayState>, metrics: Arc<Shard>) -> io::Result<Self> {
        let (stop, stopped) = sync_channel::<()>(1);
        let shared = shared.clone();
        let thread = std::thread::Builder::new()
            .name("doctor".to_owned())
            .spawn(move || {
                lower_priority();
                let mut rounds = Rounds::new();
                while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                    let snapshot = shared.snapshot.load_full();
                    shared.doctor.tick(&mut rounds, &snapshot, &metrics);
                }
            })?;
        Ok(Self {
            _stop: stop,
            _thread: thread,
        })
    }
}

/// Gives this thread the lowest priority. On Linux a thread id stands for its thread alone (setpriority(2)).
fn lower_priority() {
    let thread = rustix::thread::gettid();
    // Only lowers the priority, which is always allowed.
    let lowered = rustix::process::setpriority_process(Some(thread), LOWEST_PRIORITY);
    let _ = lowered;
}

/// The largest nice value.
const LOWEST_PRIORITY: i32 = 19;

/// How often a case is worked on.
const TICK: Duration = Duration::from_millis(100);
