//! An entry from the store is judged by the rules of the replica that reads it, as if it had
//! fetched the entry itself.

use ccfs_gateway::stand_in::{Fault, When};
use jiff::Timestamp;

use super::*;
use crate::support::BERLIN;

const NEGATIVE: &str = "ccfs-gateway; hit; detail=negative";
const STALE: &str = "ccfs-gateway; hit; detail=stale-if-error";

fn edit(env: &TestEnv, change: impl Fn(&str) -> String) {
    let file = env.file("gateway.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, change(&text)).unwrap();
}

async fn reload(env: &TestEnv) {
    let page = page::post(env.bound.admin.unwrap(), "/reload").await;
    assert_eq!(page.status, 200, "{}", page.body);
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn an_expired_value_is_a_miss() {
    let redis = Redis::start().await;
    let keys = format!("{PATIENT}\n[cache]\nnegative_ttl = \"1s\"");
    let one = first(&redis, &keys, "").await;
    one.nodes[0].faults().add_unknown_call("later-1");
    let response = one.get_recording("later-1").await;
    assert_eq!(response.result_code().as_deref(), Some("0300012"));
    let names = redis.response_keys().await;
    let mut store = redis.connect().await;
    let persisted: i64 = ask(&mut store, &["PERSIST", &names[0]]).await;
    assert_eq!(persisted, 1, "it would have expired by itself");
    let sealed: Vec<u8> = ask(&mut store, &["GET", &names[0]]).await;
    let two = another(&one).await;
    assert_eq!(cache_status(&two.get_recording("later-1").await), NEGATIVE);
    // Whatever the store returns later, the entry has expired.
    eventually("it has expired", async || {
        let mut set = ::redis::cmd("SET");
        let set = set.arg(&names[0]).arg(&sealed);
        let _: () = set.query_async(&mut store).await.unwrap();
        let before = one.recording_fetches();
        two.get_recording("later-1").await;
        one.recording_fetches() > before
    })
    .await;
    let replica = another(&one).await;
    let mut set = ::redis::cmd("SET");
    let set = set.arg(&names[0]).arg(&sealed);
    let _: () = set.query_async(&mut store).await.unwrap();
    let before = one.recording_fetches();
    replica.get_recording("later-1").await;
    assert_eq!(one.recording_fetches(), before + 1);
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn each_replica_applies_its_own_margin() {
    let redis = Redis::start().await;
    let one = first(&redis, PATIENT, "").await;
    let stored = one.get_recording("margin-1").await;
    let body = String::from_utf8(stored.body.to_vec()).unwrap();
    let expires = body.split_once("Expires=").unwrap().1;
    let expires: i64 = expires.split('&').next().unwrap().parse().unwrap();
    let margin = expires - Timestamp::now().as_second() - 1;
    edit(&one, |text| {
        format!("{text}\n[cache]\nexpiry_margin = \"{margin}s\"\n")
    });
    let strict = another(&one).await;
    let spare = another(&one).await;
    eventually("it is within the margin", async || {
        Timestamp::now().as_second() >= expires - margin
    })
    .await;
    // An entry with too little remaining lifetime still serves as stale-if-error.
    one.nodes[0].faults().inject(Fault::Reset, When::Always);
    let response = strict.get_recording("margin-1").await;
    assert_eq!(
        (cache_status(&response), &response.body),
        (STALE, &stored.body)
    );
    one.nodes[0].faults().clear();
    let before = one.recording_fetches();
    assert_eq!(ttl(&spare.get_recording("margin-1").await), None);
    assert_eq!(one.recording_fetches(), before + 1);
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn removing_an_access_key_removes_its_responses() {
    let redis = Redis::start().await;
    let one = first(&redis, PATIENT, "").await;
    let asked = async |env: &TestEnv| {
        let request = signed(env.recording("gone-1"), BERLIN);
        cache_status(&env.send(&request).await).to_owned()
    };
    assert_eq!(asked(&one).await, STORED);
    let (on, off) = ("\"Europe/Berlin\"", "\"Europe/Berlin\"\nenabled = false");
    edit(&one, |text| text.replace(on, off));
    reload(&one).await;
    edit(&one, |text| text.replace(off, on));
    reload(&one).await;
    let two = another(&one).await;
    assert_eq!(asked(&two).await, STORED);
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn a_wrong_password_is_reported_and_a_reload_applies_the_right_one() {
    let redis = Redis::with(&["--requirepass", "pass-word"]).await;
    let site = site("").await;
    let password = site.folder.path().join("password");
    std::fs::write(&password, "another\n").unwrap();
    let text = std::fs::read_to_string(&site.file).unwrap();
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let table = format!("[shared]\nurl = \"{url}\"\npassword_file = \"password\"\n{PATIENT}\n");
    std::fs::write(&site.file, format!("{text}\n{table}")).unwrap();
    let env = TestEnv::with_site(site);
    let admin = env.bound.admin.unwrap();
    eventually("it reports the reason", async || {
        let page = page::get(admin, "/status").await;
        assert!(!page.body.contains("another"));
        let reason = page.json()["shared"]["reason"].as_str().map(str::to_owned);
        reason.is_some_and(|reason| reason.contains("WRONGPASS") || reason.contains("authentic"))
    })
    .await;
    assert_eq!(cache_status(&env.get_recording("password-1").await), STORED);
    std::fs::write(&password, "pass-word\n").unwrap();
    reload(&env).await;
    connected(&env).await;
}
