//! The store hangs, dies, or never existed: every request is answered in time.

use std::time::{Duration, Instant};

use super::*;

/// Maximum time a request waits for a store that hangs.
const TIMEOUT: Duration = Duration::from_millis(200);
const SHORT: &str = "timeout = \"200ms\"\nseal_key_file = \"seal\"";

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn a_hanging_store_delays_one_request_and_recovers() {
    let redis = Redis::start().await;
    let one = Arc::new(first(&redis, SHORT, "rate_limit = { per_second = 1000 }").await);
    one.get_recording("hangs-0").await;
    redis.hang(true);
    let begun = Instant::now();
    let mut asks = JoinSet::new();
    for n in 0..20 {
        let env = one.clone();
        asks.spawn(async move { env.get_recording(&format!("hangs-{}", n + 1)).await });
    }
    while let Some(response) = asks.join_next().await {
        assert_eq!(response.unwrap().result_code().as_deref(), Some("0"));
    }
    let together = begun.elapsed();
    assert!(together < Duration::from_secs(3), "{together:?}");
    up(&one, 0.0).await;
    // The store is known to be unavailable: requests no longer wait for it.
    let begun = Instant::now();
    assert_eq!(cache_status(&one.get_recording("hangs-21").await), STORED);
    assert!(begun.elapsed() < TIMEOUT, "{:?}", begun.elapsed());
    assert!(used(&one, "look_up", "skipped").await >= 1.0);
    // A purge that cannot be published is not lost.
    let page = purge(&one, "?call_id=hangs-0").await;
    assert_eq!(page.json()["shared"], false);
    let status = page::get(one.bound.admin.unwrap(), "/status").await.json();
    assert_eq!(status["shared"]["state"], "away", "{status}");
    assert_eq!(status["shared"]["untold_purges"], 1, "{status}");
    redis.hang(false);
    connected(&one).await;
    let two = another(&one).await;
    assert_eq!(cache_status(&two.get_recording("hangs-0").await), STORED);
    assert!(ttl(&one.get_recording("hangs-0").await).is_some());
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn a_dead_store_fails_no_request_and_recovers() {
    let mut redis = Redis::start().await;
    let one = first(&redis, SHORT, "rate_limit = { per_second = 1, burst = 3 }").await;
    one.get_recording("dies-0").await;
    redis.kill();
    // The local rate limit continues from its state.
    let mut statuses = Vec::new();
    for n in 1..5 {
        statuses.push(
            one.get_recording(&format!("dies-{n}"))
                .await
                .status
                .as_u16(),
        );
    }
    assert_eq!(statuses[..2], [200, 200]);
    assert!(statuses.contains(&429), "{statuses:?}");
    up(&one, 0.0).await;
    assert!(ttl(&one.get_recording("dies-0").await).is_some());
    redis.start_again().await;
    connected(&one).await;
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn a_replica_applies_missed_purges_after_reconnecting() {
    let redis = Redis::start().await;
    let one = first(&redis, PATIENT, "").await;
    let two = another(&one).await;
    two.get_recording("missed-1").await;
    one.get_recording("missed-1").await;
    // The second replica loses its connection and cannot reconnect for a moment.
    let mut store = redis.connect().await;
    let _: () = ask(&mut store, &["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    purge(&one, "?call_id=missed-1").await;
    let before = one.recording_fetches();
    eventually("the other replica has received it", async || {
        two.get_recording("missed-1").await;
        one.recording_fetches() > before
    })
    .await;
}

#[tokio::test]
async fn without_a_store_the_gateway_works_alone() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let setup = Setup {
        tables: format!(
            "[shared]\nurl = \"redis://127.0.0.1:{port}\"\nseal_key_file = \"{SHANGHAI}\""
        ),
        ..Setup::default()
    };
    let env = setup.start().await;
    up(&env, 0.0).await;
    assert_eq!(cache_status(&env.get_recording("alone-1").await), STORED);
    assert!(ttl(&env.get_recording("alone-1").await).is_some());
    let admin = env.bound.admin.unwrap();
    eventually("it reports the reason", async || {
        let status = page::get(admin, "/status").await.json();
        status["shared"]["reason"].is_string()
    })
    .await;
    assert_eq!(purge(&env, "").await.json()["shared"], false);
    assert_eq!(cache_status(&env.get_recording("alone-1").await), STORED);
}

/// A server that accepts connections and never responds.
#[tokio::test]
async fn a_server_that_is_no_store_fails_no_request() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let setup = Setup {
        tables: format!(
            "[shared]\nurl = \"redis://127.0.0.1:{port}\"\nseal_key_file = \"{SHANGHAI}\""
        ),
        ..Setup::default()
    };
    let env = setup.start().await;
    assert_eq!(cache_status(&env.get_recording("silent-1").await), STORED);
    assert!(ttl(&env.get_recording("silent-1").await).is_some());
}

/// A server that rejects all commands is as good as none: it is left, for a reason that is shown and
/// counted, and looked for again.
#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn a_server_that_rejects_all_commands_is_left_until_it_accepts_them() {
    let redis = Redis::start().await;
    let one = first(&redis, PATIENT, "").await;
    let two = another(&one).await;
    let mut store = redis.connect().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed_port = closed.local_addr().unwrap().port().to_string();
    drop(closed);
    let set = |name, value| vec!["CONFIG", "SET", name, value];
    let cases = [
        (
            vec![set("maxmemory", "1")],
            vec![set("maxmemory", "0")],
            ("OOM", "oom"),
        ),
        (
            vec![set("min-replicas-to-write", "1")],
            vec![set("min-replicas-to-write", "0")],
            ("NOREPLICAS", "rejected"),
        ),
        (
            vec![vec!["REPLICAOF", "127.0.0.1", &closed_port]],
            vec![vec!["REPLICAOF", "NO", "ONE"]],
            ("READONLY", "readonly"),
        ),
        (
            vec![
                set("replica-read-only", "no"),
                set("replica-serve-stale-data", "no"),
                vec!["REPLICAOF", "127.0.0.1", &closed_port],
            ],
            vec![vec!["REPLICAOF", "NO", "ONE"]],
            ("MASTERDOWN", "masterdown"),
        ),
    ];
    for (n, (broken, mended, (code, reason))) in cases.into_iter().enumerate() {
        for command in &broken {
            let _: () = ask(&mut store, command).await;
        }
        // The one has requests and notices at once; the other is idle.
        let call_id = format!("rejects-{n}");
        assert_eq!(cache_status(&one.get_recording(&call_id).await), STORED);
        for world in [&one, &two] {
            up(world, 0.0).await;
            let admin = world.bound.admin.unwrap();
            let status = page::get(admin, "/status").await.json();
            let told = status["shared"]["reason"].as_str().unwrap_or_default();
            assert!(told.contains(code), "{code}: {status}");
            let sample = format!("shared_disconnects_total{{reason=\"{reason}\"}}");
            assert!(page::metric(admin, &sample).await >= 1.0, "{code}");
        }
        assert!(ttl(&one.get_recording(&call_id).await).is_some());
        for command in &mended {
            let _: () = ask(&mut store, command).await;
        }
        connected(&one).await;
        connected(&two).await;
        let call_id = format!("accepts-{n}");
        assert_eq!(cache_status(&one.get_recording(&call_id).await), STORED);
        assert!(ttl(&two.get_recording(&call_id).await).is_some(), "{code}");
    }
}

/// After a failover the name leads elsewhere, and the demoted server still has the connections.
#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn a_demoted_primary_is_left_for_the_new_one() {
    let (old, new) = (Redis::start().await, Redis::start().await);
    let name = redis::Forwarder::start(old.port).await;
    let site = site("").await;
    let one = start(site, &format!("redis://127.0.0.1:{}", name.port), PATIENT).await;
    one.get_recording("failover-1").await;
    assert_eq!(old.response_keys().await.len(), 1);
    name.forward_to(new.port);
    let mut demoted = old.connect().await;
    let new_port = new.port.to_string();
    let _: () = ask(&mut demoted, &["REPLICAOF", "127.0.0.1", &new_port]).await;
    eventually("the new primary is used", async || {
        one.get_recording(&format!("moved-{}", one.recording_fetches()))
            .await;
        !new.response_keys().await.is_empty()
    })
    .await;
    connected(&one).await;
}
