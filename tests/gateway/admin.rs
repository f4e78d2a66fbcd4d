//! Admin interface (§8) and the commands that use it.

use std::net::SocketAddr;

use serde_json::Value;

use crate::page;
use crate::support::{SHANGHAI, Setup, TestEnv, eventually};

fn address(env: &TestEnv) -> SocketAddr {
    env.bound.admin.unwrap()
}

// ---- Pages ----------------------------------------------------------------------------------------

#[tokio::test]
async fn the_probes_do_not_depend_on_the_nodes() {
    let mut env = TestEnv::start().await;
    env.nodes[0].stop().await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(page::get(address(&env), path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn the_metrics_are_openmetrics_with_one_prefix_and_no_ak() {
    let env = TestEnv::start().await;
    env.get_recording("metrics-1").await;
    env.get_recording("metrics-1").await;
    let page = page::get(address(&env), "/metrics").await;
    assert_eq!(page.status, 200);
    let content_type = page.header("content-type").unwrap();
    assert!(
        content_type.starts_with("application/openmetrics-text"),
        "{content_type}"
    );
    assert!(page.body.ends_with("# EOF\n"));
    assert_eq!(page.body.matches("# EOF").count(), 1);
    let mut families = Vec::new();
    for line in page.body.lines().filter(|line| *line != "# EOF") {
        let words: Vec<_> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "TYPE", name, kind] => {
                assert!(name.starts_with("ccfs_gateway_"), "{line}");
                assert!(
                    ["counter", "gauge", "histogram", "info"].contains(&kind),
                    "{line}"
                );
                assert!(
                    !families.contains(&name),
                    "{line}: a family stands together, once"
                );
                families.push(name);
            }
            ["#", "HELP" | "UNIT", name, _] => {
                assert!(name.starts_with("ccfs_gateway_"), "{line}");
            }
            _ => {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                assert!(value.parse::<f64>().is_ok(), "{line}");
                let family = families.last().expect("a TYPE comes first");
                assert!(sample.starts_with(family), "{line} stands under {family}");
            }
        }
    }
    assert!(!page.body.contains(SHANGHAI) && !page.body.contains("metrics-1"));
    let count = |status: &str| {
        let sample = format!("ccfs_gateway_cache_requests_total{{status=\"{status}\"}} 1");
        page.body.lines().any(|line| line == sample)
    };
    assert!(count("hit") && count("stored"), "{}", page.body);
}

#[tokio::test]
async fn the_status_shows_the_running_state() {
    let setup = Setup {
        nodes: 2,
        ..Setup::default()
    };
    let env = setup.start().await;
    env.get_recording("status-1").await;
    let page = page::get(address(&env), "/status").await;
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, Some("application/json"))
    );
    let status = page.json();
    assert_eq!(status["draining"], false);
    assert_eq!(status["access_keys"], 2);
    assert_eq!(status["clusters"][0]["name"], "ccfs");
    assert_eq!(status["clusters"][0]["insecure_skip_verify"], false);
    assert_eq!(status["clusters"][0]["nodes"].as_array().unwrap().len(), 2);
    assert_eq!(status["cache"]["entries"], 1);
}

#[tokio::test]
async fn the_configuration_is_shown_without_secrets() {
    let env = TestEnv::start().await;
    let page = page::get(address(&env), "/config").await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains(SHANGHAI) && page.body.contains("Europe/Berlin"));
    assert!(!page.body.contains("SECRET"), "{}", page.body);
}

// ---- Access control ------------------------------------------------------------------------------

#[tokio::test]
async fn every_page_has_a_strict_policy_and_allows_no_other_origin() {
    let env = TestEnv::start().await;
    for path in ["/status", "/metrics", "/config", "/livez", "/nowhere"] {
        let page = page::get(address(&env), path).await;
        let policy = page.header("content-security-policy").unwrap_or_default();
        assert!(policy.contains("default-src 'none'"), "{path}: {policy:?}");
        assert_eq!(page.header("access-control-allow-origin"), None, "{path}");
        assert_eq!(page.header("cache-control"), Some("no-store"), "{path}");
    }
}

#[tokio::test]
async fn only_the_names_of_this_machine_are_served() {
    let env = TestEnv::start().await;
    let admin = address(&env);
    let port = admin.port();
    for (host, status) in [
        (format!("127.0.0.1:{port}"), 200),
        (format!("localhost:{port}"), 200),
        (format!("[::1]:{port}"), 200),
        // As a forwarded port is reached.
        ("localhost:1".to_owned(), 200),
        ("127.0.0.1".to_owned(), 200),
        ("evil.example".to_owned(), 421),
        (format!("evil.example:{port}"), 421),
        (format!("127.0.0.1.evil.example:{port}"), 421),
        (format!("localhost.evil.example:{port}"), 421),
    ] {
        for path in ["/status", "/readyz"] {
            let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n");
            assert_eq!(
                page::exchange(admin, &head).await.status,
                status,
                "{path} of {host}"
            );
        }
    }
}

#[tokio::test]
async fn a_command_needs_its_header_and_from_a_browser_the_same_origin() {
    let env = TestEnv::start().await;
    let admin = address(&env);
    for (fields, served) in [
        (String::new(), false),
        ("X-Ccfs-Gateway: 0\r\n".to_owned(), false),
        ("X-Ccfs-Gateway: 1\r\n".to_owned(), true),
        (
            format!("X-Ccfs-Gateway: 1\r\nOrigin: http://{admin}\r\n"),
            true,
        ),
        (
            "X-Ccfs-Gateway: 1\r\nOrigin: http://evil.example\r\n".to_owned(),
            false,
        ),
        ("X-Ccfs-Gateway: 1\r\nOrigin: null\r\n".to_owned(), false),
        (
            "X-Ccfs-Gateway: 1\r\nSec-Fetch-Site: cross-site\r\n".to_owned(),
            false,
        ),
        (
            "X-Ccfs-Gateway: 1\r\nSec-Fetch-Site: same-origin\r\n".to_owned(),
            true,
        ),
    ] {
        let head = format!("POST /cache/purge HTTP/1.1\r\nHost: {admin}\r\n{fields}");
        let page = page::exchange(admin, &head).await;
        assert_eq!(page.status == 200, served, "{fields:?}: {}", page.status);
    }
    for path in ["/cache/purge", "/reload", "/drain", "/nodes/ccfs/x/drain"] {
        let status = page::get(admin, path).await.status;
        assert!([404, 405].contains(&status), "GET {path}: {status}");
    }
    assert_eq!(
        page::get(admin, "/readyz").await.status,
        200,
        "nothing was drained"
    );
    let post = page::post(admin, "/status").await;
    assert_eq!(
        (post.status, post.header("allow")),
        (405, Some("GET, HEAD"))
    );
}

#[tokio::test]
async fn a_token_opens_everything_but_the_probes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    ccfs_gateway::stand_in::certificates::write_private_file(&file, b"s3cret-token\n").unwrap();
    let setup = Setup {
        tables: format!("[admin]\nbind = \"127.0.0.1:0\"\ntoken_file = {file:?}"),
        ..Setup::default()
    };
    let env = setup.start().await;
    let admin = address(&env);
    let get = async |path: &str, fields: &str| {
        page::exchange(
            admin,
            &format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\n{fields}"),
        )
        .await
    };
    for path in ["/livez", "/readyz"] {
        assert_eq!(get(path, "").await.status, 200);
    }
    for path in ["/", "/status", "/metrics", "/config"] {
        let refused = get(path, "").await;
        assert_eq!(refused.status, 401, "{path}");
        assert!(refused.header("www-authenticate").is_some());
        for wrong in [
            "Bearer s3cret-toke",
            "Bearer S3CRET-TOKEN",
            "Basic czNjcmV0LXRva2Vu",
            "s3cret-token",
        ] {
            let response = get(path, &format!("Authorization: {wrong}\r\n")).await;
            assert_eq!(response.status, 401, "{path} with {wrong}");
        }
    }
    // Base64 of `anybody:s3cret-token`.
    for right in [
        "Bearer s3cret-token",
        "bearer s3cret-token",
        "Basic YW55Ym9keTpzM2NyZXQtdG9rZW4=",
    ] {
        let response = get("/status", &format!("Authorization: {right}\r\n")).await;
        assert_eq!(response.status, 200, "{right}");
    }
    assert_eq!(page::post(admin, "/drain").await.status, 401);
    assert_eq!(get("/readyz", "").await.status, 200, "nothing was drained");
}

// ---- Nodes ----------------------------------------------------------------------------------------

#[tokio::test]
async fn a_drained_node_gets_no_new_requests() {
    let env = Setup {
        nodes: 2,
        ..Setup::default()
    };
    let env = env.start().await;
    let order = async |node: usize, order: &str| {
        let path = format!("/nodes/ccfs/{}/{order}", env.nodes[node].address());
        page::post(address(&env), &path).await.status
    };
    let share = async |prefix: &str| {
        env.nodes
            .iter()
            .for_each(ccfs_gateway::stand_in::StandIn::clear_record);
        for n in 0..20 {
            assert_eq!(
                env.get_recording(&format!("{prefix}-{n}")).await.status,
                200
            );
        }
        let count = |node: usize| env.nodes[node].count("getRecordFileUrlFromObs");
        [count(0), count(1)]
    };
    assert_eq!(order(0, "drain").await, 200);
    assert_eq!(share("drained").await, [0, 20]);
    assert_eq!(order(0, "undrain").await, 200);
    assert_eq!(order(1, "drain").await, 200);
    assert_eq!(share("other").await, [20, 0]);
    assert_eq!(order(1, "undrain").await, 200);
    assert_eq!(order(1, "stop").await, 404);
    for path in [
        "/nodes/none/127.0.0.1:1/drain",
        "/nodes/ccfs/127.0.0.1:1/drain",
        "/nodes/ccfs",
    ] {
        assert_eq!(page::post(address(&env), path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn with_all_nodes_drained_there_is_no_healthy_node() {
    let env = TestEnv::start().await;
    let path = format!("/nodes/ccfs/{}/drain", env.nodes[0].address());
    page::post(address(&env), &path).await;
    let response = env.get_recording("none-1").await;
    assert_eq!(response.status, 503);
    assert_eq!(response.header("x-gateway-error"), Some("no-healthy-node"));
    assert!(response.header("retry-after").is_some());
    assert_eq!(env.recording_fetches(), 0);
}

// ---- Commands that use the admin interface -------------------------------------------------------

#[tokio::test]
async fn the_commands_reach_a_running_gateway() {
    let env = TestEnv::start().await;
    let admin = format!("http://{}", address(&env));
    let folder = env.file("");
    let run = async |arguments: &[&str], admin: &str| {
        let (folder, admin) = (folder.clone(), admin.to_owned());
        let arguments: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).collect();
        let running = tokio::task::spawn_blocking(move || {
            let mut all: Vec<&str> = arguments.iter().map(String::as_str).collect();
            all.extend(["--admin", &admin]);
            crate::process::run_command(&folder, &all)
        });
        let output = running.await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), text)
    };
    for name in ["status", "nodes", "healthcheck"] {
        assert_eq!(run(&[name], &admin).await.0, 0, "{name}");
    }
    let (code, text) = run(&["status", "--json"], &admin).await;
    let status: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &status["access_keys"]), (0, &2.into()));
    let (code, text) = run(&["nodes", "--json"], &admin).await;
    assert_eq!(code, 0);
    assert!(serde_json::from_str::<Value>(&text).is_ok(), "{text}");
    assert!(text.contains(&env.nodes[0].address().to_string()), "{text}");

    assert_eq!(run(&["reload"], &admin).await.0, 0);
    std::fs::write(env.file("gateway.toml"), "this is no TOML").unwrap();
    assert_eq!(
        run(&["reload"], &admin).await.0,
        1,
        "a refused configuration"
    );
    assert_eq!(run(&["drain"], &admin).await.0, 0);
    eventually("it has ended", async || env.gateway.is_finished()).await;
    for name in ["status", "nodes", "healthcheck", "reload", "drain"] {
        assert_eq!(run(&[name], &admin).await.0, 1, "{name} of nobody");
    }
}
