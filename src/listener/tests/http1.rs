//! HTTP/1.1 over plain and TLS sockets.

use super::stage::*;

#[tokio::test]
async fn keep_alive_requests_are_answered_over_tls() {
    let stage = Stage::new(Options::tls()).await;
    let mut client = stage.connect_tls("http/1.1").await;
    for _ in 0..3 {
        client.send("GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "GET /a?b=c x"));
        assert!(!answer.closes);
        assert!(answer.head.contains("\r\ndate: "));
    }
    client
        .send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.body, "abc");
}

#[tokio::test]
async fn an_illegal_head_gets_the_envelope_after_earlier_answers() {
    let stage = Stage::plain().await;
    let mut client = stage.connect().await;
    client
        .send("GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.body, "GET /1 x");
    let refusal = client.answer().await;
    assert_eq!((refusal.status, refusal.closes), (400, true));
    assert_eq!(refusal.body, "there is more than one Host");
    assert_eq!(client.rest().await, "");
}
