//! State notifications to the service manager (sd_notify(3)). A service manager that reads nothing, such
//! as a frozen one, makes nobody wait: what its socket does not take at once is queued and sent later.

use std::collections::VecDeque;
use std::fmt::Write;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sd_notify::NotifyState;

use crate::task::boxed;

/// Sends notifications; does nothing by default. A failed one is logged and otherwise ignored.
#[derive(Clone, Debug, Default)]
pub(super) struct Notifier(Option<Arc<Socket>>);

/// The socket of the service manager.
#[derive(Debug)]
struct Socket {
    address: SocketAddr,
    /// Notifications that it has not taken yet, oldest first; a task sends them unless this is empty.
    queued: Mutex<VecDeque<String>>,
}

impl Notifier {
    /// Returns the notifier for `$NOTIFY_SOCKET`, if it is set.
    pub(super) fn from_environment() -> Self {
        let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
            return Self::default();
        };
        let path = path.as_bytes();
        let address = match path.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(Path::new(std::ffi::OsStr::from_bytes(path))),
        };
        match address {
            Ok(address) => Self::to(address),
            Err(error) => {
                tracing::warn!(%error, "the service manager cannot be notified");
                Self::default()
            }
        }
    }

    fn to(address: SocketAddr) -> Self {
        Self(Some(Arc::new(Socket {
            address,
            queued: Mutex::default(),
        })))
    }

    /// All sockets are bound and the configuration is in force; also ends a reload.
    pub(super) fn ready(&self, status: &str) {
        self.notify(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// A reload has started. [`Notifier::ready`] ends it, also when it was rejected.
    pub(super) fn reloading(&self) {
        // Without the timestamp systemd attributes the message to an earlier reload.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.notify(&[NotifyState::Reloading, now]);
        }
    }

    /// The drain has started.
    pub(super) fn stopping(&self, status: &str) {
        self.notify(&[NotifyState::Stopping, NotifyState::Status(status)]);
    }

    /// The drain continues and may take `longer` from now.
    pub(super) fn extend_timeout(&self, status: &str, longer: Duration) {
        let micros = u32::try_from(longer.as_micros()).unwrap_or(u32::MAX);
        self.notify(&[
            NotifyState::ExtendTimeoutUsec(micros),
            NotifyState::Status(status),
        ]);
    }

    /// All workers respond.
    pub(super) fn watchdog(&self) {
        self.notify(&[NotifyState::Watchdog]);
    }

    /// Sends now, or later if the socket is full. Never waits.
    fn notify(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.0 else {
            return;
        };
        let mut message = String::new();
        for state in states {
            // Writing to a string cannot fail.
            let _ = writeln!(message, "{state}");
        }
        let mut queued = socket.queued.lock();
        if !queued.is_empty() {
            if queued.len() == MAX_QUEUED {
                queued.pop_front();
            }
            queued.push_back(message);
            return;
        }
        if socket.send_or_log(&message) == Sent::Blocked {
            tracing::warn!("the service manager reads no notifications");
            queued.push_back(message);
            #[expect(
                clippy::disallowed_methods,
                reason = "ends once the queue is empty, or with the process"
            )]
            tokio::spawn(boxed(send_later(socket.clone())));
        }
    }
}

/// What became of a notification.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sent {
    /// Sent, or lost.
    Done,
    /// The socket is full.
    Blocked,
}

impl Socket {
    fn send_or_log(&self, message: &str) -> Sent {
        match self.send(message) {
            Ok(()) => Sent::Done,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Blocked,
            Err(error) => {
                tracing::warn!(%error, "the service manager cannot be notified");
                Sent::Done
            }
        }
    }

    fn send(&self, message: &str) -> io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        // A datagram is sent whole or not at all.
        socket
            .send_to_addr(message.as_bytes(), &self.address)
            .map(drop)
    }
}

/// Sends what is queued.
async fn send_later(socket: Arc<Socket>) {
    loop {
        tokio::time::sleep(RETRY_INTERVAL).await;
        let mut queued = socket.queued.lock();
        while let Some(message) = queued.front() {
            if socket.send_or_log(message) == Sent::Blocked {
                break;
            }
            queued.pop_front();
        }
        if queued.is_empty() {
            return;
        }
    }
}

/// Notifications that wait at most; the oldest are dropped. Our choice: the states of a reload and a
/// drain, and a minute of watchdog pings.
const MAX_QUEUED: usize = 64;

/// How often a full socket is tried again. Our choice: short beside every timeout of a service manager.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    /// A frozen systemd: its socket is full, and a blocking send would wait until it reads again.
    #[tokio::test]
    async fn a_service_manager_that_reads_nothing_makes_nobody_wait() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let other = UnixDatagram::unbound().unwrap();
        other.set_nonblocking(true).unwrap();
        let mut others = 0;
        while other.send_to(b"of another service", &path).is_ok() {
            others += 1;
        }
        let notifier = Notifier::to(SocketAddr::from_pathname(&path).unwrap());
        notifier.reloading();
        for _ in 0..2 * MAX_QUEUED {
            notifier.watchdog();
        }
        notifier.ready("serving, generation 2");
        manager.set_nonblocking(true).unwrap();
        let mut read = Vec::new();
        let all = async {
            let mut buffer = [0; 200];
            while !read
                .last()
                .is_some_and(|last: &String| last.starts_with("READY=1"))
            {
                match manager.recv(&mut buffer) {
                    Ok(length) => {
                        read.push(String::from_utf8_lossy(&buffer[..length]).into_owned())
                    }
                    // Its queue holds fewer than are sent.
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all)
            .await
            .unwrap();
        let read = read.split_off(others);
        assert_eq!(read.len(), MAX_QUEUED);
        assert_eq!(
            read.last().unwrap(),
            "READY=1\nSTATUS=serving, generation 2\n"
        );
        // In order; the oldest are gone.
        assert!(
            read[..MAX_QUEUED - 1]
                .iter()
                .all(|message| message == "WATCHDOG=1\n")
        );
        // From then on directly.
        notifier.stopping("draining");
        let mut buffer = [0; 200];
        let length = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"STOPPING=1\nSTATUS=draining\n");
    }
}
