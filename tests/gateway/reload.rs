//! Reloads (§8): a new configuration is applied completely or not at all; no connection is dropped.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ccfs_gateway::admin::AdminCommand;
use ccfs_gateway::auth::Credential;
use ccfs_gateway::client::ClientRequest;
use ccfs_gateway::stand_in::certificates::write_private_file;
use ccfs_gateway::stand_in::{Fault, When};

use crate::cache::{MISS, STORED, cache_status, ttl, with_cache};
use crate::page::{self, AdminResponse};
use crate::process::Process;
use crate::support::{
    BERLIN, SHANGHAI, Setup, TestEnv, UNKNOWN, client_trusting, credential, eventually, read,
    secret, signed,
};

/// Rewrites the configuration file.
fn edit(file: &Path, change: impl FnOnce(String) -> String) {
    std::fs::write(file, change(read(file))).unwrap();
}

async fn reload(env: &TestEnv) -> AdminResponse {
    page::post(env.bound.admin.unwrap(), "/reload").await
}

/// Rewrites the configuration file and reloads, which succeeds.
pub(crate) async fn edited(env: &TestEnv, change: impl FnOnce(String) -> String) -> AdminResponse {
    edit(&env.file("gateway.toml"), change);
    let page = reload(env).await;
    assert_eq!(page.status, 200, "{}", page.body);
    page
}

/// Appends a further account to the configuration.
fn with_stranger(text: String) -> String {
    text + &format!(
        "\n[access_keys.{UNKNOWN}]\nsecret_key_file = \"{UNKNOWN}\"\ntime_zone = \"Asia/Shanghai\"\n"
    )
}

fn without(table: &'static str) -> impl FnOnce(String) -> String {
    move |text| {
        let begin = text.find(&format!("[{table}]")).unwrap();
        let end = text[begin + 1..]
            .find("\n[")
            .map_or(text.len(), |end| begin + 1 + end);
        format!("{}{}", &text[..begin], &text[end..])
    }
}

async fn status(env: &TestEnv, ak: &str) -> u16 {
    let request = signed(env.recording("reload-1"), ak);
    env.send(&request).await.status.as_u16()
}

#[tokio::test]
async fn adding_and_removing_keys_removes_their_entries() {
    let env = TestEnv::start().await;
    assert_eq!(
        [status(&env, BERLIN).await, status(&env, UNKNOWN).await],
        [200, 401]
    );
    let before = read(&env.file("gateway.toml"));
    edited(&env, |text| {
        with_stranger(without("access_keys.ak-berlin")(text))
    })
    .await;
    assert_eq!(
        [status(&env, BERLIN).await, status(&env, UNKNOWN).await],
        [401, 200]
    );
    edited(&env, |_| before).await;
    let again = env.send(&signed(env.recording("reload-1"), BERLIN)).await;
    let verdict = again.header("cache-status").unwrap();
    assert_eq!(
        verdict, "ccfs-gateway; fwd=uri-miss; stored",
        "its entries were removed"
    );
}

#[tokio::test]
async fn removing_a_secret_removes_the_entries_and_adding_one_does_not() {
    let env = TestEnv::start().await;
    let other = credential(UNKNOWN);
    let other = Credential::new(SHANGHAI.into(), other.secrets().to_vec(), true);
    let by_other = |env: &TestEnv| {
        let names = ccfs_gateway::client::DEFAULT_SIGNED_FIELDS;
        let now = jiff::Timestamp::now();
        env.recording("rotate-1").sign(&other, names, now).unwrap()
    };
    let hit = async |request: &ClientRequest| {
        let response = env.send(request).await;
        assert_eq!(response.status, 200);
        response.header("cache-status").unwrap().contains("hit")
    };
    let by_first = signed(env.recording("rotate-1"), SHANGHAI);
    assert!(!hit(&by_first).await);
    assert_eq!(env.send(&by_other(&env)).await.status, 401);

    // The new secret is added second: both verify, the first one signs, cache entries stay.
    let both = format!("secret_key_file = [\"{SHANGHAI}\", \"{UNKNOWN}\"]");
    let first = format!("secret_key_file = \"{SHANGHAI}\"");
    edited(&env, |text| text.replace(&first, &both)).await;
    assert!(hit(&by_first).await && hit(&by_other(&env)).await);

    // The old secret is removed.
    let second = format!("secret_key_file = \"{UNKNOWN}\"");
    edited(&env, |text| text.replace(&both, &second)).await;
    assert_eq!(env.send(&by_first).await.status, 401);
    let requests = env.recording_fetches();
    let response = env.send(&by_other(&env)).await;
    assert!(!response.header("cache-status").unwrap().contains("hit"));
    assert_eq!(env.recording_fetches(), requests + 1);
}

#[tokio::test]
async fn entries_are_judged_by_the_rules_of_the_new_configuration() {
    let env = with_cache("expiry_margin = \"10m\"").start().await;
    assert_eq!(cache_status(&env.get_recording("rules-1").await), STORED);
    let set = async |from: &str, to: &str| {
        edited(&env, |text| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        })
        .await;
    };
    // A URL lives for eight hours.
    let ttl_now = async || ttl(&env.get_recording("rules-1").await);
    let hours = 3600;
    assert!(ttl_now().await.unwrap() > 7 * hours);
    set("expiry_margin = \"10m\"", "expiry_margin = \"5h\"").await;
    assert!((2 * hours..=3 * hours).contains(&ttl_now().await.unwrap()));
    set("expiry_margin = \"5h\"", "success_codes = [\"7\"]").await;
    assert_eq!(cache_status(&env.get_recording("rules-1").await), MISS);
    assert_eq!(env.recording_fetches(), 2);
    set("success_codes = [\"7\"]", "expiry_margin = \"20m\"").await;
    assert!(ttl_now().await.unwrap() > 7 * hours, "it was kept");
    assert_eq!(env.recording_fetches(), 2);
}

#[tokio::test]
async fn a_key_file_is_read_again() {
    let env = TestEnv::start().await;
    assert_eq!(status(&env, SHANGHAI).await, 200);
    write_private_file(&env.file(SHANGHAI), b"another secret, for the same ak").unwrap();
    assert_eq!(reload(&env).await.status, 200);
    assert_eq!(status(&env, SHANGHAI).await, 401);
    write_private_file(&env.file(SHANGHAI), secret(SHANGHAI).as_bytes()).unwrap();
    assert_eq!(reload(&env).await.status, 200);
    assert_eq!(status(&env, SHANGHAI).await, 200);
}

#[tokio::test]
async fn a_disabled_key_is_like_an_unknown_one() {
    let env = TestEnv::start().await;
    assert_eq!(status(&env, SHANGHAI).await, 200);
    let table = format!("[access_keys.{SHANGHAI}]\n");
    edited(&env, |text| {
        text.replace(&table, &format!("{table}enabled = false\n"))
    })
    .await;
    let disabled = env.get_recording("reload-1").await;
    let unknown = env.send(&signed(env.recording("reload-1"), UNKNOWN)).await;
    assert_eq!(
        (disabled.status.as_u16(), &disabled.body),
        (401, &unknown.body)
    );
    assert_eq!(env.recording_fetches(), 1);
}

#[tokio::test]
async fn an_invalid_configuration_is_rejected_and_the_old_one_stays() {
    let env = TestEnv::start().await;
    let file = env.file("gateway.toml");
    let good = read(&file);
    let admin = env.bound.admin.unwrap();
    for bad in [
        "this is no TOML".to_owned(),
        good.replace(
            "time_zone = \"Europe/Berlin\"",
            "time_zone = \"Europe/Nowhere\"",
        ),
        good.replace(
            "[access_keys.ak-berlin]",
            "[access_keys.ak-berlin]\ntime_zome = \"x\"",
        ),
        good.replace(
            "secret_key_file = \"ak-berlin\"",
            "secret_key_file = \"missing\"",
        ),
        good.replace(
            "certificate = \"leaf.pem\"",
            "certificate = \"missing.pem\"",
        ),
    ] {
        std::fs::write(&file, &bad).unwrap();
        let page = reload(&env).await;
        assert!((400..600).contains(&page.status), "{}", page.status);
        assert!(!page.body.contains("SECRET"), "{}", page.body);
        assert_eq!(status(&env, SHANGHAI).await, 200);
        assert_eq!(status(&env, BERLIN).await, 200);
    }
    std::fs::write(&file, &good).unwrap();
    assert_eq!(reload(&env).await.status, 200);
    assert_eq!(page::metric(admin, "config_generation").await, 2.0);
}

#[tokio::test]
async fn every_key_that_needs_a_restart_is_named_and_the_others_are_in_force() {
    let env = TestEnv::start().await;
    edit(&env.file("gateway.toml"), |text| {
        text.replace("log_level = \"error\"", "log_level = \"warn\"")
            + "\n[server]\nworkers = 7\n[cache]\nmax_size = \"1MiB\"\n"
    });
    let page = reload(&env).await;
    assert_eq!(page.status, 200, "{}", page.body);
    let keys = serde_json::json!(["[server] workers", "[cache] max_size", "[telemetry]"]);
    assert_eq!(page.json()["restart_needed"], keys);
    let status = page::get(env.bound.admin.unwrap(), "/status").await.json();
    assert_eq!(status["reloads"]["restart_needed"], keys);
}

#[tokio::test]
async fn a_rejected_configuration_is_counted_and_shown() {
    let env = TestEnv::start().await;
    edit(&env.file("gateway.toml"), |_| "this is no TOML".to_owned());
    reload(&env).await;
    let admin = env.bound.admin.unwrap();
    let metrics = page::get(admin, "/metrics").await.body;
    let counted = metrics.lines().any(|line| {
        let reload = line.starts_with("ccfs_gateway_") && line.contains("reload");
        reload && !line.contains("result=\"ok\"") && line.ends_with(" 1")
    });
    assert!(counted, "{metrics}");
    let status = page::get(admin, "/status").await.body;
    assert!(
        status.contains("TOML") || status.contains("gateway.toml"),
        "{status}"
    );
}

#[tokio::test]
async fn listeners_are_added_and_removed() {
    let env = TestEnv::start().await;
    let further = r#"
[listeners.further]
bind = "127.0.0.1:PORT"
cluster = "ccfs"
tls = { certificate = "leaf.pem", private_key = "leaf.key" }
"#;
    // Another process may take the free port in between.
    let mut url = String::new();
    for _ in 0..5 {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let table = further.replace("PORT", &free.port().to_string());
        let old = read(&env.file("gateway.toml"));
        edit(&env.file("gateway.toml"), |text| text + &table);
        if reload(&env).await.status == 200 {
            url = format!("https://{free}");
            break;
        }
        edit(&env.file("gateway.toml"), |_| old);
    }
    let mut request = env.recording("listener-1");
    request
        .headers
        .insert("host", url["https://".len()..].parse().unwrap());
    let further = ClientRequest::post(&url, request.body.clone()).unwrap();
    let client = client_trusting(&env.file("")).with_idle_connections(1);
    let response = client
        .send(&signed(further.clone(), SHANGHAI))
        .await
        .unwrap();
    assert_eq!(response.status, 200);

    edited(&env, without("listeners.further")).await;
    let address: SocketAddr = url["https://".len()..].parse().unwrap();
    eventually("the port is closed", async || {
        tokio::net::TcpStream::connect(address).await.is_err()
    })
    .await;
    assert_eq!(status(&env, SHANGHAI).await, 200);
}

#[tokio::test]
async fn requests_in_flight_and_connections_survive() {
    let setup = Setup {
        shanghai: "rate_limit = { per_second = 1, burst = 60 }".to_owned(),
        ..Setup::default()
    };
    let env = std::sync::Arc::new(setup.start().await);
    env.get_recording("kept-1").await;
    env.nodes[0].faults().inject(Fault::Hold, When::Always);
    let asking = env.clone();
    let held = tokio::spawn(async move { asking.get_recording("kept-2").await });
    let ten = Duration::from_secs(10);
    assert!(
        env.nodes[0]
            .wait_for_requests("getRecordFileUrlFromObs", 2, ten)
            .await
    );
    edited(&env, |text| text + "\n[cache]\nnegative_ttl = \"1s\"\n").await;
    let hit = env.get_recording("kept-1").await;
    assert!(
        hit.header("cache-status").unwrap().contains("hit"),
        "the cache is kept"
    );
    env.nodes[0].faults().clear();
    assert_eq!(held.await.unwrap().status, 200);
}

#[tokio::test]
async fn connections_survive_and_budgets_are_not_refilled() {
    let setup = Setup {
        shanghai: "rate_limit = { per_second = 1, burst = 2 }".to_owned(),
        ..Setup::default()
    };
    let env = setup.start().await;
    let admin = env.bound.admin.unwrap();
    let handshakes = async || page::metric(admin, r#"handshakes_total{result="ok"}"#).await;
    let mut limited = false;
    for n in 0..10 {
        limited |= env.get_recording(&format!("spent-{n}")).await.status == 429;
    }
    assert!(limited);
    let before = handshakes().await;
    assert_eq!(reload(&env).await.status, 200);
    let mut limited = false;
    for n in 10..13 {
        limited |= env.get_recording(&format!("spent-{n}")).await.status == 429;
    }
    assert!(limited, "a reload does not refill limits");
    assert_eq!(
        handshakes().await,
        before,
        "the client's connection is still the same"
    );
}

#[tokio::test]
async fn sighup_reloads() {
    let process = Process::start(&Setup {
        tables: "[telemetry]\nlog_level = \"info\"\naccess_log = \"off\"".to_owned(),
        ..Setup::default()
    })
    .await;
    let ask = async || {
        let request = signed(process.recording("hup-1"), UNKNOWN);
        process.client.send(&request).await.unwrap().status.as_u16()
    };
    assert_eq!(ask().await, 401);
    edit(&process.site.file, with_stranger);
    process.signal("HUP");
    eventually("the new key works", async || ask().await == 200).await;

    edit(&process.site.file, |_| "this is no TOML".to_owned());
    process.signal("HUP");
    eventually("the reason is logged", async || {
        process.diagnostics().contains("TOML") || process.diagnostics().contains("refused")
    })
    .await;
    assert_eq!(ask().await, 200);
}

/// A disk that hangs: the only blocking thread is taken, so that no file is read.
#[test]
fn a_reload_that_hangs_does_not_delay_the_shutdown() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (release, hangs) = std::sync::mpsc::channel::<()>();
    runtime.block_on(async {
        let mut env = TestEnv::start().await;
        let hanging = tokio::task::spawn_blocking(move || hangs.recv());
        let (reply, reloaded) = tokio::sync::oneshot::channel();
        let (second_reply, second) = tokio::sync::oneshot::channel();
        for reply in [reply, second_reply] {
            env.commands
                .send(AdminCommand::Reload(reply))
                .await
                .unwrap();
        }
        let stopped = tokio::time::timeout(Duration::from_secs(20), env.shut_down()).await;
        assert!(stopped.expect("it waits for the reload").complete);
        // Their callers are told.
        assert!(reloaded.await.is_err() && second.await.is_err());
        drop(release);
        let _ = hanging.await;
    });
}
