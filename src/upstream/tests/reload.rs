//! What a change of configuration does to the connections that are there.

use super::toy::{Behavior, TestServer, ok_response, settings};
use super::*;

#[tokio::test]
async fn a_session_is_resumed() {
    let node = TestServer::start(|_| Behavior::RespondAndClose(ok_response())).await;
    let cluster = toy::cluster(&[&node]);
    let sender = TestUpstream::new();
    for _ in 0..2 {
        sender
            .send_buffered(&request_to(QUERY, &cluster))
            .await
            .unwrap();
    }
    // The first one too, if another test was here before: all toys have one certificate.
    let last = &node.received()[1];
    assert!(last.resumed && last.index == 0);
}

#[tokio::test]
async fn connections_and_sessions_live_on_while_tls_stays_and_end_when_it_changes() {
    let node = TestServer::responding(ok_response()).await;
    let sender = TestUpstream::new();
    let before = toy::cluster(&[&node]);
    sender
        .send_buffered(&request_to(QUERY, &before))
        .await
        .unwrap();

    // Read again from the same files: another value, the same meaning.
    let anew = || Arc::new(rustls::ClientConfig::clone(&settings(&[]).tls));
    let mut same = settings(&[node.address]);
    same.tls = anew();
    let same = Cluster::from_previous(same, &before);
    drop(before);
    sender
        .send_buffered(&request_to(QUERY, &same))
        .await
        .unwrap();
    assert_eq!(node.received()[1].index, 1, "the same connection");

    let mut other = settings(&[node.address]);
    (other.tls, other.tls_digest) = (anew(), [1; 32]);
    let other = Cluster::from_previous(other, &same);
    drop(same);
    sender
        .send_buffered(&request_to(QUERY, &other))
        .await
        .unwrap();
    assert_eq!(node.received()[2].index, 0, "a connection of the new kind");
    eventually("the old one is closed", || node.open_connections() == 1).await;
}

#[tokio::test]
async fn nothing_is_left_of_nodes_that_came_and_went() {
    let stays = TestServer::responding(ok_response()).await;
    let sender = TestUpstream::new();
    let mut cluster = toy::cluster(&[&stays]);
    let mut gone = Vec::new();
    for _ in 0..20 {
        let guest = TestServer::responding(ok_response()).await;
        cluster = Cluster::from_previous(settings(&[stays.address, guest.address]), &cluster);
        for _ in 0..2 {
            sender
                .send_buffered(&request_to(QUERY, &cluster))
                .await
                .unwrap();
        }
        assert_eq!(guest.count(), 1);
        cluster = Cluster::from_previous(settings(&[stays.address]), &cluster);
        gone.push(guest);
    }
    eventually("their connections are closed", || {
        gone.iter().all(|guest| guest.open_connections() == 0)
    })
    .await;
    assert_eq!(stays.open_connections(), 1);
    assert!(sender.upstream.pool.node_count() <= 2, "nor in the pool");
}
