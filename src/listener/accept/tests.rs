use std::net::Ipv4Addr;
use std::sync::Mutex;

use tokio::net::TcpStream;

use super::*;
use crate::drain;
use crate::listener::ConnectionLimitSettings;
use crate::metrics::Metrics;

#[tokio::test]
async fn accepted_sockets_hold_little_and_show_ipv4_as_such() {
    let Ok(listener) = TcpListener::bind("[::]:0").await else {
        // A machine without IPv6.
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let settings = ConnectionLimitSettings {
        connections: 1,
        per_address: 1,
        handshakes: 1,
    };
    let limits = ConnectionLimits::new(settings, Metrics::default().add_shard());
    let (trigger, watch) = drain::channel();
    let accepted = Mutex::new(Vec::new());
    let dispatch = |connection| accepted.lock().unwrap().push(connection);
    // The loop is polled first: sockets inherit the options that the listener has when they connect.
    let connect = async {
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
        trigger.advance(Phase::Closing);
        client.unwrap()
    };
    let accepting = accept_loop(listener, limits, |_| false, dispatch, watch);
    let (result, client) = tokio::join!(accepting, connect);
    result.unwrap();
    let accepted = accepted.into_inner().unwrap();
    let [connection] = &accepted[..] else {
        panic!("one connection");
    };
    assert_eq!(connection.peer_address, client.local_addr().unwrap());
    let socket = SockRef::from(&connection.stream);
    assert_eq!(socket.tcp_notsent_lowat().unwrap(), MAX_UNSENT);
}

#[test]
fn only_mapped_addresses_change() {
    for (address, expected) in [
        ("[::ffff:192.0.2.7]:1", "192.0.2.7:1"),
        ("192.0.2.7:1", "192.0.2.7:1"),
        ("[fe80::1%3]:1", "[fe80::1%3]:1"),
        ("[::1]:1", "[::1]:1"),
    ] {
        let address: SocketAddr = address.parse().unwrap();
        assert_eq!(canonical(address), expected.parse().unwrap());
    }
}
