//! Orders for access keys over several replicas.

use super::*;

const TOKEN: &str = "the-admin-token";

/// A first gateway whose admin interface has a token.
async fn with_token(redis: &Redis) -> TestEnv {
    let site = site("").await;
    write_private_file(&site.folder.path().join("token"), TOKEN.as_bytes()).unwrap();
    let text = std::fs::read_to_string(&site.file).unwrap();
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let text = text.replace("[admin]", "[admin]\ntoken_file = \"token\"");
    let text = format!("{text}\n[shared]\nurl = \"{url}\"\n{PATIENT}\n");
    std::fs::write(&site.file, text).unwrap();
    TestEnv::with_site(site)
}

async fn order(env: &TestEnv, order: &str) -> serde_json::Value {
    let path = format!("/access_keys/{SHANGHAI}/{order}");
    let response = page::post_with_token(env.bound.admin.unwrap(), &path, TOKEN).await;
    assert_eq!(response.status, 200, "{}", response.body);
    serde_json::from_str(&response.body).unwrap()
}

async fn is_refused(env: &TestEnv) -> bool {
    let request = signed(env.recording("order-1"), SHANGHAI);
    env.send(&request).await.status == 401
}

#[tokio::test]
#[ignore = "needs Debian's package redis-server"]
async fn an_order_holds_in_all_replicas_and_those_that_come_later() {
    let redis = Redis::start().await;
    let one = with_token(&redis).await;
    let two = one.replica();
    eventually("the store keeps orders", async || {
        order(&one, "enable").await["kept"] == "store"
    })
    .await;
    assert!(!is_refused(&two).await);
    let disabled = order(&one, "disable").await;
    assert_eq!(disabled["enabled"], false);
    assert!(is_refused(&one).await);
    eventually("the other replica is told", async || is_refused(&two).await).await;
    let three = one.replica();
    eventually("a new replica reads it", async || is_refused(&three).await).await;
    order(&two, "enable").await;
    for replica in [&one, &three] {
        eventually("the larger number wins", async || {
            !is_refused(replica).await
        })
        .await;
    }
}
