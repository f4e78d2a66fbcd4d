//! §8: a new configuration is put in force whole, or not at all; nothing is dropped.

use std::net::SocketAddr;
use std::path::Path;

use ccfs_gateway::client::ClientRequest;
use ccfs_gateway::stand_in::certificates::write_private_file;
use ccfs_gateway::stand_in::{Fault, When};

use crate::page::{self, AdminResponse};
use crate::process::Process;
use crate::support::{
    BERLIN, SHANGHAI, Setup, TestEnv, UNKNOWN, client_trusting, credential, eventually, read,
    secret, signed,
};

/// Rewrites the configuration.
fn edit(file: &Path, change: impl FnOnce(String) -> String) {
    std::fs::write(file, change(read(file))).unwrap();
}

async fn reload(world: &TestEnv) -> AdminResponse {
    page::post(world.bound.admin.unwrap(), "/reload").await
}

async fn edited(world: &TestEnv, change: impl FnOnce(String) -> String) -> AdminResponse {
    edit(&world.file("gateway.toml"), change);
    let page = reload(world).await;
    assert_eq!(page.status, 200, "{}", page.body);
    page
}

/// A further account, behind everything else.
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

async fn status(world: &TestEnv, ak: &str) -> u16 {
    let request = signed(world.recording("reload-1"), ak);
    world.send(&request).await.status.as_u16()
}

#[tokio::test]
async fn keys_come_and_go_and_take_their_entries_with_them() {
    let world = TestEnv::start().await;
    assert_eq!(
        [status(&world, BERLIN).await, status(&world, UNKNOWN).await],
        [200, 401]
    );
    let before = read(&world.file("gateway.toml"));
    edited(&world, |text| {
        with_stranger(without("access_keys.ak-berlin")(text))
    })
    .await;
    assert_eq!(
        [status(&world, BERLIN).await, status(&world, UNKNOWN).await],
        [401, 200]
    );
    edited(&world, |_| before).await;
    let again = world
        .send(&signed(world.recording("reload-1"), BERLIN))
        .await;
    let verdict = again.header("cache-status").unwrap();
    assert_eq!(
        verdict, "ccfs-gateway; fwd=uri-miss; stored",
        "its entries had gone"
    );
}

#[tokio::test]
async fn a_secret_that_goes_takes_the_entries_with_it_and_one_that_comes_does_not() {
    let world = TestEnv::start().await;
    let other = credential(UNKNOWN);
    let other =
        ccfs_gateway::auth::Credential::new(SHANGHAI.into(), other.secrets().to_vec(), true);
    let by_other = |world: &TestEnv| {
        let names = ccfs_gateway::client::DEFAULT_SIGNED_FIELDS;
        let now = jiff::Timestamp::now();
        world
            .recording("rotate-1")
            .sign(&other, names, now)
            .unwrap()
    };
    let hit = async |request: &ClientRequest| {
        let answer = world.send(request).await;
        assert_eq!(answer.status, 200);
        answer.header("cache-status").unwrap().contains("hit")
    };
    let by_first = signed(world.recording("rotate-1"), SHANGHAI);
    assert!(!hit(&by_first).await);
    assert_eq!(world.send(&by_other(&world)).await.status, 401);

    // The new secret comes second: both verify, the first one signs, the entries stay.
    let both = format!("secret_key_file = [\"{SHANGHAI}\", \"{UNKNOWN}\"]");
    let first = format!("secret_key_file = \"{SHANGHAI}\"");
    edited(&world, |text| text.replace(&first, &both)).await;
    assert!(hit(&by_first).await && hit(&by_other(&world)).await);

    // The old one goes.
    let second = format!("secret_key_file = \"{UNKNOWN}\"");
    edited(&world, |text| text.replace(&both, &second)).await;
    assert_eq!(world.send(&by_first).await.status, 401);
    let requests = world.recording_fetches();
    let answer = world.send(&by_other(&world)).await;
    assert!(!answer.header("cache-status").unwrap().contains("hit"));
    assert_eq!(world.recording_fetches(), requests + 1);
}

#[tokio::test]
async fn a_key_file_is_read_again() {
    let world = TestEnv::start().await;
    assert_eq!(status(&world, SHANGHAI).await, 200);
    write_private_file(&world.file(SHANGHAI), b"another secret, for the same ak").unwrap();
    assert_eq!(reload(&world).await.status, 200);
    assert_eq!(status(&world, SHANGHAI).await, 401);
    write_private_file(&world.file(SHANGHAI), secret(SHANGHAI).as_bytes()).unwrap();
    assert_eq!(reload(&world).await.status, 200);
    assert_eq!(status(&world, SHANGHAI).await, 200);
}

#[tokio::test]
async fn a_disabled_key_is_like_an_unknown_one() {
    let world = TestEnv::start().await;
    assert_eq!(status(&world, SHANGHAI).await, 200);
    let table = format!("[access_keys.{SHANGHAI}]\n");
    edited(&world, |text| {
        text.replace(&table, &format!("{table}enabled = false\n"))
    })
    .await;
    let disabled = world.get_recording("reload-1").await;
    let unknown = world
        .send(&signed(world.recording("reload-1"), UNKNOWN))
        .await;
    assert_eq!(
        (disabled.status.as_u16(), &disabled.body),
        (401, &unknown.body)
    );
    assert_eq!(world.recording_fetches(), 1);
}

#[tokio::test]
async fn a_bad_configuration_is_refused_and_the_old_one_stays() {
    let world = TestEnv::start().await;
    let file = world.file("gateway.toml");
    let good = read(&file);
    let admin = world.bound.admin.unwrap();
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
        let page = reload(&world).await;
        assert!((400..600).contains(&page.status), "{}", page.status);
        assert!(!page.body.contains("SECRET"), "{}", page.body);
        assert_eq!(status(&world, SHANGHAI).await, 200);
        assert_eq!(status(&world, BERLIN).await, 200);
    }
    std::fs::write(&file, &good).unwrap();
    assert_eq!(reload(&world).await.status, 200);
    assert_eq!(page::metric(admin, "config_generation").await, 2.0);
}

#[tokio::test]
async fn every_key_that_needs_a_restart_is_named() {
    let world = TestEnv::start().await;
    edit(&world.file("gateway.toml"), |text| {
        text.replace("log_level = \"error\"", "log_level = \"warn\"")
            + "\n[server]\nworkers = 7\n[cache]\nmax_size = \"1MiB\"\n"
    });
    let page = reload(&world).await;
    assert!((400..500).contains(&page.status), "{}", page.status);
    for key in [
        "[server] workers",
        "[cache] max_size",
        "[telemetry]",
        "restart",
    ] {
        assert!(page.body.contains(key), "{key}: {}", page.body);
    }
}

#[tokio::test]
async fn a_refused_configuration_is_counted_and_shown() {
    let world = TestEnv::start().await;
    edit(&world.file("gateway.toml"), |_| {
        "this is no TOML".to_owned()
    });
    reload(&world).await;
    let admin = world.bound.admin.unwrap();
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
async fn listeners_come_and_go() {
    let world = TestEnv::start().await;
    let further = r#"
[listeners.further]
bind = "127.0.0.1:PORT"
cluster = "ccfs"
tls = { certificate = "leaf.pem", private_key = "leaf.key" }
"#;
    // Somebody else may take the free port in between.
    let mut url = String::new();
    for _ in 0..5 {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let table = further.replace("PORT", &free.port().to_string());
        let old = read(&world.file("gateway.toml"));
        edit(&world.file("gateway.toml"), |text| text + &table);
        if reload(&world).await.status == 200 {
            url = format!("https://{free}");
            break;
        }
        edit(&world.file("gateway.toml"), |_| old);
    }
    let mut request = world.recording("listener-1");
    request
        .headers
        .insert("host", url["https://".len()..].parse().unwrap());
    let further = ClientRequest::post(&url, request.body.clone()).unwrap();
    let client = client_trusting(&world.file("")).with_idle_connections(1);
    let answer = client
        .send(&signed(further.clone(), SHANGHAI))
        .await
        .unwrap();
    assert_eq!(answer.status, 200);

    edited(&world, without("listeners.further")).await;
    let address: SocketAddr = url["https://".len()..].parse().unwrap();
    eventually("nobody listens there", async || {
        tokio::net::TcpStream::connect(address).await.is_err()
    })
    .await;
    assert_eq!(status(&world, SHANGHAI).await, 200);
}

#[tokio::test]
async fn what_is_in_flight_and_what_is_kept_lives_on() {
    let setup = Setup {
        shanghai: "rate_limit = { per_second = 1, burst = 60 }".to_owned(),
        ..Setup::default()
    };
    let world = std::sync::Arc::new(setup.start().await);
    world.get_recording("kept-1").await;
    world.nodes[0].faults().inject(Fault::Hold, When::Always);
    let asking = world.clone();
    let held = tokio::spawn(async move { asking.get_recording("kept-2").await });
    let ten = std::time::Duration::from_secs(10);
    assert!(
        world.nodes[0]
            .wait_for_requests("getRecordFileUrlFromObs", 2, ten)
            .await
    );
    edited(&world, |text| text + "\n[cache]\nnegative_ttl = \"1s\"\n").await;
    let hit = world.get_recording("kept-1").await;
    assert!(
        hit.header("cache-status").unwrap().contains("hit"),
        "the cache lives on"
    );
    world.nodes[0].faults().clear();
    assert_eq!(held.await.unwrap().status, 200);
}

#[tokio::test]
async fn connections_survive_and_budgets_are_not_refilled() {
    let setup = Setup {
        shanghai: "rate_limit = { per_second = 1, burst = 2 }".to_owned(),
        ..Setup::default()
    };
    let world = setup.start().await;
    let admin = world.bound.admin.unwrap();
    let handshakes = async || page::metric(admin, r#"handshakes_total{result="ok"}"#).await;
    let mut limited = false;
    for n in 0..10 {
        limited |= world.get_recording(&format!("spent-{n}")).await.status == 429;
    }
    assert!(limited);
    let before = handshakes().await;
    assert_eq!(reload(&world).await.status, 200);
    let mut limited = false;
    for n in 10..13 {
        limited |= world.get_recording(&format!("spent-{n}")).await.status == 429;
    }
    assert!(limited, "a reload is no free refill");
    assert_eq!(
        handshakes().await,
        before,
        "the client's connection is still the same"
    );
}

#[tokio::test]
async fn hangup_reloads() {
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
    eventually("it is told why not", async || {
        process.diagnostics().contains("TOML") || process.diagnostics().contains("refused")
    })
    .await;
    assert_eq!(ask().await, 200);
}
