//! Socket activation (sd_listen_fds(3)): listening sockets that the service manager opened. The
//! service manager keeps them open across restarts of the gateway, so that no connection is refused in
//! between.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use socket2::SockRef;

/// The inherited sockets by name (`FileDescriptorName=`); empty without socket activation.
///
/// They are kept for the life of the process and used as duplicates, so that a listener removed by one
/// reload can be opened again by a later one.
#[derive(Debug, Default)]
pub(super) struct InheritedSockets(Vec<InheritedSocket>);

#[derive(Debug)]
struct InheritedSocket {
    name: String,
    local_address: SocketAddr,
    socket: TcpListener,
}

/// An inherited socket has the listener's name but another address.
#[derive(Debug, thiserror::Error)]
#[error(
    "the service manager passed a socket on {inherited}, the configuration says {configured}; \
     make ListenStream= of the socket unit and the configuration agree"
)]
pub(super) struct AddressMismatch {
    inherited: SocketAddr,
    configured: SocketAddr,
}

impl InheritedSockets {
    /// Takes the sockets passed to this process.
    ///
    /// # Errors
    /// A passed descriptor is invalid or does not listen.
    pub(super) fn from_environment() -> io::Result<Self> {
        // Checks LISTEN_PID, which `ListenFd::from_env` below does not require.
        let names: Vec<_> = sd_notify::listen_fds_with_names()?
            .map(|(_, name)| name)
            .collect();
        if names.is_empty() {
            return Ok(Self::default());
        }
        let mut inherited = ListenFd::from_env();
        let mut all = Vec::with_capacity(names.len());
        for (index, name) in names.into_iter().enumerate() {
            let with_name = |error: io::Error| {
                io::Error::new(
                    error.kind(),
                    format!("the inherited socket {name:?}: {error}"),
                )
            };
            let Some(socket) = inherited.take_tcp_listener(index).map_err(with_name)? else {
                continue;
            };
            if !SockRef::from(&socket).is_listener().map_err(with_name)? {
                return Err(with_name(io::Error::other(
                    "it does not listen; the socket unit must not set Accept=yes",
                )));
            }
            socket.set_nonblocking(true).map_err(with_name)?;
            let local = socket.local_addr().map_err(with_name)?;
            all.push(InheritedSocket {
                name,
                local_address: local,
                socket,
            });
        }
        Ok(Self(all))
    }

    /// Returns a duplicate of the socket with this name and address; `None` if no socket has the name.
    ///
    /// # Errors
    /// Sockets of that name exist, but none has the address; or the duplication failed.
    pub(super) fn try_clone(
        &self,
        name: &str,
        address: SocketAddr,
    ) -> io::Result<Option<TcpListener>> {
        let mut named = self
            .0
            .iter()
            .filter(|inherited| inherited.name == name)
            .peekable();
        let Some(first) = named.peek().map(|inherited| inherited.local_address) else {
            return Ok(None);
        };
        match named.find(|inherited| covers(inherited.local_address, address)) {
            Some(inherited) => inherited.socket.try_clone().map(Some),
            None => Err(io::Error::new(
                io::ErrorKind::AddrNotAvailable,
                AddressMismatch {
                    inherited: first,
                    configured: address,
                },
            )),
        }
    }

    /// Warns about inherited sockets that no listener uses; clients of such a socket hang.
    pub(super) fn warn_unused(&self, is_used: impl Fn(&str) -> bool) {
        for inherited in self.0.iter().filter(|inherited| !is_used(&inherited.name)) {
            tracing::warn!(
                name = inherited.name,
                address = %inherited.local_address,
                "an inherited socket belongs to no listener: connections to it will hang; \
                 FileDescriptorName= must be the name of a listener, or \"admin\""
            );
        }
    }

    /// Warns that the socket of a removed listener stays open in the service manager.
    pub(super) fn warn_if_still_open(&self, listener: &str, local: SocketAddr) {
        if self
            .0
            .iter()
            .any(|inherited| inherited.local_address == local)
        {
            tracing::warn!(
                listener,
                address = %local,
                "the listener was removed, but the service manager keeps its socket open: connections to \
                 it will hang until the socket unit is stopped"
            );
        }
    }
}

/// Whether an inherited socket serves a configured address. `ListenStream=28443` opens `[::]` for both
/// families, so it matches `0.0.0.0` as well; a configured port 0 matches any port.
fn covers(inherited: SocketAddr, configured: SocketAddr) -> bool {
    let both_unspecified = inherited.ip().is_unspecified() && configured.ip().is_unspecified();
    let same_ip = inherited.ip().to_canonical() == configured.ip().to_canonical();
    (both_unspecified || same_ip)
        && (configured.port() == 0 || configured.port() == inherited.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inherited_socket(name: &str) -> (InheritedSockets, SocketAddr) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = socket.local_addr().unwrap();
        let inherited = InheritedSocket {
            name: name.to_owned(),
            local_address: local,
            socket,
        };
        (InheritedSockets(vec![inherited]), local)
    }

    #[test]
    fn a_socket_is_cloned_by_name_and_address_repeatedly() {
        let (sockets, local) = inherited_socket("ccfs");
        for _ in 0..2 {
            let clone = sockets.try_clone("ccfs", local).unwrap().unwrap();
            assert_eq!(clone.local_addr().unwrap(), local);
        }
        assert!(sockets.try_clone("other", local).unwrap().is_none());
    }

    #[test]
    fn another_address_of_the_name_is_rejected_with_both_addresses() {
        let (sockets, local) = inherited_socket("ccfs");
        let configured: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let error = sockets
            .try_clone("ccfs", configured)
            .unwrap_err()
            .to_string();
        assert!(error.contains(&local.to_string()), "{error}");
        assert!(error.contains("127.0.0.1:1"), "{error}");
    }

    #[test]
    fn wildcards_of_both_families_match() {
        let cases = [
            ("[::]:443", "0.0.0.0:443", true),
            ("0.0.0.0:443", "0.0.0.0:443", true),
            ("127.0.0.1:443", "127.0.0.1:0", true),
            ("[::ffff:127.0.0.1]:443", "127.0.0.1:443", true),
            ("[::]:443", "127.0.0.1:443", false),
            ("[::]:443", "0.0.0.0:444", false),
        ];
        for (inherited, configured, expected) in cases {
            let covered = covers(inherited.parse().unwrap(), configured.parse().unwrap());
            assert_eq!(covered, expected, "{inherited} for {configured}");
        }
    }
}
