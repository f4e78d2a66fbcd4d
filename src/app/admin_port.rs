//! The admin interface's port, served on the control runtime.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio_util::task::AbortOnDropHandle;

use super::port::BoundSocket;
use super::{ADMIN, App, StartError, listener_setup};
use crate::admin::{self, Admin, AdminState};
use crate::config::Config;
use crate::drain::{self, Trigger};
use crate::findings::Timing;
use crate::listener::{self, ConnectionLimits, ListenerContext};
use crate::task::boxed;
use crate::telemetry::AuditLog;

/// The admin interface's open port; serves on the current runtime until drained.
#[derive(Debug)]
pub(super) struct AdminPort {
    /// The bound address.
    pub(super) local_address: SocketAddr,
    /// Stops accepting and closes the connections.
    pub(super) drain: Trigger,
    /// TLS, limits and handler of new connections; a reload replaces it.
    pub(super) context: Arc<ArcSwap<ListenerContext<Admin>>>,
}

impl AdminPort {
    /// Starts to accept connections, and to record the history that the status page shows.
    pub(super) fn open(bound: BoundSocket, context: ListenerContext<Admin>) -> Self {
        let (drain, watch) = drain::channel();
        let limits = ConnectionLimits::new(listener_setup::admin_limits(), context.metrics.clone());
        let admin = context.handler.clone();
        let context = Arc::new(ArcSwap::from_pointee(context));
        let current = context.clone();
        let accept = async move {
            let socket = tokio::net::TcpListener::from_std(bound.socket)?;
            let connections = watch.clone();
            let dispatch = |accepted| {
                let serve = listener::serve(current.load_full(), accepted, connections.clone(), ());
                #[expect(clippy::disallowed_methods, reason = "ends with the admin's drain")]
                tokio::spawn(boxed(serve));
            };
            listener::accept_loop(socket, limits, |_| false, dispatch, watch).await
        };
        #[expect(clippy::disallowed_methods, reason = "ends with the admin's drain")]
        tokio::spawn(boxed(async move {
            let ended = tokio::select! {
                ended = accept => ended,
                () = admin.keep_history() => Ok(()),
            };
            if let Err(error) = ended {
                tracing::error!(%error, "the admin interface stopped accepting");
            }
        }));
        Self {
            local_address: bound.local_address,
            drain,
            context,
        }
    }
}

impl App {
    /// Opens the admin interface, if it is configured.
    pub(super) fn open_admin(&mut self, config: &Config) -> Result<(), StartError> {
        let Some(bind) = config.admin.bind else {
            return Ok(());
        };
        let what = "the admin interface";
        let inherited = &self.service_manager.sockets;
        let bound = BoundSocket::inherit_or_bind(what, ADMIN, bind, inherited)?;
        let token = config.admin.token.clone();
        let admin = Admin::new(bound.local_address, token, self.admin_state());
        let context = self.admin_context(Arc::new(admin), config)?;
        self.admin = Some(AdminPort::open(bound, context));
        Ok(())
    }

    /// Returns the parts of the gateway that the admin interface and the findings read.
    fn admin_state(&self) -> AdminState {
        AdminState {
            shared: self.shared.clone(),
            metrics: self.metrics.clone(),
            config: self.config.clone(),
            started: self.started,
            drain: self.drain_state.1.clone(),
            commands: self.commands(),
            reloads: self.reloads.clone(),
            ports: self.open_ports.clone(),
            audit: self.audit_log.as_ref().map(AuditLog::queue),
            config_file: self
                .source
                .as_ref()
                .map(|path| path.display().to_string().into()),
            findings: self.findings.clone(),
            journal: self.journal.clone(),
            tail: self.tail.clone(),
        }
    }

    /// Starts to watch for findings, with or without an admin interface.
    pub(super) fn start_findings(&mut self, timing: Timing) {
        let watch = admin::watch_findings(self.admin_state(), timing);
        #[expect(clippy::disallowed_methods, reason = "ends with its handle")]
        let task = tokio::spawn(boxed(watch));
        self.findings_task = Some(AbortOnDropHandle::new(task));
    }

    /// Returns the context that a new configuration gives the open admin port, if there is one.
    ///
    /// # Errors
    /// Its TLS configuration was rejected.
    pub(super) fn plan_admin(
        &self,
        config: &Config,
    ) -> Result<Option<ListenerContext<Admin>>, String> {
        let Some(port) = &self.admin else {
            return Ok(None);
        };
        let context = self.admin_context(port.context.load().handler.clone(), config);
        context.map(Some).map_err(|error| error.to_string())
    }

    fn admin_context(
        &self,
        admin: Arc<Admin>,
        config: &Config,
    ) -> Result<ListenerContext<Admin>, StartError> {
        let tls = config.admin.tls.as_ref();
        let tls = tls
            .map(|tls| self.session_tickets.server_config(tls, &[]))
            .transpose()
            .map_err(|error| StartError::Tls(ADMIN.into(), error))?;
        Ok(listener_setup::admin_context(
            admin,
            tls,
            &config.limits,
            self.control.clone(),
        ))
    }
}
