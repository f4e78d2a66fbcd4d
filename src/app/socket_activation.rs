//! Listening sockets that a service manager opened for us (socket activation): it holds them open over
//! our restarts, so that no connection is refused meanwhile.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use socket2::SockRef;

/// Sockets by name (`FileDescriptorName=`), none at all unless handed over.
///
/// They are kept for the life of the process and lent out as duplicates: what a reload gave back, the
/// next one can take again.
#[derive(Debug, Default)]
pub(super) struct InheritedSockets(Vec<InheritedSocket>);

#[derive(Debug)]
struct InheritedSocket {
    name: String,
    local_address: SocketAddr,
    socket: TcpListener,
}

/// A socket was handed over under the right name, but for another address.
#[derive(Debug, thiserror::Error)]
#[error(
    "the service manager handed over a socket on {inherited}, the configuration says {configured}; \
     make ListenStream= of the socket unit and the configuration agree"
)]
pub(super) struct AddressMismatch {
    inherited: SocketAddr,
    configured: SocketAddr,
}

impl InheritedSockets {
    /// Takes the sockets that are meant for this process.
    pub(super) fn from_environment() -> io::Result<Self> {
        // Checks that they are for this process (LISTEN_PID); the next line would not insist.
        let names: Vec<_> = sd_notify::listen_fds_with_names()?
            .map(|(_, name)| name)
            .collect();
        if names.is_empty() {
            return Ok(Self::default());
        }
        let mut handed = ListenFd::from_env();
        let mut all = Vec::with_capacity(names.len());
        for (index, name) in names.into_iter().enumerate() {
            let said = |error: io::Error| {
                io::Error::new(
                    error.kind(),
                    format!("the socket {name:?} that was handed over: {error}"),
                )
            };
            let Some(socket) = handed.take_tcp_listener(index).map_err(said)? else {
                continue;
            };
            if !SockRef::from(&socket).is_listener().map_err(said)? {
                return Err(said(io::Error::other("it does not listen (Accept=yes?)")));
            }
            socket.set_nonblocking(true).map_err(said)?;
            let local = socket.local_addr().map_err(said)?;
            all.push(InheritedSocket {
                name,
                local_address: local,
                socket,
            });
        }
        Ok(Self(all))
    }

    /// The socket of that name for that address, if any was handed over under the name.
    ///
    /// # Errors
    /// Only one for another address was; or it cannot be duplicated.
    pub(super) fn try_clone(
        &self,
        name: &str,
        address: SocketAddr,
    ) -> io::Result<Option<TcpListener>> {
        let mut named = self
            .0
            .iter()
            .filter(|handed| handed.name == name)
            .peekable();
        let Some(first) = named.peek().map(|handed| handed.local_address) else {
            return Ok(None);
        };
        match named.find(|handed| covers(handed.local_address, address)) {
            Some(handed) => handed.socket.try_clone().map(Some),
            None => Err(io::Error::new(
                io::ErrorKind::AddrNotAvailable,
                AddressMismatch {
                    inherited: first,
                    configured: address,
                },
            )),
        }
    }

    /// Names that `is_used` does not know: their clients wait for nobody.
    pub(super) fn warn_unused(&self, is_used: impl Fn(&str) -> bool) {
        for handed in self.0.iter().filter(|handed| !is_used(&handed.name)) {
            tracing::warn!(
                name = handed.name,
                address = %handed.local_address,
                "a socket was handed over that belongs to no listener: connections to it will hang; \
                 FileDescriptorName= must be the name of a listener, or \"admin\""
            );
        }
    }

    /// Says that a socket which is no longer served cannot be closed by us.
    pub(super) fn warn_if_still_open(&self, listener: &str, local: SocketAddr) {
        if self.0.iter().any(|handed| handed.local_address == local) {
            tracing::warn!(
                listener,
                address = %local,
                "the listener is gone, but the service manager keeps its socket open: connections to \
                 it will hang until the socket unit is stopped"
            );
        }
    }
}

/// `ListenStream=28443` opens `[::]` for both families, which is what `0.0.0.0` in the configuration
/// means as well; port 0 takes what there is.
fn covers(handed: SocketAddr, configured: SocketAddr) -> bool {
    let both_any = handed.ip().is_unspecified() && configured.ip().is_unspecified();
    let same_ip = handed.ip().to_canonical() == configured.ip().to_canonical();
    (both_any || same_ip) && (configured.port() == 0 || configured.port() == handed.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handed(name: &str) -> (InheritedSockets, SocketAddr) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = socket.local_addr().unwrap();
        let handed = InheritedSocket {
            name: name.to_owned(),
            local_address: local,
            socket,
        };
        (InheritedSockets(vec![handed]), local)
    }

    #[test]
    fn a_socket_is_lent_by_name_and_address_again_and_again() {
        let (sockets, local) = handed("ccfs");
        for _ in 0..2 {
            let lent = sockets.try_clone("ccfs", local).unwrap().unwrap();
            assert_eq!(lent.local_addr().unwrap(), local);
        }
        assert!(sockets.try_clone("other", local).unwrap().is_none());
    }

    #[test]
    fn another_address_under_the_name_is_refused_with_both_addresses() {
        let (sockets, local) = handed("ccfs");
        let configured: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let error = sockets
            .try_clone("ccfs", configured)
            .unwrap_err()
            .to_string();
        assert!(error.contains(&local.to_string()), "{error}");
        assert!(error.contains("127.0.0.1:1"), "{error}");
    }

    #[test]
    fn the_wildcards_of_both_families_are_one() {
        let cases = [
            ("[::]:443", "0.0.0.0:443", true),
            ("0.0.0.0:443", "0.0.0.0:443", true),
            ("127.0.0.1:443", "127.0.0.1:0", true),
            ("[::ffff:127.0.0.1]:443", "127.0.0.1:443", true),
            ("[::]:443", "127.0.0.1:443", false),
            ("[::]:443", "0.0.0.0:444", false),
        ];
        for (handed, configured, expected) in cases {
            let covered = covers(handed.parse().unwrap(), configured.parse().unwrap());
            assert_eq!(covered, expected, "{handed} for {configured}");
        }
    }
}
