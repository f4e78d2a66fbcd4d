//! The main path: a miss, then a hit.

use crate::support::{SHANGHAI, TestEnv, signed};

#[tokio::test]
async fn a_miss_is_stored_and_the_next_one_hits() {
    let env = TestEnv::start().await;
    let first = env.get_recording("1637742300-27").await;
    assert_eq!(
        first.header("cache-status"),
        Some("ccfs-gateway; fwd=uri-miss; stored")
    );
    let second = env
        .send(&signed(env.recording("1637742300-27"), SHANGHAI))
        .await;
    let status = second.header("cache-status").unwrap();
    assert!(status.starts_with("ccfs-gateway; hit; ttl="), "{status}");
    assert_eq!(
        (first.body == second.body, env.recording_fetches()),
        (true, 1)
    );
}
