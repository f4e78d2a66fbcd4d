//! What a change of configuration does to existing connections.

use super::test_server::{Behavior, TestServer, ok_response, settings};
use super::*;

#[tokio::test]
async fn a_tls_session_is_resumed() {
    let node = TestServer::start(|_| Behavior::RespondAndClose(ok_response())).await;
    let cluster = test_server::cluster(&[&node]);
    let upstream = TestUpstream::new();
    for _ in 0..2 {
        upstream
            .send_buffered(&request_to(QUERY, &cluster))
            .await
            .unwrap();
    }
    // The first one resumes too, if another test ran before: all test nodes have one certificate.
    let last = &node.received()[1];
    assert!(last.resumed && last.index == 0);
}

#[tokio::test]
async fn connections_and_sessions_survive_a_reload_unless_tls_changes() {
    let node = TestServer::responding(ok_response()).await;
    let upstream = TestUpstream::new();
    let before = test_server::cluster(&[&node]);
    upstream
        .send_buffered(&request_to(QUERY, &before))
        .await
        .unwrap();

    // Read again from the same files: another value with equal content.
    let anew = || Arc::new(rustls::ClientConfig::clone(&settings(&[]).tls));
    let mut same = settings(&[node.address]);
    same.tls = anew();
    let same = Cluster::from_previous(same, &before);
    drop(before);
    upstream
        .send_buffered(&request_to(QUERY, &same))
        .await
        .unwrap();
    assert_eq!(node.received()[1].index, 1, "the same connection");

    let mut other = settings(&[node.address]);
    (other.tls, other.tls_digest) = (anew(), [1; 32]);
    let other = Cluster::from_previous(other, &same);
    drop(same);
    upstream
        .send_buffered(&request_to(QUERY, &other))
        .await
        .unwrap();
    assert_eq!(node.received()[2].index, 0, "a connection of the new kind");
    eventually("the old one is closed", || node.open_connections() == 1).await;
}

#[tokio::test]
async fn removed_nodes_leave_nothing_behind() {
    let stays = TestServer::responding(ok_response()).await;
    let upstream = TestUpstream::new();
    let mut cluster = test_server::cluster(&[&stays]);
    let mut gone = Vec::new();
    for _ in 0..20 {
        let guest = TestServer::responding(ok_response()).await;
        cluster = Cluster::from_previous(settings(&[stays.address, guest.address]), &cluster);
        for _ in 0..2 {
            upstream
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
    assert!(upstream.upstream.pool.node_count() <= 2, "nor in the pool");
}
