//! How connections end when the gateway wants them to: drains and caps.

use super::stage::*;
use crate::drain::Phase;
use crate::metrics::ConnectionEnded;

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn an_announced_drain_closes_by_the_next_answer_and_still_accepts() {
    let stage = Stage::plain().await;
    let mut idle = stage.connect().await;
    idle.send(GET).await;
    assert!(!idle.answer().await.closes);
    stage.trigger.advance(Phase::Announced);
    idle.send(GET).await;
    assert!(idle.answer().await.closes);
    assert_eq!(idle.rest().await, "");
    let mut new = stage.connect().await;
    new.send(GET).await;
    assert!(new.answer().await.closes);
}

#[tokio::test]
async fn a_closing_drain_ends_idle_connections_and_lets_requests_finish() {
    let stage = Stage::plain().await;
    let mut idle = stage.connect().await;
    idle.send(GET).await;
    idle.answer().await;
    let mut busy = stage.connect().await;
    busy.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await;
    within(stage.toy.arrived.notified()).await;
    stage.trigger.advance(Phase::Closing);
    assert_eq!(idle.rest().await, "");
    stage.toy.go_on.notify_one();
    let answer = busy.answer().await;
    assert_eq!((answer.status, answer.closes), (200, true));
    drop(busy);
    within(stage.trigger.all_gone()).await;
    assert!(tokio::net::TcpStream::connect(stage.address).await.is_err());
}

#[tokio::test]
async fn what_was_queued_when_the_listener_closes_is_still_served() {
    let stage = Stage::plain().await;
    // Nothing yields in between: the accept loop has not run when the drain begins.
    let sockets: Vec<_> = (0..5)
        .map(|_| std::net::TcpStream::connect(stage.address).unwrap())
        .collect();
    stage.trigger.advance(Phase::Closing);
    for socket in sockets {
        socket.set_nonblocking(true).unwrap();
        let mut client = Client(tokio::net::TcpStream::from_std(socket).unwrap());
        client.send(GET).await;
        assert!(client.answer().await.closes);
    }
}

#[tokio::test]
async fn a_forced_end_waits_for_nobody() {
    let stage = Stage::plain().await;
    let mut busy = stage.connect().await;
    busy.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await;
    within(stage.toy.arrived.notified()).await;
    stage.trigger.advance(Phase::Forced);
    assert_eq!(busy.rest().await, "");
    within(stage.trigger.all_gone()).await;
}

#[tokio::test]
async fn at_the_cap_the_longest_idle_makes_room_and_the_busy_stay() {
    let mut options = Options::default();
    options.caps.connections = 3;
    let stage = Stage::new(options).await;
    let mut busy = stage.connect().await;
    busy.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await;
    within(stage.toy.arrived.notified()).await;
    let mut old = stage.connect().await;
    old.send(GET).await;
    old.answer().await;
    // Idleness is measured in milliseconds.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let mut young = stage.connect().await;
    young.send(GET).await;
    young.answer().await;

    let mut new = stage.connect().await;
    new.send(GET).await;
    assert_eq!(new.answer().await.status, 200);
    assert_eq!(old.rest().await, "", "the longest idle one is closed");
    assert_eq!(stage.count(ConnectionEnded::Cap), 1);
    young.send(GET).await;
    assert_eq!(young.answer().await.status, 200);
    stage.toy.go_on.notify_one();
    assert_eq!(busy.answer().await.status, 200);
    assert_eq!(stage.caps.connections(), 3);
}

#[tokio::test]
async fn if_all_are_busy_the_new_one_goes() {
    let mut options = Options::default();
    options.caps.per_address = 1;
    let stage = Stage::new(options).await;
    let mut busy = stage.connect().await;
    busy.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await;
    within(stage.toy.arrived.notified()).await;
    assert_eq!(stage.connect().await.rest().await, "");
    assert_eq!(stage.count(ConnectionEnded::AddressCap), 1);
    stage.toy.go_on.notify_one();
    assert_eq!(busy.answer().await.status, 200);
}

#[tokio::test]
async fn handshakes_that_do_not_get_on_make_room_for_others() {
    let mut options = Options::tls();
    options.caps.handshakes = 2;
    let stage = Stage::new(options).await;
    let mut first = stage.connect().await;
    let _second = stage.connect().await;
    let mut client = stage.connect_tls("http/1.1").await;
    client.send(GET).await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(first.rest().await, "");
}

#[tokio::test]
async fn a_proxy_names_the_client() {
    let mut options = Options {
        proxied: true,
        ..Options::default()
    };
    options.caps.per_address = 1;
    let stage = Stage::new(options).await;
    let request = "GET /address HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut one = stage.connect().await;
    one.send(format!(
        "PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n{request}"
    ))
    .await;
    assert_eq!(one.answer().await.body, "192.0.2.7");
    let mut local = stage.connect().await;
    local.send(format!("PROXY UNKNOWN\r\n{request}")).await;
    assert_eq!(local.answer().await.body, "127.0.0.1");
    let mut two = stage.connect().await;
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\xc0\0\x02\x01\x12\x67\x01\xbb";
    two.send([&header[..], request.as_bytes()].concat()).await;
    assert_eq!(two.answer().await.body, "192.0.2.8");
    let mut none = stage.connect().await;
    none.send(request).await;
    assert_eq!(none.rest().await, "");
}
