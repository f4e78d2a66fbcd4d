//! What a change of configuration does to the connections that are there.

use super::toy::{Act, Toy, ok, settings};
use super::*;

#[tokio::test]
async fn a_session_is_resumed() {
    let node = Toy::start(|_| Act::AnswerAndClose(ok())).await;
    let cluster = toy::cluster(&[&node]);
    let sender = Sender::new();
    for _ in 0..2 {
        sender.whole(&delivery(QUERY, &cluster)).await.unwrap();
    }
    // The first one too, if another test was here before: all toys have one certificate.
    let last = &node.seen()[1];
    assert!(last.resumed && last.place == 0);
}

#[tokio::test]
async fn connections_and_sessions_live_on_while_tls_stays_and_end_when_it_changes() {
    let node = Toy::answering(ok()).await;
    let sender = Sender::new();
    let before = toy::cluster(&[&node]);
    sender.whole(&delivery(QUERY, &before)).await.unwrap();

    // Read again from the same files: another value, the same meaning.
    let anew = || Arc::new(rustls::ClientConfig::clone(&settings(&[]).tls));
    let mut same = settings(&[node.address]);
    same.tls = anew();
    let same = Cluster::next(same, &before);
    drop(before);
    sender.whole(&delivery(QUERY, &same)).await.unwrap();
    assert_eq!(node.seen()[1].place, 1, "the same connection");

    let mut other = settings(&[node.address]);
    (other.tls, other.tls_identity) = (anew(), [1; 32]);
    let other = Cluster::next(other, &same);
    drop(same);
    sender.whole(&delivery(QUERY, &other)).await.unwrap();
    assert_eq!(node.seen()[2].place, 0, "a connection of the new kind");
    until("the old one is closed", || node.open() == 1).await;
}

#[tokio::test]
async fn nothing_is_left_of_nodes_that_came_and_went() {
    let stays = Toy::answering(ok()).await;
    let sender = Sender::new();
    let mut cluster = toy::cluster(&[&stays]);
    let mut gone = Vec::new();
    for _ in 0..20 {
        let guest = Toy::answering(ok()).await;
        cluster = Cluster::next(settings(&[stays.address, guest.address]), &cluster);
        for _ in 0..2 {
            sender.whole(&delivery(QUERY, &cluster)).await.unwrap();
        }
        assert_eq!(guest.count(), 1);
        cluster = Cluster::next(settings(&[stays.address]), &cluster);
        gone.push(guest);
    }
    until("their connections are closed", || {
        gone.iter().all(|guest| guest.open() == 0)
    })
    .await;
    assert_eq!(stays.open(), 1);
    assert!(sender.upstream.pool.nodes() <= 2, "nor in the pool");
}
