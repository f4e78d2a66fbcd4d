//! Findings: each appears when it is true and goes when it is over, everywhere that speaks to people.

use std::net::SocketAddr;
use std::time::Duration;

use ccfs_gateway::app::App;
use ccfs_gateway::client::DEFAULT_SIGNED_FIELDS;
use ccfs_gateway::config::Config;
use ccfs_gateway::findings::Timing;
use ccfs_gateway::stand_in::{Fault, Settings, StandIn, When};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::net::TcpStream;

mod ends;
mod losses;
mod settings;
mod tiers;

use crate::control::ask;
use crate::page;
use crate::process::Process;
use crate::support::{
    BERLIN, SHANGHAI, Setup, Site, TestEnv, UNKNOWN, credential, eventually, read, signed,
};

/// The windows of the rules, so that a test need not wait a minute.
const QUICK: Timing = Timing {
    interval: Duration::from_millis(50),
    minute: Duration::from_secs(2),
};

async fn start(setup: Setup) -> TestEnv {
    start_site(setup.prepare().await)
}

fn start_site(site: Site) -> TestEnv {
    let (config, _) = Config::load(&site.file).unwrap_or_else(|wrong| panic!("{wrong}"));
    let app = App::bind(config, Some(site.file.clone())).unwrap();
    let watch = Duration::from_millis(100);
    TestEnv::with_app(
        site,
        app.with_watch_interval(watch).with_finding_timing(QUICK),
    )
}

fn admin(env: &TestEnv) -> SocketAddr {
    env.bound.admin.unwrap()
}

/// The findings of one kind.
async fn all(env: &TestEnv, id: &str) -> Vec<Value> {
    let status = page::get(admin(env), "/status").await.json();
    let findings = status["findings"].as_array().cloned().unwrap_or_default();
    findings.into_iter().filter(|it| it["id"] == id).collect()
}

/// Waits for a finding, checks its form, and returns it.
async fn appears(env: &TestEnv, id: &str) -> Value {
    eventually(id, async || !all(env, id).await.is_empty()).await;
    let found = all(env, id).await;
    let finding = found.first().expect("it holds for a while").clone();
    for text in ["cause", "advice", "since", "last_seen"] {
        assert!(
            finding[text].as_str().is_some_and(|it| !it.is_empty()),
            "{finding}"
        );
    }
    assert_eq!(finding["runbook"], format!("troubleshooting.md#{id}"));
    let severity = finding["severity"].as_str().unwrap();
    let gauge = format!("findings{{id=\"{id}\",severity=\"{severity}\"}}");
    assert!(page::metric(admin(env), &gauge).await >= 1.0, "{gauge}");
    finding
}

async fn disappears(env: &TestEnv, id: &str) {
    eventually(&format!("no {id}"), async || all(env, id).await.is_empty()).await;
    let gauge = format!("findings{{id=\"{id}\",severity=\"warning\"}}");
    assert_eq!(page::metric(admin(env), &gauge).await, 0.0);
}

async fn edit(env: &TestEnv, change: impl FnOnce(String) -> String) -> page::AdminResponse {
    let file = env.file("gateway.toml");
    std::fs::write(&file, change(read(&file))).unwrap();
    page::post(admin(env), "/reload").await
}

fn is_name(finding: &Value, kind: &str, name: &str) -> bool {
    finding["subject"]["kind"] == kind && finding["subject"]["name"] == name
}

#[tokio::test]
async fn a_healthy_gateway_has_none_and_doctor_says_so() {
    let env = start(Setup::default()).await;
    env.get_recording("healthy-1").await;
    let status = page::get(admin(&env), "/status").await.json();
    assert_eq!(
        (&status["findings"], &status["findings_omitted"]),
        (&Value::Array(vec![]), &0.into())
    );
    let doctor = ask(&env, &["doctor"]).await;
    assert_eq!(
        (doctor.code, doctor.out.as_str()),
        (Some(0), "nothing is wrong\n")
    );
}

#[tokio::test]
async fn a_node_that_refuses_the_signature_is_named_with_the_access_key() {
    let env = start(Setup::default()).await;
    env.nodes[0]
        .faults()
        .inject(Fault::Status(401), When::Always);
    assert_eq!(env.get_recording("refused-1").await.status, 401);
    let finding = appears(&env, "node-refuses-signature").await;
    assert_eq!(finding["severity"], "critical", "it is the only node");
    let node = format!("ccfs/{}", env.nodes[0].address());
    assert!(is_name(&finding, "node", &node), "{finding}");
    assert_eq!(finding["details"]["access_keys"][0]["access_key"], SHANGHAI);
    assert!(
        finding["cause"].as_str().unwrap().contains(SHANGHAI),
        "{finding}"
    );
    assert_eq!(finding["failing_share"], 1.0);
    let refused = "upstream_tries_total{result=\"refused\"}";
    assert_eq!(page::metric(admin(&env), refused).await, 1.0);
    assert_eq!(
        page::metric(admin(&env), "upstream_tries_total{result=\"ok\"}").await,
        0.0
    );
    let doctor = ask(&env, &["doctor"]).await;
    assert_eq!(doctor.code, Some(1));
    for part in [
        "CRITICAL  node-refuses-signature",
        &node,
        "What to do: Compare the secret",
    ] {
        assert!(doctor.out.contains(part), "{part}\n{}", doctor.out);
    }
    env.nodes[0].faults().clear();
    disappears(&env, "node-refuses-signature").await;
}

#[tokio::test]
async fn flow_control_is_critical_if_every_node_says_so() {
    let env = start(Setup {
        nodes: 2,
        ..Setup::default()
    })
    .await;
    env.nodes[0]
        .faults()
        .inject(Fault::FlowControl, When::Always);
    for call in 0..6 {
        env.get_recording(&format!("flow-{call}")).await;
    }
    let finding = appears(&env, "flow-control").await;
    assert_eq!(finding["severity"], "warning", "{finding}");
    assert!(is_name(&finding, "cluster", "ccfs"), "{finding}");
    env.nodes[1]
        .faults()
        .inject(Fault::FlowControl, When::Always);
    eventually("it is critical and names what was learned", async || {
        env.get_recording("flow-both").await;
        all(&env, "flow-control").await.iter().any(|it| {
            let cause = it["cause"].as_str().unwrap();
            it["severity"] == "critical" && cause.contains("; learned: ")
        })
    })
    .await;
    env.nodes.iter().for_each(|node| node.faults().clear());
    disappears(&env, "flow-control").await;
}

#[tokio::test]
async fn dead_nodes_are_down_and_the_last_one_is_the_cluster() {
    let health = "health_check = { interval = \"100ms\", unhealthy_after = 1, healthy_after = 1 }";
    let setup = Setup {
        nodes: 2,
        cluster: health.to_owned(),
        ..Setup::default()
    };
    let mut env = start(setup).await;
    env.nodes[0].stop().await;
    let finding = appears(&env, "node-down").await;
    assert_eq!(finding["severity"], "warning");
    assert!(
        finding["cause"].as_str().unwrap().contains("refused"),
        "{finding}"
    );
    assert!(all(&env, "cluster-down").await.is_empty());
    env.nodes[1].stop().await;
    let finding = appears(&env, "cluster-down").await;
    assert_eq!(finding["severity"], "critical");
    assert_eq!(appears(&env, "panic").await["severity"], "critical");
    eventually("critical nodes", async || {
        let down = all(&env, "node-down").await;
        down.len() == 2 && down.iter().all(|it| it["severity"] == "critical")
    })
    .await;
    env.nodes[0].restart().await.unwrap();
    env.nodes[1].restart().await.unwrap();
    for id in ["cluster-down", "panic", "node-down"] {
        disappears(&env, id).await;
    }
}

#[tokio::test]
async fn a_node_at_which_requests_fail_is_failing() {
    let env = start(Setup {
        nodes: 2,
        ..Setup::default()
    })
    .await;
    env.nodes[0]
        .faults()
        .inject(Fault::Status(503), When::Always);
    for call in 0..4 {
        env.get_recording(&format!("failing-{call}")).await;
    }
    let finding = appears(&env, "node-failing").await;
    assert!(
        is_name(
            &finding,
            "node",
            &format!("ccfs/{}", env.nodes[0].address())
        ),
        "{finding}"
    );
    assert!(
        finding["cause"].as_str().unwrap().contains("503"),
        "{finding}"
    );
    env.nodes[0].faults().clear();
    disappears(&env, "node-failing").await;
}

#[tokio::test]
async fn a_cluster_whose_nodes_are_all_drained_is_critical() {
    let env = start(Setup::default()).await;
    let node = env.nodes[0].address();
    page::post(admin(&env), &format!("/nodes/ccfs/{node}/drain")).await;
    assert_eq!(
        appears(&env, "cluster-drained").await["severity"],
        "critical"
    );
    assert!(all(&env, "cluster-down").await.is_empty());
    page::post(admin(&env), &format!("/nodes/ccfs/{node}/undrain")).await;
    disappears(&env, "cluster-drained").await;
}

#[tokio::test]
async fn refused_clients_are_listed_as_they_claim_to_be() {
    let env = start(Setup::default()).await;
    let wrong = |ak: &'static str| {
        let request = env.recording("claimed-1");
        let other = ccfs_gateway::auth::Secret::new(b"another secret".to_vec());
        let access_key = ccfs_gateway::auth::AccessKey::from(ak);
        let credential = ccfs_gateway::auth::Credential::new(access_key, vec![other], true);
        request
            .sign(&credential, DEFAULT_SIGNED_FIELDS, Timestamp::now())
            .unwrap()
    };
    for _ in 0..8 {
        assert_eq!(env.send(&wrong(SHANGHAI)).await.status, 401);
    }
    for _ in 0..4 {
        assert_eq!(env.send(&wrong(UNKNOWN)).await.status, 401);
    }
    // The secret key in the place of the access key.
    let swapped: &'static str = Box::leak(crate::support::secret(BERLIN).into_boxed_str());
    assert_eq!(env.send(&wrong(swapped)).await.status, 401);
    appears(&env, "clients-refused").await;
    let mut finding = Value::Null;
    eventually("all three are listed", async || {
        finding = all(&env, "clients-refused").await.pop().unwrap_or_default();
        let claimed = finding["details"]["claimed"].as_array();
        claimed.is_some_and(|claimed| claimed.len() == 3)
    })
    .await;
    assert_eq!(finding["subject"]["kind"], "gateway");
    let advice = finding["advice"].as_str().unwrap();
    assert!(advice.contains("explain --live AK"), "{advice}");
    let claimed = finding["details"]["claimed"].as_array().unwrap();
    let of = |name: &str| claimed.iter().find(|it| it["access_key"] == name).cloned();
    let known = of(SHANGHAI).unwrap_or_else(|| panic!("{finding}"));
    assert_eq!(
        (&known["count"], &known["class"], &known["configured"]),
        (&8.into(), &"wrong_signature".into(), &true.into())
    );
    assert_eq!(known["address"], "127.0.0.1");
    let unknown = of("ak-stran…").unwrap_or_else(|| panic!("{finding}"));
    assert_eq!(
        (&unknown["count"], &unknown["configured"]),
        (&4.into(), &false.into())
    );
    assert!(
        of("a secret key where the ak belongs").is_some(),
        "{finding}"
    );
    let status = page::get(admin(&env), "/status").await.body;
    assert!(
        !status.contains(&swapped[..12]) && !status.contains(UNKNOWN),
        "{status}"
    );
    disappears(&env, "clients-refused").await;
    let status = page::get(admin(&env), "/status").await.json();
    assert_eq!(
        status["claimed_access_keys"].as_array().map(Vec::len),
        Some(3),
        "kept for a day"
    );
}

#[tokio::test]
async fn clocks_that_are_off_in_one_direction_are_named_in_words() {
    let accounts = vec![("ak-third", "time_zone = \"GMT+8\"")];
    let env = start(Setup {
        accounts,
        ..Setup::default()
    })
    .await;
    let early = Timestamp::now() - SignedDuration::from_secs(33_194);
    for ak in [SHANGHAI, BERLIN, "ak-third"] {
        let request = env.recording("clock-1");
        let request = request
            .sign(&credential(ak), DEFAULT_SIGNED_FIELDS, early)
            .unwrap();
        assert_eq!(env.send(&request).await.status, 401);
    }
    let finding = appears(&env, "clock-off").await;
    assert!(
        finding["cause"]
            .as_str()
            .unwrap()
            .contains("9 h 13 min too early"),
        "{finding}"
    );
    eventually("the access log says so", async || {
        read(&env.file("access.log")).contains("9 h 13 min too early")
    })
    .await;
    disappears(&env, "clock-off").await;
}

#[tokio::test]
async fn an_access_key_whose_recordings_are_not_found_is_named() {
    let env = start(Setup {
        tables: "[cache]\nnegative_ttl = \"60s\"".to_owned(),
        ..Setup::default()
    })
    .await;
    env.nodes[0].faults().add_unknown_call("1637742300-27");
    for _ in 0..20 {
        let response = env.get_recording("1637742300-27").await;
        assert_eq!(response.result_code().as_deref(), Some("0300012"));
    }
    let finding = appears(&env, "recordings-not-found").await;
    assert!(is_name(&finding, "access_key", SHANGHAI), "{finding}");
    let count = finding["details"]["not_found"].as_u64();
    assert!(
        count.is_some_and(|count| (3..=20).contains(&count)),
        "{finding}"
    );
    disappears(&env, "recordings-not-found").await;
}

#[tokio::test]
async fn an_account_at_its_limit_is_named_with_the_key_that_would_raise_it() {
    let shanghai = "rate_limit = { per_second = 1, burst = 1 }".to_owned();
    let env = start(Setup {
        shanghai,
        ..Setup::default()
    })
    .await;
    let mut limited = 0;
    for call in 0..4 {
        limited += u32::from(env.get_recording(&format!("limited-{call}")).await.status == 429);
    }
    assert!(limited > 0);
    let finding = appears(&env, "account-limited").await;
    assert!(is_name(&finding, "access_key", SHANGHAI), "{finding}");
    let key = format!("[access_keys.{SHANGHAI}] rate_limit");
    assert!(
        finding["cause"].as_str().unwrap().contains(&key),
        "{finding}"
    );
    disappears(&env, "account-limited").await;
}

#[tokio::test]
async fn a_gateway_at_its_limit_names_the_key_that_would_raise_it() {
    let tables = "[limits]\nmax_in_flight = 1".to_owned();
    let env = start(Setup {
        tables,
        ..Setup::default()
    })
    .await;
    env.nodes[0].faults().inject(Fault::Hold, When::Always);
    let first = signed(env.recording("capacity-1"), SHANGHAI);
    let held = env.client.send(&first);
    let finding = async {
        let interface = "getRecordFileUrlFromObs";
        assert!(
            env.nodes[0]
                .wait_for_requests(interface, 1, Duration::from_secs(10))
                .await
        );
        assert_eq!(env.get_recording("capacity-2").await.status, 503);
        let finding = appears(&env, "at-capacity").await;
        env.nodes[0].faults().clear();
        finding
    };
    let (first, finding) = tokio::join!(held, finding);
    assert_eq!(first.unwrap().status, 200);
    assert!(
        finding["cause"]
            .as_str()
            .unwrap()
            .contains("[limits] max_in_flight"),
        "{finding}"
    );
    disappears(&env, "at-capacity").await;
}

#[tokio::test]
async fn a_rejected_reload_and_keys_that_wait_for_a_restart_are_findings() {
    let env = start(Setup::default()).await;
    let good = read(&env.file("gateway.toml"));
    assert_eq!(edit(&env, |_| "nonsense = 1".to_owned()).await.status, 409);
    let finding = appears(&env, "reload-refused").await;
    assert_eq!(finding["subject"]["kind"], "configuration");
    assert!(
        finding["cause"].as_str().unwrap().contains("nonsense"),
        "{finding}"
    );

    let changed = format!("{good}\n[server]\nworkers = 7\n[limits]\nmax_connections = 77\n");
    let page = edit(&env, |_| changed).await;
    assert_eq!(page.status, 200, "{}", page.body);
    assert_eq!(
        page.json()["restart_needed"],
        serde_json::json!(["[server] workers"])
    );
    disappears(&env, "reload-refused").await;
    let finding = appears(&env, "restart-needed").await;
    assert_eq!(finding["details"]["keys"][0], "[server] workers");
    let config = page::get(admin(&env), "/config").await.json();
    assert_eq!(
        config["limits"]["max_connections"], 77,
        "the others are in force"
    );
    assert_ne!(config["server"]["workers"], 7);
    // A rejected reload after it forgets nothing.
    edit(&env, |_| "nonsense = 1".to_owned()).await;
    appears(&env, "reload-refused").await;
    appears(&env, "restart-needed").await;
    let page = edit(&env, |_| good).await;
    assert_eq!(page.json()["restart_needed"], serde_json::json!([]));
    disappears(&env, "restart-needed").await;
}

#[tokio::test]
async fn a_file_that_cannot_be_read_any_more_is_named() {
    let env = start(Setup::default()).await;
    let (file, aside) = (env.file(BERLIN), env.file("aside"));
    std::fs::rename(&file, &aside).unwrap();
    let finding = appears(&env, "file-unreadable").await;
    assert_eq!(finding["subject"]["name"], file.to_str().unwrap());
    appears(&env, "reload-refused").await;
    std::fs::rename(&aside, &file).unwrap();
    disappears(&env, "file-unreadable").await;
    disappears(&env, "reload-refused").await;
}

#[tokio::test]
async fn settings_that_are_meant_to_be_temporary_are_notes() {
    let site = Setup {
        listener: "validation = \"shadow\"".to_owned(),
        ..Setup::default()
    };
    let env = start(site).await;
    let finding = appears(&env, "shadow-on").await;
    assert!(
        is_name(&finding, "listener", "ccfs") && finding["severity"] == "note",
        "{finding}"
    );
    assert_eq!(
        ask(&env, &["doctor"]).await.code,
        Some(0),
        "notes are no failure"
    );
    let page = edit(&env, |text| {
        let text = text.replace("validation = \"shadow\"", "");
        text.replace("{ ca = \"ca.pem\" }", "{ insecure_skip_verify = true }")
    });
    assert_eq!(page.await.status, 200);
    disappears(&env, "shadow-on").await;
    let finding = appears(&env, "insecure").await;
    assert!(
        is_name(&finding, "cluster", "ccfs") && finding["severity"] == "note",
        "{finding}"
    );
    let back =
        |text: String| text.replace("{ insecure_skip_verify = true }", "{ ca = \"ca.pem\" }");
    assert_eq!(edit(&env, back).await.status, 200);
    disappears(&env, "insecure").await;
}

#[tokio::test]
async fn a_certificate_of_a_listener_that_ends_is_a_finding_until_it_is_replaced() {
    let site = Setup::default().prepare().await;
    let file = |name: &str| site.folder.path().join(name);
    let (good, key) = (read(&file("leaf.pem")), read(&file("leaf.key")));
    let (short, short_key) = certificate_for_two_days();
    std::fs::write(file("leaf.pem"), short).unwrap();
    std::fs::write(file("leaf.key"), short_key).unwrap();
    let env = start_site(site);
    let finding = appears(&env, "listener-certificate-ends").await;
    assert!(is_name(&finding, "listener", "ccfs"), "{finding}");
    assert_eq!(finding["severity"], "critical");
    assert!(
        finding["cause"]
            .as_str()
            .unwrap()
            .contains("soon.test ends in 1 d"),
        "{finding}"
    );
    std::fs::write(env.file("leaf.pem"), good).unwrap();
    std::fs::write(env.file("leaf.key"), key).unwrap();
    disappears(&env, "listener-certificate-ends").await;
}

fn certificate_for_two_days() -> (String, String) {
    let (certificate, key) = two_days("soon.test");
    (certificate.pem(), key.serialize_pem())
}

fn two_days(name: &str) -> (rcgen::Certificate, rcgen::KeyPair) {
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let end = std::time::SystemTime::now() + Duration::from_secs(2 * 86_400 - 60);
    params.not_after = end.into();
    let key = rcgen::KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap(), key)
}

#[tokio::test]
async fn a_certificate_of_a_node_that_ends_is_a_finding_while_the_node_is_configured() {
    let site = Setup::default().prepare().await;
    let (certificate, key) = two_days("127.0.0.1");
    let tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    let accounts = vec![credential(SHANGHAI)];
    let node = StandIn::start(Settings::new(tls.into(), accounts))
        .await
        .unwrap();
    std::fs::write(site.folder.path().join("node.pem"), certificate.pem()).unwrap();
    let good = read(&site.file);
    let short = good.replace(&site.nodes[0].url(), &node.url());
    std::fs::write(
        &site.file,
        short.replace("{ ca = \"ca.pem\" }", "{ ca = \"node.pem\" }"),
    )
    .unwrap();
    let env = start_site(site);
    let finding = appears(&env, "node-certificate-ends").await;
    assert!(
        is_name(&finding, "node", &format!("ccfs/{}", node.address())),
        "{finding}"
    );
    assert_eq!(finding["severity"], "critical");
    assert_eq!(edit(&env, |_| good).await.status, 200);
    disappears(&env, "node-certificate-ends").await;
}

#[tokio::test]
async fn a_store_that_is_away_is_a_finding_until_it_is_removed() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let site = Setup {
        tables: format!("[shared]\nurl = \"redis://{free}\"\nseal_key_file = \"seal\"\n"),
        ..Setup::default()
    };
    let site = site.prepare().await;
    crate::support::write_secret(&site.folder.path().join("seal"), &[7; 32]);
    let env = start_site(site);
    let finding = appears(&env, "store-away").await;
    assert_eq!(finding["subject"]["kind"], "store");
    let page = edit(&env, |text| {
        let (begin, rest) = text.split_once("[shared]").unwrap();
        let (_, end) = rest.split_once("seal_key_file = \"seal\"\n").unwrap();
        format!("{begin}{end}")
    });
    assert_eq!(page.await.status, 200);
    disappears(&env, "store-away").await;
}

#[tokio::test]
async fn a_gateway_that_cannot_be_reached_is_a_finding_of_doctor() {
    let env = TestEnv::start().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let nobody = free.to_string();
    let doctor = crate::control::run_with(&["doctor", "--json", "--admin", &nobody]).await;
    assert_eq!(doctor.code, Some(1));
    let report = doctor.json();
    let finding = &report["findings"][0];
    assert_eq!(
        (&finding["id"], &finding["severity"]),
        (&"gateway-unreachable".into(), &"critical".into())
    );
    assert!(is_name(finding, "gateway", &nobody), "{report}");
    assert_eq!(report["findings_omitted"], 0);
    drop(env);
}

/// The lines of the log about findings.
fn log_of(process: &Process) -> Vec<Value> {
    let lines = process.diagnostics();
    let lines = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["finding"].is_string()).collect()
}

#[tokio::test]
async fn a_begin_and_an_end_are_one_line_of_the_log_each() {
    let setup = Setup {
        listener: "validation = \"shadow\"".to_owned(),
        tables: "[telemetry]\nlog_level = \"info\"\nlog_format = \"json\"\naccess_log = \"off\"\n"
            .to_owned(),
        ..Setup::default()
    };
    let process = Process::start(&setup).await;
    eventually("it begins", async || !log_of(&process).is_empty()).await;
    let file = process.site.file.clone();
    std::fs::write(&file, read(&file).replace("validation = \"shadow\"", "")).unwrap();
    process.signal("HUP");
    eventually("it ends", async || log_of(&process).len() > 1).await;
    let lines = log_of(&process);
    assert_eq!(lines.len(), 2, "{lines:?}");
    let parts = ["message", "level", "finding", "severity", "kind", "name"];
    let of = |line: &Value| parts.map(|part| line[part].as_str().unwrap().to_owned());
    assert_eq!(
        of(&lines[0]),
        [
            "finding begins: shadow-on",
            "INFO",
            "shadow-on",
            "note",
            "listener",
            "ccfs"
        ]
    );
    assert_eq!(
        of(&lines[1]),
        [
            "finding ends: shadow-on",
            "INFO",
            "shadow-on",
            "note",
            "listener",
            "ccfs"
        ]
    );
    assert!(lines[0]["advice"].as_str().is_some_and(|it| !it.is_empty()));
}

async fn process_has(process: &Process, id: &str) -> bool {
    has(&page::get(process.admin, "/status").await.json(), id)
}

fn has(status: &Value, id: &str) -> bool {
    let findings = status["findings"].as_array().unwrap();
    findings.iter().any(|it| it["id"] == id)
}

#[tokio::test]
async fn lost_lines_of_the_access_log_are_a_finding() {
    let tables = "[telemetry]\nlog_level = \"info\"\naccess_log = \"/dev/full\"\n".to_owned();
    let process = Process::start(&Setup {
        tables,
        ..Setup::default()
    })
    .await;
    eventually("log-lines-lost", async || {
        process.get_recording("lost-1").await;
        process_has(&process, "log-lines-lost").await
    })
    .await;
}

/// A process that has been observed once, and a connection to its admin interface from before its last descriptor
/// is gone.
struct Short {
    process: Process,
    sender: http1::SendRequest<Empty<Bytes>>,
}

impl Short {
    async fn start() -> Self {
        let setup = Setup {
            tables: "[telemetry]\nlog_level = \"info\"\n".to_owned(),
            ..Setup::default()
        };
        let process = Process::start(&setup).await;
        let stream = TcpStream::connect(process.admin).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut short = Self { process, sender };
        // Once it is answered, the connection has its descriptor.
        assert!(!short.is_found().await);
        short
    }

    fn limit(&self, descriptors: u32) {
        let limited = std::process::Command::new("prlimit")
            .args([
                format!("--pid={}", self.process.id()),
                format!("--nofile={descriptors}:"),
            ])
            .status();
        assert!(limited.unwrap().success());
    }

    async fn is_found(&mut self) -> bool {
        let request = Request::get("/status")
            .header(HOST, self.process.admin.to_string())
            .body(Empty::<Bytes>::new())
            .unwrap();
        self.sender.ready().await.unwrap();
        let response = self.sender.send_request(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let status: Value = serde_json::from_slice(&body).unwrap();
        has(&status, "descriptors-short")
    }
}

#[tokio::test]
async fn a_process_with_no_descriptor_left_says_so() {
    let mut short = Short::start().await;
    short.limit(4);
    eventually("descriptors-short", async || short.is_found().await).await;
}

#[tokio::test]
#[ignore = "needs more than a minute"]
async fn a_process_with_descriptors_again_says_so_no_more() {
    let mut short = Short::start().await;
    short.limit(4);
    eventually("descriptors-short", async || short.is_found().await).await;
    short.limit(1024);
    let begin = tokio::time::Instant::now();
    while short.is_found().await {
        assert!(begin.elapsed() < Duration::from_secs(90));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
