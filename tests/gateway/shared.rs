//! §5 and §6: what replicas share, over a real store; and that nobody notices when it is away.
//! `cargo test --test gateway shared:: -- --ignored`.

mod hostile;
mod redis;
mod rules;
mod unavailable;

use std::sync::Arc;

use ccfs_gateway::stand_in::certificates::write_secret;
use http::header::CACHE_CONTROL;
use tokio::task::JoinSet;

use self::redis::{Redis, ask};
use crate::cache::{STORED, ttl, verdict};
use crate::fetch::{held, hold, release};
use crate::page;
use crate::support::{SHANGHAI, Setup, Site, World, eventually, signed};

const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OTHER_KEY: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

/// Patient, so that a busy machine is not taken for a store that is away.
const PATIENT: &str = "timeout = \"1s\"\nseal_key_file = \"seal\"";

/// Nodes, and a first gateway that has found the store.
async fn first(redis: &Redis, keys: &str, shanghai: &str) -> World {
    let site = site(shanghai).await;
    start(site, &format!("redis://127.0.0.1:{}", redis.port), keys).await
}

/// Nodes, and all files.
async fn site(shanghai: &str) -> Site {
    let setup = Setup {
        shanghai: shanghai.to_owned(),
        ..Setup::default()
    };
    let site = setup.lay_out().await;
    for (name, key) in [
        ("seal", KEY),
        ("seal-2", OTHER_KEY),
        ("password", "pass-word"),
    ] {
        write_secret(&site.folder.path().join(name), key.as_bytes()).unwrap();
    }
    site
}

async fn start(site: Site, url: &str, keys: &str) -> World {
    let text = std::fs::read_to_string(&site.file).unwrap();
    let text = format!("{text}\n[shared]\nurl = \"{url}\"\n{keys}\n");
    std::fs::write(&site.file, text).unwrap();
    let world = World::before(site);
    connected(&world).await;
    world
}

/// Another gateway before the same nodes, which has found the store.
async fn another(world: &World) -> World {
    let replica = world.replica();
    connected(&replica).await;
    replica
}

async fn connected(world: &World) {
    up(world, 1.0).await;
}

async fn up(world: &World, value: f64) {
    let admin = world.bound.admin.unwrap();
    eventually("the state of the store is known", async || {
        page::metric(admin, "shared_up").await == value
    })
    .await;
}

/// The count of one operation and result.
async fn used(world: &World, operation: &str, result: &str) -> f64 {
    let sample = format!("shared_requests_total{{operation=\"{operation}\",result=\"{result}\"}}");
    page::metric(world.bound.admin.unwrap(), &sample).await
}

async fn purge(world: &World, query: &str) -> page::Page {
    let path = format!("/cache/purge{query}");
    page::post(world.bound.admin.unwrap(), &path).await
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn what_one_has_fetched_the_others_have() {
    let redis = Redis::start().await;
    let one = first(&redis, PATIENT, "").await;
    let two = another(&one).await;
    let fetched = one.ask("shared-1").await;
    assert_eq!(verdict(&fetched), STORED);
    let found = two.ask("shared-1").await;
    assert!(ttl(&found).unwrap() > 0, "{}", verdict(&found));
    assert_eq!(found.body, fetched.body);
    assert!(found.header("age").is_some());
    assert_eq!(found.header("content-type"), fetched.header("content-type"));
    assert_eq!(one.fetched(), 1);
    // From here on it is its own, and the store is not asked.
    assert!(ttl(&two.ask("shared-1").await).is_some());
    assert_eq!(used(&two, "look_up", "hit").await, 1.0);
    // Another ak and another call have nothing of it.
    let berlin = signed(two.recording("shared-1"), crate::support::BERLIN);
    assert_eq!(verdict(&two.send(&berlin).await), STORED);
    assert_eq!(verdict(&two.ask("shared-2").await), STORED);
    // It lives as long in the store as it does here.
    let mut store = redis.connect().await;
    let names = redis.answers().await;
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
async fn no_cache_goes_to_a_node_and_renews_for_all() {
    let redis = Redis::start().await;
    let one = first(&redis, PATIENT, "").await;
    let two = another(&one).await;
    let old = one.ask("renewed-1").await;
    let request = two.recording("renewed-1").with(CACHE_CONTROL, "no-cache");
    let new = two.send(&signed(request, SHANGHAI)).await;
    assert_eq!(verdict(&new), "ccfs-gateway; fwd=request");
    assert_eq!(one.fetched(), 2);
    assert_ne!(old.body, new.body, "the node answers a new URL each time");
    let three = another(&one).await;
    assert_eq!(three.ask("renewed-1").await.body, new.body);
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn one_replica_fetches_for_all() {
    let redis = Redis::start().await;
    let one = Arc::new(first(&redis, PATIENT, "").await);
    let two = Arc::new(another(&one).await);
    hold(&one);
    let mut asks = JoinSet::new();
    for world in [&one, &two, &one, &two] {
        let world = world.clone();
        asks.spawn(async move { world.ask("together-1").await });
    }
    held(&one, 1).await;
    let both = async || {
        let waits = used(&one, "look_up", "waited").await + used(&two, "look_up", "waited").await;
        waits == 1.0
    };
    eventually("the other one waits", both).await;
    release(&one);
    while let Some(answer) = asks.join_next().await {
        assert_eq!(answer.unwrap().result_code().as_deref(), Some("0"));
    }
    assert_eq!(one.fetched(), 1);
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn a_replica_that_dies_while_it_fetches_stops_nobody() {
    let redis = Redis::start().await;
    let one = first(&redis, PATIENT, "").await;
    let mut two = another(&one).await;
    hold(&one);
    let lost = {
        let request = signed(two.recording("dies-1"), SHANGHAI);
        let client = crate::support::trusting(one.file("").as_path());
        tokio::spawn(async move { client.send(&request).await })
    };
    held(&one, 1).await;
    two.gateway.abort();
    let _ = (&mut two.gateway).await;
    release(&one);
    let _ = lost.await;
    assert_eq!(one.ask("dies-1").await.result_code().as_deref(), Some("0"));
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
        one.ask("purge-1").await;
        two.ask("purge-1").await;
        let before = one.fetched();
        let page = purge(&two, &query).await;
        assert_eq!(page.json()["shared"], true, "{}", page.body);
        eventually("the other has heard of it", async || {
            ttl(&one.ask("purge-1").await).is_some() == kept || one.fetched() > before
        })
        .await;
        // A third one, which was not there, finds what is new, or what was kept.
        let three = another(&one).await;
        assert!(ttl(&three.ask("purge-1").await).is_some(), "{query}");
        assert_eq!(one.fetched() - before, u64::from(!kept), "{query}");
    }
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn whoever_comes_later_finds_nothing_that_was_purged() {
    let redis = Redis::start().await;
    let one = first(&redis, PATIENT, "").await;
    one.ask("purge-3").await;
    purge(&one, "?call_id=purge-3").await;
    let two = another(&one).await;
    assert_eq!(verdict(&two.ask("purge-3").await), STORED);
    assert_eq!(used(&two, "look_up", "unusable").await, 1.0);
    assert_eq!(one.fetched(), 2);
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn an_ak_has_one_budget_over_all() {
    let redis = Redis::start().await;
    let rate = "rate_limit = { per_second = 1, burst = 6 }";
    let one = first(&redis, PATIENT, rate).await;
    let two = another(&one).await;
    let mut served = 0;
    for n in 0..8 {
        let world = if n % 2 == 0 { &one } else { &two };
        let answer = world.ask(&format!("budget-{n}")).await;
        if answer.status == 429 {
            assert_eq!(answer.result_code().as_deref(), Some("0300009"));
            assert!(answer.header("retry-after").is_some());
            assert!(
                answer
                    .header("ratelimit")
                    .unwrap()
                    .contains("\"access_key\";r=0")
            );
        } else {
            served += 1;
        }
    }
    // Six at once, and perhaps one more if a second has passed.
    assert!((6..8).contains(&served), "{served}");
    let refused =
        r#"ratelimit_decisions_total{limiter="access_key",decision="refused",source="shared"}"#;
    let admins = [one.bound.admin.unwrap(), two.bound.admin.unwrap()];
    let mut count = 0.0;
    for admin in admins {
        count += page::metric(admin, refused).await;
    }
    assert_eq!(count, f64::from(8 - served), "neither had used up its own");
    // What the other has is free.
    assert!(ttl(&one.ask("budget-1").await).is_some());
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn a_user_with_a_password_and_little_rights_is_enough() {
    let users = "--user default on nopass ~* &* +@all --user gateway on >pass-word \
         ~ccfs-gateway:* &ccfs-gateway:* -@all +hello +auth +ping +client +select \
         +getrange +get +set +del +pexpire +expire +time +eval +evalsha +script|load +lrange \
         +rpush +multi +exec +publish +subscribe";
    let redis = Redis::with(&users.split_whitespace().collect::<Vec<_>>()).await;
    let keys = format!("{PATIENT}\nusername = \"gateway\"\npassword_file = \"password\"");
    let one = first(&redis, &keys, "rate_limit = { per_second = 50 }").await;
    let two = another(&one).await;
    one.ask("user-1").await;
    assert!(ttl(&two.ask("user-1").await).is_some());
    assert_eq!(used(&one, "budget", "ok").await, 1.0);
    assert_eq!(purge(&one, "").await.json()["shared"], true);
    assert_eq!(verdict(&two.ask("user-2").await), STORED);
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn the_store_is_spoken_to_over_tls_and_verified() {
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
        // The gateway has to show a certificate, too.
        "--tls-auth-clients",
        "yes",
    ])
    .await;
    let url = format!("rediss://127.0.0.1:{}", redis.port);
    let own = "ca = \"ca.pem\", certificate = \"leaf.pem\", private_key = \"leaf.key\"";
    let one = start(site, &url, &format!("{PATIENT}\ntls = {{ {own} }}")).await;
    let two = another(&one).await;
    one.ask("tls-1").await;
    assert!(ttl(&two.ask("tls-1").await).is_some());
    // Somebody else's authority, or a name that the certificate has not.
    let file = one.file("gateway.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let wrong = own.replace("ca = ", "server_name = \"redis.example\", ca = ");
    std::fs::write(&file, text.replace(own, &wrong)).unwrap();
    let three = one.replica();
    let admin = three.bound.admin.unwrap();
    eventually("it is away", async || {
        let status = page::get(admin, "/status").await.json();
        let reason = status["shared"]["reason"].as_str();
        reason.is_some_and(|reason| reason.contains("certificate"))
    })
    .await;
    assert_eq!(verdict(&three.ask("tls-1").await), STORED);
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn a_cluster_is_found_from_any_of_its_nodes() {
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
        assert_eq!(verdict(&one.ask(&call_id).await), STORED);
        assert!(ttl(&two.ask(&call_id).await).is_some(), "{call_id}");
    }
    for node in &nodes {
        assert!(!node.answers().await.is_empty(), "they are spread");
    }
    assert_eq!(used(&one, "budget", "ok").await, 12.0);
    assert_eq!(
        purge(&one, "?call_id=cluster-1").await.json()["shared"],
        true
    );
    let before = one.fetched();
    eventually("the other has heard of it", async || {
        two.ask("cluster-1").await;
        one.fetched() > before
    })
    .await;
    // A node dies: each works on alone.
    nodes[2].kill();
    for n in 12..24 {
        let answer = one.ask(&format!("cluster-{n}")).await;
        assert_eq!(answer.result_code().as_deref(), Some("0"));
    }
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn the_key_that_seals_is_rotated_without_a_miss() {
    let redis = Redis::start().await;
    let one = first(&redis, PATIENT, "").await;
    one.ask("rotate-1").await;
    let rewrite = |to: &str| {
        let file = one.file("gateway.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let (before, rest) = text.split_once("seal_key_file").unwrap();
        let (_, rest) = rest.split_once('\n').unwrap();
        std::fs::write(&file, format!("{before}seal_key_file = {to}\n{rest}")).unwrap();
    };
    rewrite("[\"seal-2\", \"seal\"]");
    let two = another(&one).await;
    assert!(ttl(&two.ask("rotate-1").await).is_some());
    two.ask("rotate-2").await;
    rewrite("\"seal-2\"");
    let three = another(&one).await;
    assert!(ttl(&three.ask("rotate-2").await).is_some());
    assert_eq!(verdict(&three.ask("rotate-1").await), STORED);
    // A reload takes the new key, too.
    let page = page::post(one.bound.admin.unwrap(), "/reload").await;
    assert_eq!(page.status, 200, "{}", page.body);
    connected(&one).await;
    three.ask("rotate-3").await;
    assert!(ttl(&one.ask("rotate-3").await).is_some());
}
