//! Termination signals of commands.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Registers for SIGINT and SIGTERM; the future resolves at the first of them.
///
/// # Errors
/// Returns an error if the handlers cannot be installed.
pub(super) fn shutdown_signal() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
