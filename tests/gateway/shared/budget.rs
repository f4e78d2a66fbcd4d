//! One budget of an access key over all replicas: what responses say about it.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::redis::Redis;
use super::{PATIENT, another, first};

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn what_is_left_is_right_to_the_unit_over_replicas() {
    let redis = Redis::start().await;
    let rate = "rate_limit = { per_hour = 60, burst = 20 }";
    let one = first(&redis, PATIENT, rate).await;
    let replicas = [Arc::new(another(&one).await), Arc::new(one)];
    let mut asks = JoinSet::new();
    for number in 0..24 {
        let replica = replicas[number % 2].clone();
        asks.spawn(async move { replica.get_recording(&format!("unit-{number}")).await });
    }
    let (mut left, mut refused) = (Vec::new(), 0);
    for response in asks.join_all().await {
        let state = response.header("ratelimit").unwrap();
        let tokens = state.strip_prefix("\"ak\";r=").unwrap();
        let tokens: u32 = tokens.split(';').next().unwrap().parse().unwrap();
        match response.status.as_u16() {
            429 => {
                assert_eq!(tokens, 0);
                refused += 1;
            }
            status => {
                assert_eq!(status, 200);
                left.push(tokens);
            }
        }
    }
    left.sort_unstable();
    assert_eq!((left, refused), ((0..20).collect(), 4));
}
