//! Connections that the gateway closes: drains and connection limits.

use super::support::*;
use crate::drain::Phase;
use crate::metrics::ConnectionEndReason;

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn a_notified_drain_closes_after_the_next_response_and_still_accepts() {
    let server = TestListener::plain().await;
    let mut idle = server.connect().await;
    idle.send(GET).await;
    assert!(!idle.response().await.closes);
    server.trigger.advance(Phase::Notified);
    idle.send(GET).await;
    assert!(idle.response().await.closes);
    assert_eq!(idle.read_to_end().await, "");
    let mut new = server.connect().await;
    new.send(GET).await;
    assert!(new.response().await.closes);
}

#[tokio::test]
async fn a_closing_drain_closes_idle_connections_and_lets_requests_finish() {
    let server = TestListener::plain().await;
    let mut idle = server.connect().await;
    idle.send(GET).await;
    idle.response().await;
    let mut busy = server.connect().await;
    busy.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await;
    within(server.handler.arrived.notified()).await;
    server.trigger.advance(Phase::Closing);
    assert_eq!(idle.read_to_end().await, "");
    server.handler.resume.notify_one();
    let response = busy.response().await;
    assert_eq!((response.status, response.closes), (200, true));
    drop(busy);
    within(server.trigger.completed()).await;
    assert!(
        tokio::net::TcpStream::connect(server.address)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn the_backlog_is_served_when_the_listener_closes() {
    let server = TestListener::plain().await;
    // Nothing yields in between: the accept loop has not run when the drain begins.
    let sockets: Vec<_> = (0..5)
        .map(|_| std::net::TcpStream::connect(server.address).unwrap())
        .collect();
    server.trigger.advance(Phase::Closing);
    for socket in sockets {
        socket.set_nonblocking(true).unwrap();
        let mut client = Client(tokio::net::TcpStream::from_std(socket).unwrap());
        client.send(GET).await;
        assert!(client.response().await.closes);
    }
}

#[tokio::test]
async fn a_forced_drain_does_not_wait() {
    let server = TestListener::plain().await;
    let mut busy = server.connect().await;
    busy.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await;
    within(server.handler.arrived.notified()).await;
    server.trigger.advance(Phase::Forced);
    assert_eq!(busy.read_to_end().await, "");
    within(server.trigger.completed()).await;
}

#[tokio::test]
async fn at_the_limit_the_longest_idle_is_evicted_and_the_busy_stay() {
    let mut options = Options::default();
    options.limits.connections = 3;
    let server = TestListener::new(options).await;
    let mut busy = server.connect().await;
    busy.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await;
    within(server.handler.arrived.notified()).await;
    let mut old = server.connect().await;
    old.send(GET).await;
    old.response().await;
    // Idleness is measured in milliseconds.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let mut young = server.connect().await;
    young.send(GET).await;
    young.response().await;

    let mut new = server.connect().await;
    new.send(GET).await;
    assert_eq!(new.response().await.status, 200);
    assert_eq!(
        old.read_to_end().await,
        "",
        "the longest idle one is closed"
    );
    assert_eq!(server.count(ConnectionEndReason::ConnectionLimit), 1);
    young.send(GET).await;
    assert_eq!(young.response().await.status, 200);
    server.handler.resume.notify_one();
    assert_eq!(busy.response().await.status, 200);
    assert_eq!(server.limits.connection_count(), 3);
}

#[tokio::test]
async fn if_all_are_busy_the_new_connection_is_closed() {
    let mut options = Options::default();
    options.limits.per_address = 1;
    let server = TestListener::new(options).await;
    let mut busy = server.connect().await;
    busy.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await;
    within(server.handler.arrived.notified()).await;
    assert_eq!(server.connect().await.read_to_end().await, "");
    assert_eq!(server.count(ConnectionEndReason::AddressLimit), 1);
    server.handler.resume.notify_one();
    assert_eq!(busy.response().await.status, 200);
}

#[tokio::test]
async fn stalled_handshakes_are_evicted() {
    let mut options = Options::tls();
    options.limits.handshakes = 2;
    let server = TestListener::new(options).await;
    let mut first = server.connect().await;
    let _second = server.connect().await;
    let mut client = server.connect_tls("http/1.1").await;
    client.send(GET).await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(first.read_to_end().await, "");
}

#[tokio::test]
async fn the_proxy_header_names_the_client() {
    let mut options = Options {
        proxied: true,
        ..Options::default()
    };
    options.limits.per_address = 1;
    let server = TestListener::new(options).await;
    let request = "GET /address HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut one = server.connect().await;
    one.send(format!(
        "PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n{request}"
    ))
    .await;
    assert_eq!(one.response().await.body, "192.0.2.7");
    let mut local = server.connect().await;
    local.send(format!("PROXY UNKNOWN\r\n{request}")).await;
    assert_eq!(local.response().await.body, "127.0.0.1");
    let mut two = server.connect().await;
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\xc0\0\x02\x01\x12\x67\x01\xbb";
    two.send([&header[..], request.as_bytes()].concat()).await;
    assert_eq!(two.response().await.body, "192.0.2.8");
    let mut none = server.connect().await;
    none.send(request).await;
    assert_eq!(none.read_to_end().await, "");
}
