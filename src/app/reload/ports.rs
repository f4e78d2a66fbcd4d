//! The ports of a new configuration.

use std::sync::Arc;

use super::super::App;
use super::super::listener_setup::ListenerSetup;
use super::super::port::{BoundSocket, Port};
use super::super::shutdown::{ClosingSocket, DrainingListener};
use crate::config::Config;

/// How a listener of the new configuration gets its port.
#[derive(Debug)]
pub(super) struct ListenerPlan {
    listener: Arc<str>,
    setup: ListenerSetup,
    socket: SocketSource,
}

#[derive(Debug)]
enum SocketSource {
    /// The listener keeps its open port.
    Kept,
    /// Another listener moves to a new address and leaves its open socket to this one.
    TakenFrom(Arc<str>),
    /// A newly opened socket.
    New(BoundSocket),
}

impl App {
    /// Opens new sockets and prepares the setup of every listener.
    pub(super) async fn plan_listeners(
        &self,
        config: &Config,
    ) -> Result<Vec<ListenerPlan>, String> {
        let keeps = |name: &Arc<str>| {
            let listener = config.listeners.get(name);
            let port = self.ports.get(name);
            listener
                .zip(port)
                .is_some_and(|(listener, port)| port.matches_bind(listener.bind))
        };
        let mut plans = Vec::new();
        for (name, listener) in &config.listeners {
            let vacated_by = || {
                let mut vacated = self.ports.iter().filter(|(other, _)| !keeps(other));
                vacated.find(|(_, port)| port.local_address == listener.bind)
            };
            let socket = if keeps(name) {
                SocketSource::Kept
            } else if let Some((other, _)) = vacated_by() {
                SocketSource::TakenFrom(other.clone())
            } else {
                for draining in &self.draining_listeners {
                    draining.release_address(listener.bind).await;
                }
                let bound = self.bind_listener(name, listener.bind);
                SocketSource::New(bound.map_err(|error| error.to_string())?)
            };
            let setup = self.setup_listener(name, listener, &config.limits);
            plans.push(ListenerPlan {
                listener: name.clone(),
                setup: setup.map_err(|error| error.to_string())?,
                socket,
            });
        }
        Ok(plans)
    }

    /// Replaces the open ports; removed ports drain in tasks of their own.
    pub(super) fn replace_ports(&mut self, config: &Config, plans: Vec<ListenerPlan>) {
        // Every listener of the new configuration gets its port.
        let mut old = std::mem::take(&mut self.ports);
        for plan in plans {
            let from = match &plan.socket {
                SocketSource::Kept => Some(plan.listener.clone()),
                SocketSource::TakenFrom(other) => Some(other.clone()),
                SocketSource::New(_) => None,
            };
            let port = from.and_then(|from| Some((old.remove(&from)?, from)));
            let port = match (port, plan.socket) {
                (Some((port, _)), SocketSource::Kept) => {
                    let setup = plan.setup.with_connections_of(&port.setup.load());
                    port.setup.store(Arc::new(setup));
                    port
                }
                (Some((port, from)), _) => {
                    let before = port.setup.swap(Arc::new(plan.setup));
                    let connections = before.connection_drain.clone();
                    self.draining_listeners.push(DrainingListener::start(
                        from,
                        connections,
                        None,
                        &config.server,
                    ));
                    port
                }
                (None, SocketSource::New(bound)) => Port::open(
                    bound,
                    plan.setup,
                    self.connection_limits.clone(),
                    &self.workers,
                ),
                // Unreachable: each port is planned for once.
                (None, SocketSource::Kept | SocketSource::TakenFrom(_)) => continue,
            };
            self.ports.insert(plan.listener, port);
        }
        // The remaining ports belong to removed listeners.
        for (name, port) in old {
            self.service_manager
                .sockets
                .warn_if_still_open(&name, port.local_address);
            let connections = port.setup.load().connection_drain.clone();
            let socket = Some(ClosingSocket {
                local_address: port.local_address,
                accept_drain: Arc::new(port.accept_drain),
            });
            self.draining_listeners.push(DrainingListener::start(
                name,
                connections,
                socket,
                &config.server,
            ));
        }
    }
}
