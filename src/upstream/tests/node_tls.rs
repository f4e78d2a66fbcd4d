//! Sessions and certificates of nodes.

use super::test_server::{Behavior, TestServer, ok_response, settings};
use super::*;
use crate::upstream::connect::connect_for_check;

/// Starts nodes that close each connection after a response.
async fn closing_nodes(count: usize) -> Vec<TestServer> {
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(TestServer::start(|_| Behavior::RespondAndClose(ok_response())).await);
    }
    nodes
}

/// More nodes than rustls' default store of sessions holds, all verified by one name.
#[tokio::test]
async fn each_node_resumes_its_own_sessions() {
    const NODES: usize = 40;
    let nodes = closing_nodes(NODES).await;
    let addresses: Vec<_> = nodes.iter().map(|node| node.address).collect();
    let cluster = Cluster::new(settings(&addresses));
    let upstream = TestUpstream::new();
    for _ in 0..3 * NODES {
        upstream
            .send_buffered(&request_to(QUERY, &cluster))
            .await
            .unwrap();
    }
    for node in &nodes {
        let resumed: Vec<_> = node
            .received()
            .iter()
            .map(|request| request.resumed)
            .collect();
        assert_eq!(resumed, [false, true, true]);
    }
}

#[tokio::test]
async fn a_full_handshake_can_be_demanded_and_shows_the_certificate() {
    let nodes = closing_nodes(1).await;
    let cluster = Cluster::new(settings(&[nodes[0].address]));
    let upstream = TestUpstream::new();
    let node = cluster.nodes().remove(0);
    assert!(node.certificate().is_none());
    for _ in 0..2 {
        upstream
            .send_buffered(&request_to(QUERY, &cluster))
            .await
            .unwrap();
    }
    let certificate = node.certificate().unwrap();
    assert_eq!(certificate.names, ["node.test"]);
    assert!(certificate.validity.is_some() && certificate.pin.is_some());
    node.forget_sessions();
    connect_for_check(&node, cluster.settings()).await.unwrap();
    for _ in 0..2 {
        upstream
            .send_buffered(&request_to(QUERY, &cluster))
            .await
            .unwrap();
    }
    let resumed: Vec<_> = nodes[0]
        .received()
        .iter()
        .map(|request| request.resumed)
        .collect();
    assert_eq!(resumed, [false, true, false, true]);
}
