//! The shared store (§5 and §6) with a real Redis: what replicas share, and that requests do not
//! depend on the store. `cargo test --test gateway shared:: -- --ignored`.

mod budget;
mod hostile;
mod orders;
mod redis;
mod rules;
mod unavailable;

use std::sync::Arc;

use ccfs_gateway::stand_in::certificates::write_private_file;
use http::header::CACHE_CONTROL;
use tokio::task::JoinSet;

use self::redis::{Redis, ask};
use crate::cache::{STORED, cache_status, ttl};
use crate::fetch::{hold_responses, release_responses, wait_until_held};
use crate::page;
use crate::support::{SHANGHAI, Setup, Site, TestEnv, eventually, signed};

const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OTHER_KEY: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

/// A long timeout, so that a busy machine is not mistaken for an unavailable store.
const PATIENT: &str = "timeout = \"1s\"\nseal_key_file = \"seal\"";

/// Starts nodes and a first gateway that is connected to the store.
async fn first(redis: &Redis, keys: &str, shanghai: &str) -> TestEnv {
    let site = site(shanghai).await;
    start(site, &format!("redis://127.0.0.1:{}", redis.port), keys).await
}

/// Starts nodes and writes all files.
async fn site(shanghai: &str) -> Site {
    let setup = Setup {
        shanghai: shanghai.to_owned(),
        ..Setup::default()
    };
    let site = setup.prepare().await;
    for (name, key) in [
        ("seal", KEY),
        ("seal-2", OTHER_KEY),
        ("password", "pass-word"),
    ] {
        write_private_file(&site.folder.path().join(name), key.as_bytes()).unwrap();
    }
    site
}

async fn start(site: Site, url: &str, keys: &str) -> TestEnv {
    let text = std::fs::read_to_string(&site.file).unwrap();
    let text = format!("{text}\n[shared]\nurl = \"{url}\"\n{keys}\n");
    std::fs::write(&site.file, text).unwrap();
    let env = TestEnv::with_site(site);
    connected(&env).await;
    env
}

/// Starts another gateway in front of the same nodes, connected to the store.
async fn another(env: &TestEnv) -> TestEnv {
    let replica = env.replica();
    connected(&replica).await;
    replica
}

async fn connected(env: &TestEnv) {
    up(env, 1.0).await;
}

async fn up(env: &TestEnv, value: f64) {
    let admin = env.bound.admin.unwrap();
    eventually("the state of the store is known", async || {
        page::metric(admin, "shared_up").await == value
    })
    .await;
}

/// The counter of one store operation and result.
async fn used(env: &TestEnv, operation: &str, result: &str) -> f64 {
    let sample = format!("shared_requests_total{{operation=\"{operation}\",result=\"{result}\"}}");
    page::metric(env.bound.admin.unwrap(), &sample).await
}

async fn purge(env: &TestEnv, query: &str) -> page::AdminResponse {
    let path = format!("/cache/purge{query}");
    page::post(env.bound.admin.unwrap(), &path).await
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn replicas_share_fetched_responses() {
    let redis = Redis::start().await;
    let one = first(&redis, PATIENT, "").await;
    let two = another(&one).await;
    let fetched = one.get_recording("shared-1").await;
    assert_eq!(cache_status(&fetched), STORED);
    let found = two.get_recording("shared-1").await;
    assert!(ttl(&found).unwrap() > 0, "{}", cache_status(&found));
    assert_eq!(found.body, fetched.body);
    assert!(found.header("age").is_some());
    assert_eq!(found.header("content-type"), fetched.header("content-type"));
    assert_eq!(one.recording_fetches(), 1);
    // From here on the entry is local and the store is not queried.
    assert!(ttl(&two.get_recording("shared-1").await).is_some());
    assert_eq!(used(&two, "look_up", "hit").await, 1.0);
    // Another access key or another call does not get this entry.
    let berlin = signed(two.recording("shared-1"), crate::support::BERLIN);
    assert_eq!(cache_status(&two.send(&berlin).await), STORED);
    assert_eq!(cache_status(&two.get_recording("shared-2").await), STORED);
    // The entry has the same lifetime in the store as in the local cache.
    let mut store = redis.connect().await;
    let names = redis.response_keys().await;
    assert_eq!(names.len(), 3);
    for name in names {
        let life: i64 = ask(&mut store, &["PTTL", &name]).await;
        assert!(life > 60_000 && life <= 86_400_000, "{life}");
    }
    let status = page::get(two.bound.admin.unwrap(), "/status").await.json();
    assert_eq!(status["shared"]["connected"], true, "{status}");
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn no_cache_queries_a_node_and_replaces_the_entry_for_all() {
    let redis = Redis::start().await;
    let one = first(&redis, PATIENT, "").await;
    let two = another(&one).await;
    let old = one.get_recording("renewed-1").await;
    let request = two
        .recording("renewed-1")
        .with_header(CACHE_CONTROL, "no-cache");
    let new = two.send(&signed(request, SHANGHAI)).await;
    assert_eq!(cache_status(&new), "ccfs-gateway; fwd=request");
    assert_eq!(one.recording_fetches(), 2);
    assert_ne!(old.body, new.body, "the node returns a new URL each time");
    let three = another(&one).await;
    assert_eq!(three.get_recording("renewed-1").await.body, new.body);
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn one_replica_fetches_for_all() {
    let redis = Redis::start().await;
    let one = Arc::new(first(&redis, PATIENT, "").await);
    let two = Arc::new(another(&one).await);
    hold_responses(&one);
    let mut asks = JoinSet::new();
    for env in [&one, &two, &one, &two] {
        let env = env.clone();
        asks.spawn(async move { env.get_recording("together-1").await });
    }
    wait_until_held(&one, 1).await;
    let both = async || {
        let waits = used(&one, "look_up", "waited").await + used(&two, "look_up", "waited").await;
        waits == 1.0
    };
    eventually("the other replica waits", both).await;
    release_responses(&one);
    while let Some(response) = asks.join_next().await {
        assert_eq!(response.unwrap().result_code().as_deref(), Some("0"));
    }
    assert_eq!(one.recording_fetches(), 1);
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn a_replica_that_dies_while_fetching_blocks_no_other() {
    let redis = Redis::start().await;
    let one = first(&redis, PATIENT, "").await;
    let mut two = another(&one).await;
    hold_responses(&one);
    let lost = {
        let request = signed(two.recording("dies-1"), SHANGHAI);
        let client = crate::support::client_trusting(one.file("").as_path());
        tokio::spawn(async move { client.send(&request).await })
    };
    wait_until_held(&one, 1).await;
    two.gateway.abort();
    let _ = (&mut two.gateway).await;
    release_responses(&one);
    let _ = lost.await;
    assert_eq!(
        one.get_recording("dies-1").await.result_code().as_deref(),
        Some("0")
    );
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn a_purge_reaches_the_store_and_the_others() {
    let redis = Redis::start().await;
    let one = first(&redis, PATIENT, "").await;
    let two = another(&one).await;
    for (query, kept) in [
        (format!("?ak={SHANGHAI}"), false),
        ("?call_id=purge-1".to_owned(), false),
        ("?call_id=purge-2".to_owned(), true),
        ("?ak=nobody".to_owned(), true),
        (String::new(), false),
    ] {
        one.get_recording("purge-1").await;
        two.get_recording("purge-1").await;
        let before = one.recording_fetches();
        let page = purge(&two, &query).await;
        assert_eq!(page.json()["shared"], true, "{}", page.body);
        assert_eq!(page.json()["store"], true, "{}", page.body);
        assert!(
            page.json()["replicas_told"].as_u64() >= Some(1),
            "{}",
            page.body
        );
        eventually("the other replica has received it", async || {
            ttl(&one.get_recording("purge-1").await).is_some() == kept
                || one.recording_fetches() > before
        })
        .await;
        // A third replica, which missed the purge, finds only entries stored after it or kept by
        // it.
        let three = another(&one).await;
        assert!(
            ttl(&three.get_recording("purge-1").await).is_some(),
            "{query}"
        );
        assert_eq!(
            one.recording_fetches() - before,
            u64::from(!kept),
            "{query}"
        );
    }
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn a_later_replica_finds_no_purged_entry() {
    let redis = Redis::start().await;
    let one = first(&redis, PATIENT, "").await;
    one.get_recording("purge-3").await;
    purge(&one, "?call_id=purge-3").await;
    let two = another(&one).await;
    assert_eq!(cache_status(&two.get_recording("purge-3").await), STORED);
    assert_eq!(used(&two, "look_up", "unusable").await, 1.0);
    assert_eq!(one.recording_fetches(), 2);
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn an_access_key_has_one_rate_limit_over_all_replicas() {
    let redis = Redis::start().await;
    let rate = "rate_limit = { per_second = 1, burst = 6 }";
    let one = first(&redis, PATIENT, rate).await;
    let two = another(&one).await;
    let mut served = 0;
    for n in 0..8 {
        let env = if n % 2 == 0 { &one } else { &two };
        let response = env.get_recording(&format!("budget-{n}")).await;
        if response.status == 429 {
            assert_eq!(response.result_code().as_deref(), Some("0300009"));
            assert!(response.header("retry-after").is_some());
            assert!(response.header("ratelimit").unwrap().contains("\"ak\";r=0"));
        } else {
            served += 1;
        }
    }
    // Six immediately, and possibly one more if a second has passed.
    assert!((6..8).contains(&served), "{served}");
    let refused =
        r#"ratelimit_decisions_total{limiter="access_key",decision="refused",source="shared"}"#;
    let admins = [one.bound.admin.unwrap(), two.bound.admin.unwrap()];
    let mut count = 0.0;
    for admin in admins {
        count += page::metric(admin, refused).await;
    }
    assert_eq!(
        count,
        f64::from(8 - served),
        "neither had exhausted its local limit"
    );
    // A hit from the other replica's fetch is not charged.
    assert!(ttl(&one.get_recording("budget-1").await).is_some());
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn a_user_with_a_password_and_minimal_rights_is_sufficient() {
    let users = "--user default on nopass ~* &* +@all --user gateway on >pass-word \
         ~ccfs-gateway:* &ccfs-gateway:* -@all +hello +auth +ping +client +select \
         +getrange +get +set +del +pexpire +expire +time +eval +evalsha +script|load +hget +hset +hvals +lrange \
         +rpush +multi +exec +publish +subscribe";
    let redis = Redis::with(&users.split_whitespace().collect::<Vec<_>>()).await;
    let keys = format!("{PATIENT}\nusername = \"gateway\"\npassword_file = \"password\"");
    let one = first(&redis, &keys, "rate_limit = { per_second = 50 }").await;
    let two = another(&one).await;
    one.get_recording("user-1").await;
    assert!(ttl(&two.get_recording("user-1").await).is_some());
    assert_eq!(used(&one, "budget", "ok").await, 1.0);
    assert_eq!(purge(&one, "").await.json()["shared"], true);
    assert_eq!(cache_status(&two.get_recording("user-2").await), STORED);
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn the_store_is_used_over_verified_tls() {
    let site = site("").await;
    let path = |name: &str| site.folder.path().join(name).display().to_string();
    let (certificate, key, ca) = (path("leaf.pem"), path("leaf.key"), path("ca.pem"));
    let redis = Redis::with(&[
        "--tls-port",
        "{port}",
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        // The store requires a client certificate.
        "--tls-auth-clients",
        "yes",
    ])
    .await;
    let url = format!("rediss://127.0.0.1:{}", redis.port);
    let own = "ca = \"ca.pem\", certificate = \"leaf.pem\", private_key = \"leaf.key\"";
    let one = start(site, &url, &format!("{PATIENT}\ntls = {{ {own} }}")).await;
    let two = another(&one).await;
    one.get_recording("tls-1").await;
    assert!(ttl(&two.get_recording("tls-1").await).is_some());
    // Another authority, or a name that the certificate does not contain.
    let file = one.file("gateway.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let wrong = own.replace("ca = ", "server_name = \"redis.example\", ca = ");
    std::fs::write(&file, text.replace(own, &wrong)).unwrap();
    let three = one.replica();
    let admin = three.bound.admin.unwrap();
    eventually("it is unavailable", async || {
        let status = page::get(admin, "/status").await.json();
        let reason = status["shared"]["reason"].as_str();
        reason.is_some_and(|reason| reason.contains("certificate"))
    })
    .await;
    assert_eq!(cache_status(&three.get_recording("tls-1").await), STORED);
}

/// `openssl req -x509` marks a certificate as an authority; as `ca` it is trusted for itself.
#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn a_self_signed_store_is_trusted_byte_for_byte() {
    let site = site("").await;
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap().pem();
    let path = |name: &str| site.folder.path().join(name);
    std::fs::write(path("store.pem"), certificate).unwrap();
    write_private_file(&path("store.key"), key.serialize_pem().as_bytes()).unwrap();
    let redis = Redis::with(&[
        "--tls-port",
        "{port}",
        "--tls-cert-file",
        &path("store.pem").display().to_string(),
        "--tls-key-file",
        &path("store.key").display().to_string(),
        "--tls-auth-clients",
        "no",
    ])
    .await;
    let url = format!("rediss://127.0.0.1:{}", redis.port);
    let trusting = format!("{PATIENT}\ntls = {{ ca = \"store.pem\" }}");
    let one = start(site, &url, &trusting).await;
    let two = another(&one).await;
    one.get_recording("self-1").await;
    assert!(ttl(&two.get_recording("self-1").await).is_some());
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn a_cluster_is_discovered_from_any_of_its_nodes() {
    let mut nodes = redis::cluster().await;
    let one = first(
        &nodes[0],
        PATIENT,
        "rate_limit = { per_second = 1, burst = 40 }",
    )
    .await;
    let two = another(&one).await;
    for n in 0..12 {
        let call_id = format!("cluster-{n}");
        assert_eq!(cache_status(&one.get_recording(&call_id).await), STORED);
        assert!(
            ttl(&two.get_recording(&call_id).await).is_some(),
            "{call_id}"
        );
    }
    for node in &nodes {
        assert!(
            !node.response_keys().await.is_empty(),
            "they are distributed"
        );
    }
    assert_eq!(used(&one, "budget", "ok").await, 12.0);
    assert_eq!(
        purge(&one, "?call_id=cluster-1").await.json()["shared"],
        true
    );
    let before = one.recording_fetches();
    eventually("the other replica has received it", async || {
        two.get_recording("cluster-1").await;
        one.recording_fetches() > before
    })
    .await;
    // A store node dies: each replica continues alone.
    nodes[2].kill();
    for n in 12..24 {
        let response = one.get_recording(&format!("cluster-{n}")).await;
        assert_eq!(response.result_code().as_deref(), Some("0"));
    }
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn the_seal_key_is_rotated_without_a_miss() {
    let redis = Redis::start().await;
    let one = first(&redis, PATIENT, "").await;
    one.get_recording("rotate-1").await;
    let rewrite = |to: &str| {
        let file = one.file("gateway.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let (before, rest) = text.split_once("seal_key_file").unwrap();
        let (_, rest) = rest.split_once('\n').unwrap();
        std::fs::write(&file, format!("{before}seal_key_file = {to}\n{rest}")).unwrap();
    };
    rewrite("[\"seal-2\", \"seal\"]");
    let two = another(&one).await;
    assert!(ttl(&two.get_recording("rotate-1").await).is_some());
    two.get_recording("rotate-2").await;
    rewrite("\"seal-2\"");
    let three = another(&one).await;
    assert!(ttl(&three.get_recording("rotate-2").await).is_some());
    assert_eq!(cache_status(&three.get_recording("rotate-1").await), STORED);
    // A reload applies the new key too.
    let page = page::post(one.bound.admin.unwrap(), "/reload").await;
    assert_eq!(page.status, 200, "{}", page.body);
    connected(&one).await;
    three.get_recording("rotate-3").await;
    assert!(ttl(&one.get_recording("rotate-3").await).is_some());
}
