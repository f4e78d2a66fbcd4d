//! The thread that writes a log. Its output may be a FIFO without a reader or a disk that hangs, so that its
//! start and its end take a bounded time.

use std::io;
use std::sync::mpsc::sync_channel;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// A running writer thread.
#[derive(Debug)]
pub(super) struct WriterThread(JoinHandle<()>);

impl WriterThread {
    /// Starts the thread `name`, which runs `open` and then `write` with its result. Returns once it is open.
    ///
    /// # Errors
    /// `open` failed, or did not end within `OPEN_TIMEOUT`, or no thread can be started.
    pub(super) fn start<W>(
        name: &str,
        open: impl FnOnce() -> io::Result<W> + Send + 'static,
        write: impl FnOnce(W) + Send + 'static,
    ) -> io::Result<Self> {
        let (opened, result) = sync_channel(1);
        let thread = Builder::new()
            .name(name.to_owned())
            .spawn(move || match open() {
                Ok(writer) => {
                    let _ = opened.send(Ok(()));
                    write(writer);
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                }
            })?;
        let opened = result.recv_timeout(OPEN_TIMEOUT);
        opened.unwrap_or_else(|_| {
            let seconds = OPEN_TIMEOUT.as_secs();
            let text = format!(
                "not open after {seconds} s: a FIFO without a reader, or a disk that hangs"
            );
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        })?;
        Ok(Self(thread))
    }

    /// Waits for the thread, which was told to end; returns whether it did within `CLOSE_TIMEOUT`.
    pub(super) fn ends_in_time(&self) -> bool {
        let deadline = now() + CLOSE_TIMEOUT;
        while !self.0.is_finished() {
            if now() >= deadline {
                return false;
            }
            std::thread::sleep(CLOSE_POLL);
        }
        true
    }
}

/// Reads the clock of a writer thread.
#[expect(
    clippy::disallowed_methods,
    reason = "bounds the waiting for an output"
)]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// How long the start waits for the output to open. Our choice: a disk that hangs longer is down.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the shutdown waits for the last lines. Our choice: a disk that is alive takes the buffers
/// within milliseconds.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How often the shutdown checks whether the last lines are written.
const CLOSE_POLL: Duration = Duration::from_millis(2);
