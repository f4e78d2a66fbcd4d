//! What is remembered of a token counts among the callers for which it was verified, and no others.

use ccfs_gateway::client::ClientRequest;
use http::header::AUTHORIZATION;
use serde_json::json;

use super::caller;
use super::jwt::{Issuer, JWT, write_keys};
use crate::support::{BERLIN, Setup, TestEnv, read};

/// The listener `two`, where `ops` may not ask.
const LISTENER: &str = "[listeners.two]\nbind = \"127.0.0.1:0\"\ncluster = \"ccfs\"\n\
                        tls = { certificate = \"leaf.pem\", private_key = \"leaf.key\" }\n";

/// A caller whose tokens have this group.
fn of_group(name: &str, keys: &str) -> String {
    let jwt = JWT.replace("\"qa\"", &format!("\"{name}\""));
    format!("[callers.{name}]\naccess_key = \"{BERLIN}\"\n{jwt}\n{keys}\n")
}

async fn ask(env: &TestEnv, listener: &str, token: &str) -> u16 {
    let url = format!("https://{}", env.bound.listeners[listener]);
    let mut request = ClientRequest::post(&url, env.recording("1-1").body).unwrap();
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.headers.insert(AUTHORIZATION, bearer);
    env.send(&request).await.status.as_u16()
}

#[tokio::test]
async fn a_token_of_two_callers_identifies_neither_whatever_was_remembered() {
    let issuer = Issuer::new("one");
    let setup = Setup {
        tables: caller("qa", JWT) + &of_group("ops", "listeners = [\"ccfs\"]") + LISTENER,
        ..Setup::default()
    };
    let site = setup.prepare().await;
    write_keys(site.folder.path(), &[&issuer]);
    let env = TestEnv::with_site(site);
    let of_both = issuer.token(&[("group", json!(["qa", "ops"]))]);
    for _ in 0..2 {
        assert_eq!(ask(&env, "ccfs", &of_both).await, 401);
        assert_eq!(ask(&env, "two", &of_both).await, 200);
    }
    // A caller that a reload adds makes a remembered token doubtful, until another reload takes it away.
    let of_new = issuer.token(&[("group", json!(["qa", "new"]))]);
    let file = env.file("gateway.toml");
    let whole = read(&file);
    for (text, status) in [
        (whole.clone(), 200),
        (whole.clone() + &of_group("new", ""), 401),
        (
            whole.clone() + &of_group("new", "listeners = [\"two\"]"),
            200,
        ),
        (whole, 200),
    ] {
        std::fs::write(&file, text).unwrap();
        env.reload().await;
        for _ in 0..2 {
            assert_eq!(ask(&env, "ccfs", &of_new).await, status);
        }
    }
}
