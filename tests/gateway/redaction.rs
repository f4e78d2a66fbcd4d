//! What must never appear in a log, a metric, a page, an error or an output (§8, last paragraph).

use std::net::SocketAddr;
use std::path::Path;

use ccfs_gateway::client::ClientRequest;
use ccfs_gateway::stand_in::certificates::write_private_file;
use ccfs_gateway::stand_in::{Fault, When};

use crate::page;
use crate::process::{Process, run_command};
use crate::support::{BERLIN, SHANGHAI, Setup, UNKNOWN, eventually, read, secret, signed};

const TOKEN: &str = "CANARY-of-the-admin-token";
const PLAY: &str = "CANARY-of-the-play-token";
const BEARER: &str = "CANARY-of-another-scheme";
const PASSWORD: &str = "CANARY-of-a-password";

/// Secret values, each with its source.
type Canaries = Vec<(&'static str, String)>;

#[track_caller]
fn assert_silent(place: &str, text: &str, canaries: &Canaries) {
    for (what, canary) in canaries {
        assert!(
            !text.contains(canary.as_str()),
            "{what} is in {place}:\n{text}"
        );
    }
}

fn signature(request: &ClientRequest) -> String {
    let value = request.headers["authorization"].to_str().unwrap();
    value.rsplit('/').next().unwrap().to_owned()
}

/// The query of the URL in a response.
fn presigned(response: &ccfs_gateway::client::ClientResponse) -> String {
    let json = response.json();
    let url = json["resultData"]["url"].as_str().unwrap();
    url.split("Signature=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn no_secret_is_shown_at_any_log_level() {
    for level in ["trace", "debug"] {
        assert_no_secret_shown(level).await;
    }
}

async fn assert_no_secret_shown(level: &str) {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    write_private_file(&token, TOKEN.as_bytes()).unwrap();
    #[cfg(feature = "otlp")]
    let collector = crate::collector::Collector::start();
    #[cfg(feature = "otlp")]
    let traces = collector.keys("1.0");
    #[cfg(not(feature = "otlp"))]
    let traces = String::new();
    let process = outspoken(level, &token, &traces).await;
    let mut canaries: Canaries = vec![
        ("a secret key", secret(SHANGHAI)),
        ("a secret key", secret(BERLIN)),
        ("the admin token", TOKEN.to_owned()),
        ("a play token", PLAY.to_owned()),
        ("another scheme's Authorization", BEARER.to_owned()),
    ];

    let mut sent = requests(&process);
    let mut responses = Vec::new();
    for request in &sent {
        responses.push(process.client.send(request).await.unwrap());
    }
    for fault in [
        Fault::GarbageHttp,
        Fault::GarbageJson,
        Fault::CloseInBody,
        Fault::Status(500),
    ] {
        process.site.nodes[0].faults().inject(fault, When::Always);
        let request = signed(process.recording("canary-5"), BERLIN);
        responses.push(process.client.send(&request).await.unwrap());
        sent.push(request);
        process.site.nodes[0].faults().clear();
    }
    canaries.extend(signatures(&process, &sent));
    for response in responses
        .iter()
        .filter(|it| it.result_code().as_deref() == Some("0"))
    {
        canaries.push(("the query of a URL", presigned(response)));
    }
    for response in responses
        .iter()
        .filter(|it| it.headers.contains_key("x-gateway-error"))
    {
        let text = String::from_utf8_lossy(&response.body);
        assert_silent("an error", &text, &canaries);
    }

    assert_pages_are_silent(process.admin, &canaries).await;
    let log = process.site.folder.path().join("access.log");
    eventually("every line", async || {
        read(&log).lines().count() >= sent.len()
    })
    .await;
    assert_silent("the access log", &read(&log), &canaries);
    assert_silent(
        &format!("stderr at {level}"),
        &process.diagnostics(),
        &canaries,
    );
    #[cfg(feature = "otlp")]
    {
        let text = || collector.spans();
        eventually("every span", async || {
            text().iter().filter(|it| it.span.kind == 2).count() == sent.len()
        })
        .await;
        assert_silent("the traces", &format!("{:#?}", text()), &canaries);
    }
    assert!(
        process.diagnostics().contains("serving"),
        "there is output to check"
    );
}

/// The signatures of the clients and those that the gateway made.
fn signatures(process: &Process, sent: &[ClientRequest]) -> Canaries {
    let mut found = Canaries::new();
    for request in sent
        .iter()
        .filter(|request| request.headers.contains_key("authorization"))
    {
        found.push(("a signature", signature(request)));
    }
    for node in process.site.nodes[0].requests() {
        let value = node.header("authorization").unwrap_or("/none of it");
        found.push((
            "the gateway's signature",
            value.rsplit('/').next().unwrap().to_owned(),
        ));
    }
    found
}

/// A gateway with log level `level` and trace settings `traces` that accepts every kind of caller.
async fn outspoken(level: &str, token: &Path, traces: &str) -> Process {
    Process::start(&Setup {
        listener: "unknown_clients = \"forward\"".to_owned(),
        tables: format!(
            "[admin]\nbind = \"127.0.0.1:0\"\ntoken_file = {token:?}\n\
             [telemetry]\nlog_level = {level:?}\naccess_log = \"access.log\"\n{traces}"
        ),
        ..Setup::default()
    })
    .await
}

/// Requests for every way to be served and to be rejected.
fn requests(process: &Process) -> Vec<ClientRequest> {
    // Served: a miss, a hit, a re-signed request, an unverified client, a play token, a bearer
    // token.
    let mut sent = vec![
        signed(process.recording("canary-1"), SHANGHAI),
        signed(process.recording("canary-1"), SHANGHAI),
        signed(process.recording("canary-2"), UNKNOWN),
    ];
    let utc = r#"{"callId":"canary-3","beginTime":"2021-11-24 08:25:03","endTime":"2021-11-24 09:25:11"}"#;
    sent.push(signed(
        ClientRequest::post(&process.url(), utc).unwrap(),
        SHANGHAI,
    ));
    let play = format!(
        "{}/CCFS/resource/ccfs/playVoice?t=1&version=2.0&st={PLAY}",
        process.url()
    );
    sent.push(ClientRequest::get(&play).unwrap());
    let bearer = format!("Bearer {BEARER}");
    sent.push(
        process
            .recording("canary-4")
            .with_authorization(bearer.parse().unwrap()),
    );
    // Rejected: a wrong signature, a changed body, a node that fails in several ways.
    let right = signed(process.recording("canary-1"), SHANGHAI);
    let wrong = right.headers["authorization"]
        .to_str()
        .unwrap()
        .replace("/content", "/x;content");
    sent.push(right.with_authorization(wrong.parse().unwrap()));
    sent.push(signed(
        ClientRequest::post(&process.url(), "{}").unwrap(),
        BERLIN,
    ));
    sent
}

async fn assert_pages_are_silent(admin: SocketAddr, canaries: &Canaries) {
    for path in ["/", "/status", "/metrics", "/config", "/livez", "/nowhere"] {
        for authorization in [format!("Bearer {TOKEN}"), format!("Bearer {TOKEN}x")] {
            let head = format!(
                "GET {path} HTTP/1.1\r\nHost: {admin}\r\nAuthorization: {authorization}\r\n"
            );
            let page = page::exchange(admin, &head).await;
            assert_silent(path, &(page.head + &page.body), canaries);
        }
    }
}

#[tokio::test]
async fn no_secret_is_shown_for_an_invalid_configuration() {
    let site = Setup::default().prepare().await;
    let folder = site.folder.path();
    let good = read(&site.file);
    std::fs::write(
        folder.join("keys.toml"),
        format!("[access_keys.x]\nsecret_key = \"{PASSWORD}\nwrong"),
    )
    .unwrap();
    let private = std::process::Command::new("chmod")
        .args(["600", "keys.toml"])
        .current_dir(folder)
        .status();
    assert!(private.unwrap().success());
    let canaries = vec![
        ("a password", PASSWORD.to_owned()),
        ("a secret key", secret(SHANGHAI)),
    ];
    for bad in [
        good.replace(
            "nodes = [\"https://",
            &format!("nodes = [\"https://user:{PASSWORD}@"),
        ),
        good.replace(
            "nodes = [\"https://",
            &format!("nodes = [\"ftp://user:{PASSWORD}@"),
        ),
        format!("{good}\n[shared]\nurl = \"redis://:{PASSWORD}@127.0.0.1\"\n"),
        format!("{good}\n[access_keys.more]\nsecret_key = \"{PASSWORD}\"\n"),
        format!("{good}\n[access_keys.more]\nsecret_key = \"{PASSWORD}\n"),
        format!("{good}\n[access_keys.more]\nsecret_kay = \"{PASSWORD}\"\n"),
        format!("access_keys_file = \"keys.toml\"\n{good}"),
        format!("{good}\n[access_keys.more]\nsk = {PASSWORD}\n"),
        format!("{good}\r\n[access_keys.more]\r\nSK={PASSWORD}\r\n"),
        format!("{good}\n[access_keys.more]\nsk: {PASSWORD}\n"),
        format!("{good}\n[access_keys.more]\nkey = '{PASSWORD}\n"),
    ] {
        std::fs::write(folder.join("bad.toml"), &bad).unwrap();
        for name in ["check", "run"] {
            let output = run_command(folder, &[name, "--config", "bad.toml"]);
            assert_eq!(output.status.code(), Some(78), "{bad}");
            let text = [output.stdout, output.stderr].concat();
            assert_silent(name, &String::from_utf8_lossy(&text), &canaries);
        }
    }
}

#[tokio::test]
async fn no_secret_key_is_shown_by_a_command() {
    let site = Setup::default().prepare().await;
    let folder = site.folder.path();
    std::fs::write(folder.join("body"), "{}").unwrap();
    let canaries = vec![("a secret key", secret(SHANGHAI))];
    let request = ["--path", "/a", "--header", "host: h", "--body", "body"];
    let text = |arguments: &[&str]| {
        let output = run_command(folder, &[arguments, &request].concat());
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        assert_silent(arguments[0], &text, &canaries);
        text
    };
    let value = text(&["sign", "--ak", SHANGHAI, "--sk-file", SHANGHAI]);
    let value = value
        .lines()
        .find(|line| line.starts_with("auth-v2/"))
        .unwrap();
    for name in ["verify", "explain"] {
        text(&[name, "--authorization", value, "--sk-file", SHANGHAI]);
        text(&[
            name,
            "--authorization",
            &value[..value.len() - 1],
            "--sk-file",
            SHANGHAI,
        ]);
    }
    assert!(Path::new(folder).exists());
}

#[tokio::test]
async fn no_secret_is_shown_after_a_rejected_reload() {
    let process = Process::start(&Setup {
        tables: "[telemetry]\nlog_level = \"debug\"\naccess_log = \"access.log\"".to_owned(),
        ..Setup::default()
    })
    .await;
    let good = read(&process.site.file);
    let canaries = vec![("a secret key", PASSWORD.to_owned())];
    for wrong in [
        format!("sk = {PASSWORD}"),
        format!("SK={PASSWORD}"),
        format!("sk: {PASSWORD}"),
        format!("key = \"{PASSWORD}"),
        format!("sk = [\n\"{PASSWORD}\",\n5 5"),
    ] {
        let bad = format!("{good}\n[access_keys.more]\n{wrong}\n");
        std::fs::write(&process.site.file, bad).unwrap();
        let response = page::post(process.admin, "/reload").await;
        assert_ne!(response.status, 200, "{wrong}");
        assert_silent("a reload's response", &response.body, &canaries);
        for path in ["/status", "/"] {
            let page = page::get(process.admin, path).await;
            assert_silent(path, &page.body, &canaries);
        }
    }
    let log = process.diagnostics();
    assert!(log.contains("not TOML"), "{log}");
    assert_silent("the log", &log, &canaries);
}

#[tokio::test]
async fn many_equal_mistakes_leave_responses_and_logs_small() {
    let process = Process::start(&Setup {
        tables: "[telemetry]\nlog_level = \"info\"\naccess_log = \"access.log\"".to_owned(),
        ..Setup::default()
    })
    .await;
    let good = read(&process.site.file);
    let keys =
        (0..2_000).map(|number| format!("[access_keys.ak{number}]\nsecret_key_env = \"HOME\"\n"));
    let bad = format!("{good}\n{}", keys.collect::<String>());
    std::fs::write(&process.site.file, bad).unwrap();
    let before = page::get(process.admin, "/status").await.body.len();
    let response = page::post(process.admin, "/reload").await;
    let missing = "time_zone is missing in 2,000 access keys, e.g. ak0, ak1, ak2";
    assert!(response.body.contains(missing), "{}", response.body);
    let status = page::get(process.admin, "/status").await.body;
    let log = process.diagnostics();
    for (what, size) in [
        ("the response", response.body.len()),
        ("the status", status.len() - before),
        ("the log", log.len()),
    ] {
        assert!(size < 8_192, "{what} has {size} bytes");
    }
}
