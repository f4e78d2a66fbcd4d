//! What `run` does before it listens, for `check`. Nothing stays open.

use std::io;
use std::os::unix::fs::FileTypeExt;

use super::listener_setup::SessionTickets;
use super::telemetry_setup::start_trace_exporter;
use super::{ADMIN, StartError, port};
use crate::config::{AccessLog, Config};
use crate::metrics::Metrics;

/// Builds what `run` builds before it listens. Returns warnings of what depends on the moment: addresses
/// that another process, or a running gateway with the same configuration, uses, and a pipe that `run`
/// rejects while no process reads it. The pipe is not opened: its reader would see its end.
///
/// Must be called inside a tokio runtime.
///
/// # Errors
/// What `run` would fail with.
pub fn preflight(config: &Config) -> Result<Vec<String>, StartError> {
    let tickets = SessionTickets::new();
    let tickets = tickets.map_err(|error| StartError::Tls("(any)".into(), error.into()))?;
    let admin_tls = config.admin.tls.as_ref().map(|tls| (ADMIN.into(), tls));
    let listeners = config.listeners.iter();
    let tls = listeners.map(|(name, listener)| (name.clone(), &listener.tls));
    for (name, tls) in tls.chain(admin_tls) {
        tickets
            .server_config(tls, &[])
            .map_err(|error| StartError::Tls(name, error))?;
    }
    let listeners = config.listeners.iter();
    let binds = listeners.map(|(name, listener)| (format!("listener {name}"), listener.bind));
    let admin = config.admin.bind;
    let admin = admin.map(|bind| ("the admin interface".to_owned(), bind));
    drop(
        start_trace_exporter(&config.telemetry, &Metrics::default().add_shard())
            .map_err(StartError::Traces)?,
    );
    let in_use = binds.chain(admin).filter_map(|(what, address)| {
        let error = port::listen(address).err()?;
        let note = if error.kind() == io::ErrorKind::AddrInUse {
            "; expected if a running gateway or its socket unit holds this address"
        } else {
            ""
        };
        Some(format!(
            "{what} cannot listen on {address} now: {error}{note}"
        ))
    });
    Ok(in_use
        .chain(access_log_warning(&config.telemetry.access_log))
        .collect())
}

fn access_log_warning(access_log: &AccessLog) -> Option<String> {
    let AccessLog::File(path) = access_log else {
        return None;
    };
    let is_pipe = path.metadata().ok()?.file_type().is_fifo();
    is_pipe.then(|| {
        format!(
            "the access log {} is a pipe: run starts only while a process reads it",
            path.display()
        )
    })
}
