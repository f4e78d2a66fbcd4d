//! The store content reveals nothing, and forged content is not used.

use super::*;

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn the_store_sees_no_url_call_id_or_access_key() {
    let redis = Redis::start().await;
    let one = first(&redis, PATIENT, "rate_limit = { per_second = 50 }").await;
    let response = one.get_recording("call-that-nobody-sees").await;
    purge(&one, &format!("?ak={SHANGHAI}&call_id=another-call")).await;
    let body = String::from_utf8(response.body.to_vec()).unwrap();
    let url = body.split('"').find(|part| part.starts_with("https://"));
    let url = url.unwrap();
    let all = redis.dump().await;
    assert!(
        all.len() >= 3,
        "an answer, a budget, a purge: {}",
        all.len()
    );
    let secrets = [
        url,
        &url[..20],
        "call-that-nobody-sees",
        "another-call",
        SHANGHAI,
        "resultCode",
    ];
    for (key, value) in &all {
        for secret in secrets {
            for bytes in [key, value] {
                let shown = bytes
                    .windows(secret.len())
                    .any(|part| part == secret.as_bytes());
                assert!(!shown, "{secret} in {}", String::from_utf8_lossy(key));
            }
        }
    }
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn tampered_or_moved_values_are_misses() {
    let redis = Redis::start().await;
    let one = first(&redis, PATIENT, "").await;
    let mut store = redis.connect().await;
    let mine = one.get_recording("mine").await;
    let names = redis.response_keys().await;
    let [first_name] = names.as_slice() else {
        panic!("{names:?}");
    };
    one.get_recording("other").await;
    let names = redis.response_keys().await;
    let other_name = names.iter().find(|name| *name != first_name).unwrap();
    let get =
        async |name: &str| -> Vec<u8> { ask(&mut redis.connect().await, &["GET", name]).await };
    let (sealed, other) = (get(first_name).await, get(other_name).await);
    let mut flipped = sealed.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let cases = [
        flipped,
        other,
        sealed[..sealed.len() - 1].to_vec(),
        b"garbage".to_vec(),
        vec![0],
        vec![1; 5 << 20],
    ];
    for (n, value) in cases.into_iter().enumerate() {
        let mut set = redis_cmd("SET");
        let set = set.arg(first_name).arg(value);
        let _: () = set.query_async(&mut store).await.unwrap();
        let replica = another(&one).await;
        let before = one.recording_fetches();
        let response = replica.get_recording("mine").await;
        assert_eq!(cache_status(&response), STORED, "case {n}");
        assert_eq!(one.recording_fetches(), before + 1);
        assert_ne!(response.body, mine.body);
        assert_eq!(used(&replica, "look_up", "unusable").await, 1.0, "case {n}");
    }
    // Values of another type: the store returns errors, the gateway continues.
    for words in [["LPUSH", first_name, "x"], ["SADD", first_name, "x"]] {
        let _: i64 = ask(&mut store, &["DEL", first_name]).await;
        let _: i64 = ask(&mut store, &words).await;
        let replica = another(&one).await;
        assert_eq!(cache_status(&replica.get_recording("mine").await), STORED);
        connected(&replica).await;
    }
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn a_stale_lease_delays_but_fails_no_request() {
    let redis = Redis::start().await;
    let one = first(&redis, PATIENT, "").await;
    one.get_recording("leased").await;
    let names = redis.response_keys().await;
    let name = names[0].replace(":answer:", ":fetch:");
    purge(&one, "").await;
    let mut store = redis.connect().await;
    let _: () = ask(&mut store, &["SET", &name, "fetching"]).await;
    let response = one.get_recording("leased").await;
    assert_eq!(response.result_code().as_deref(), Some("0"));
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn an_invalid_rate_limit_value_still_limits() {
    let redis = Redis::start().await;
    let one = first(
        &redis,
        PATIENT,
        "rate_limit = { per_second = 1, burst = 50 }",
    )
    .await;
    one.get_recording("garbage-0").await;
    let mut store = redis.connect().await;
    let names: Vec<String> = ask(&mut store, &["KEYS", "ccfs-gateway:budget:*"]).await;
    for (n, garbage) in ["x", "-1", "nan", "1e999", "-1e999", ""].iter().enumerate() {
        let _: () = ask(&mut store, &["SET", &names[0], garbage]).await;
        let response = one.get_recording(&format!("garbage-{}", n + 1)).await;
        let refused = response.status == 429;
        // A rate-limit value that is exhausted far into the future counts as exhausted now, and not
        // longer.
        assert_eq!(
            refused,
            *garbage == "1e999",
            "{garbage}: {}",
            response.status
        );
        if refused {
            let wait: u64 = response.header("retry-after").unwrap().parse().unwrap();
            assert_eq!(wait, 1);
        }
    }
    assert_eq!(used(&one, "budget", "failed").await, 0.0);
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn a_forged_purge_purges_nothing() {
    let redis = Redis::start().await;
    let one = first(&redis, PATIENT, "").await;
    one.get_recording("kept-1").await;
    let mut store = redis.connect().await;
    for garbage in ["", "x", "\u{1}0123456789012345678901234567890123456789"] {
        let heard: i64 = ask(&mut store, &["PUBLISH", "ccfs-gateway:purged", garbage]).await;
        assert_eq!(heard, 1);
        let _: i64 = ask(&mut store, &["RPUSH", "ccfs-gateway:purges", garbage]).await;
    }
    let two = another(&one).await;
    for env in [&one, &two] {
        assert!(ttl(&env.get_recording("kept-1").await).is_some());
    }
}

use ::redis::cmd as redis_cmd;
