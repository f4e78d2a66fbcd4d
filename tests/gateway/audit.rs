//! The audit log (§10): who asked for which recording, and who ordered what.

use ccfs_gateway::stand_in::{Fault, When};
use serde_json::Value;

use crate::page;
use crate::process::{Process, run_command};
use crate::support::{
    BERLIN, SHANGHAI, Setup, TestEnv, UNKNOWN, eventually, read, secret, signed, write_secret,
};

const TELEMETRY: &str =
    "[telemetry]\nlog_level = \"info\"\naccess_log = \"access.log\"\naudit_log = \"audit.log\"";

fn setup(more: &str) -> Setup {
    Setup {
        tables: format!("{TELEMETRY}\n{more}"),
        ..Setup::default()
    }
}

async fn lines(file: &std::path::Path, count: usize) -> Vec<Value> {
    eventually("all lines", async || {
        file.exists() && read(file).lines().count() >= count
    })
    .await;
    let text = read(file);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Sends requests that give out a recording, and others that do not.
async fn ask_for_recordings(env: &TestEnv) {
    env.get_recording("a-1").await;
    env.get_recording("a-1").await;
    // Not given out: refused by validation, without data, unverified, failed.
    env.send(&signed(env.post("{}"), SHANGHAI)).await;
    env.nodes[0].faults().add_unknown_call("a-2");
    env.get_recording("a-2").await;
    env.send(&signed(env.recording("a-1"), UNKNOWN)).await;
    env.nodes[0]
        .faults()
        .inject(Fault::Status(503), When::Next(2));
    env.get_recording("a-3").await;
    env.nodes[0].faults().clear();
    let file = r#"{"request":{"version":"2.0"},"msgBody":{"fileName":"Y:/x.V3"}}"#;
    env.send(&signed(env.post_to("downloadRecordFile", file), BERLIN))
        .await;
    env.send(&signed(env.post_to("requestPlayVoice", file), BERLIN))
        .await;
    let bill = r#"{"request":{"version":"2.0"},"msgBody":{"billFileName":"20211124_1.zip"}}"#;
    env.send(&signed(env.post_to("downloadBillFile", bill), BERLIN))
        .await;
    let failing = Fault::ResultCode("0300011".into());
    env.nodes[0].faults().inject(failing, When::Always);
    env.send(&signed(env.post_to("downloadRecordFile", file), BERLIN))
        .await;
}

#[tokio::test]
async fn each_recording_that_was_given_out_is_a_line() {
    let mut env = setup("").start().await;
    ask_for_recordings(&env).await;
    let path = env.file("audit.log");
    env.shut_down().await;
    let lines = lines(&path, 5).await;
    let of = |line: &Value| {
        ["kind", "ak", "interface", "call_id", "file_name", "outcome"]
            .map(|name| line[name].as_str().unwrap_or("-").to_owned())
    };
    let url = "getRecordFileUrlFromObs";
    let expected = [
        ["start", "-", "-", "-", "-", "-"],
        ["request", SHANGHAI, url, "a-1", "-", "node"],
        ["request", SHANGHAI, url, "a-1", "-", "cached"],
        [
            "request",
            BERLIN,
            "downloadRecordFile",
            "-",
            "Y:/x.V3",
            "node",
        ],
        [
            "request",
            BERLIN,
            "requestPlayVoice",
            "-",
            "Y:/x.V3",
            "node",
        ],
    ];
    assert_eq!(
        lines.iter().map(of).collect::<Vec<_>>(),
        expected.map(|row| row.map(str::to_owned))
    );
    assert_eq!(
        (&lines[1]["begin"], &lines[1]["status"]),
        (&"2021-11-24 16:25:03".into(), &200.into())
    );
    assert_eq!(lines[1]["client"], "127.0.0.1");
    let text = read(&path);
    for canary in [
        secret(SHANGHAI).as_str(),
        "https://",
        "Signature",
        "auth-v2",
        "?",
    ] {
        assert!(!text.contains(canary), "{canary}");
    }
}

#[tokio::test]
async fn orders_are_lines_and_refused_ones_too() {
    let env = setup("").start().await;
    let admin = env.bound.admin.unwrap();
    let cluster = env.nodes[0].address();
    page::post(admin, &format!("/nodes/ccfs/{cluster}/drain")).await;
    page::post(admin, &format!("/nodes/ccfs/{cluster}/undrain")).await;
    page::post(admin, "/nodes/ccfs/nowhere:1/drain").await;
    page::post(admin, "/cache/purge?ak=ak-berlin").await;
    page::post(admin, "/reload").await;
    let forged =
        "POST /drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(page::exchange(admin, forged).await.status, 403);
    let lines = lines(&env.file("audit.log"), 7).await;
    let of = |line: &Value| {
        (
            line["order"].as_str().unwrap().to_owned(),
            line["status"].as_u64().unwrap(),
            line["before"].is_null(),
        )
    };
    let expected = [
        ("node-drain", 200, false),
        ("node-undrain", 200, false),
        ("node-drain", 404, true),
        ("purge", 200, false),
        ("reload", 200, false),
        ("drain", 403, true),
    ];
    let orders: Vec<_> = lines[1..].iter().map(of).collect();
    assert_eq!(
        orders,
        expected.map(|(order, status, is_null)| (order.to_owned(), status, is_null))
    );
    assert_eq!(lines[1]["subject"], format!("ccfs/{cluster}"));
    assert_eq!(
        (&lines[5]["before"], &lines[5]["after"]),
        (&1.into(), &2.into())
    );
    assert_eq!(lines[4]["subject"], "ak=ak-berlin");
    assert!(lines[1..].iter().all(|line| line["by"] == "127.0.0.1"));
    let status: Value = serde_json::from_str(&page::get(admin, "/status").await.body).unwrap();
    assert_eq!(
        (&status["audit"]["seq"], &status["audit"]["hash"]),
        (&7.into(), &lines[6]["hash"])
    );
}

#[tokio::test]
async fn orders_about_access_keys_have_the_state_before_and_after() {
    let token = "[admin]\nbind = \"127.0.0.1:0\"\ntoken_file = \"token\"";
    let site = setup(token).prepare().await;
    write_secret(&site.folder.path().join("token"), b"t0ken");
    let env = TestEnv::with_site(site);
    let admin = env.bound.admin.unwrap();
    for order in ["disable", "disable", "enable"] {
        let path = format!("/access_keys/{SHANGHAI}/{order}");
        let response = page::post_with_token(admin, &path, "t0ken").await;
        assert_eq!(response.status, 200, "{}", response.body);
    }
    let path = "/access_keys/nobody%20here/disable";
    assert_eq!(
        page::post_with_token(admin, path, "t0ken").await.status,
        404
    );
    assert_eq!(page::post(admin, path).await.status, 401);
    let lines = lines(&env.file("audit.log"), 6).await;
    let of = |line: &Value| {
        let members = ["order", "subject", "before", "after"];
        members.map(|name| line[name].as_str().unwrap_or("-").to_owned())
    };
    let orders: Vec<_> = lines[1..].iter().map(of).collect();
    let disable = "access-key-disable";
    assert_eq!(
        orders,
        [
            [disable, SHANGHAI, "enabled", "disabled"],
            [disable, SHANGHAI, "disabled", "disabled"],
            ["access-key-enable", SHANGHAI, "disabled", "enabled"],
            [disable, "nobody here", "-", "-"],
            [disable, "nobody here", "-", "-"],
        ]
    );
}

/// Checks the files of a process with the command: whole, cut, without the key, changed.
fn verify_process(folder: &std::path::Path) {
    let rotated = folder.join("audit.log.1");
    let verify = |arguments: &[&str]| {
        let all = [&["audit", "verify"], arguments].concat();
        run_command(folder, &all)
    };
    let good = verify(&[
        "--key-file",
        "audit.key",
        "--json",
        "audit.log.1",
        "audit.log",
    ]);
    let report: Value = serde_json::from_slice(&good.stdout).unwrap();
    assert!(good.status.success(), "{report}");
    assert_eq!(
        (&report["lines"], &report["chains"]),
        (&3.into(), &1.into())
    );
    let head = format!(
        "{}:{}",
        report["head"]["seq"],
        report["head"]["hash"].as_str().unwrap()
    );
    let whole = verify(&[
        "--key-file",
        "audit.key",
        "--head",
        &head,
        "audit.log.1",
        "audit.log",
    ]);
    assert!(whole.status.success());
    let cut = verify(&["--key-file", "audit.key", "--head", &head, "audit.log.1"]);
    assert_eq!(cut.status.code(), Some(1));
    assert_eq!(
        verify(&["audit.log"]).status.code(),
        Some(1),
        "without the key"
    );
    let text = read(&rotated).replace("v-1", "v-2");
    std::fs::write(&rotated, text).unwrap();
    let forged = verify(&["--key-file", "audit.key", "audit.log.1", "audit.log"]);
    assert_eq!(forged.status.code(), Some(1));
    assert!(
        String::from_utf8(forged.stdout)
            .unwrap()
            .contains("audit.log.1:2: ")
    );
    assert_eq!(verify(&["missing.log"]).status.code(), Some(1));
    assert_eq!(verify(&[]).status.code(), Some(2));
}

#[tokio::test]
async fn a_process_writes_a_chain_that_audit_verify_checks_over_rotation_and_restart() {
    let key = "audit_key_file = \"audit.key\"";
    let setup = setup(&format!("{key}\n[server]\nname = \"gw-7\""));
    let setup = Setup {
        unconfigured: vec!["audit.key"],
        ..setup
    };
    let mut process = Process::start(&setup).await;
    process.get_recording("v-1").await;
    let folder = process.site.folder.path().to_owned();
    let (log, rotated) = (folder.join("audit.log"), folder.join("audit.log.1"));
    lines(&log, 2).await;
    std::fs::rename(&log, &rotated).unwrap();
    process.signal("USR1");
    eventually("reopened", async || log.exists()).await;
    process.get_recording("v-1").await;
    process.signal("TERM");
    process.wait_for_exit().await;
    let head = process.diagnostics();
    assert!(head.contains("the head of the audit log"), "{head}");
    verify_process(&folder);
    assert_eq!(lines(&log, 1).await[0]["instance"], "gw-7");
}

#[tokio::test]
async fn without_the_key_nothing_is_audited() {
    let env = TestEnv::start().await;
    env.get_recording("n-1").await;
    let status = page::get(env.bound.admin.unwrap(), "/status").await;
    let status: Value = serde_json::from_str(&status.body).unwrap();
    assert!(status["audit"].is_null());
}
