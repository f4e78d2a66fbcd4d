//! `schema --status`: what it says of `/status` is true, and says everything.

use ccfs_gateway::stand_in::{Fault, When};
use serde_json::Value;

use crate::json_schema::violations;
use crate::page;
use crate::process::run_command;
use crate::support::{BERLIN, SHANGHAI, Setup, TestEnv, UNKNOWN, eventually, signed, write_secret};

fn schema() -> Value {
    let output = run_command(std::path::Path::new("."), &["schema", "--status"]);
    assert_eq!(output.status.code(), Some(0));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Refuses members that the schema does not name: the published one allows them, since later versions add some.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.contains_key("properties") {
                members.insert("additionalProperties".to_owned(), false.into());
            }
            members.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

#[track_caller]
fn assert_valid(schema: &Value, status: &Value) {
    assert_eq!(violations(schema, status), [""; 0]);
}

/// A gateway of which as much as possible is to be told.
async fn busy_gateway() -> TestEnv {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let store = free.local_addr().unwrap();
    drop(free);
    let site = Setup {
        nodes: 3,
        shanghai:
            "rate_limit = { per_second = 1, burst = 3 }\nname = \"Shanghai\"\nplan = \"small\""
                .to_owned(),
        berlin: "not_after = 2099-01-01T00:00:00Z".to_owned(),
        tables: format!(
            "[plans.small]\nin_flight = 8\n[shared]\nurl = \"redis://{store}\"\nseal_key_file = \"seal\"\n\
             [telemetry]\nlog_level = \"error\"\naccess_log = \"off\"\naudit_log = \"audit.log\""
        ),
        ..Setup::default()
    };
    let keys = "access_keys_dir = \"keys.d\"\n";
    let site = site.prepare().await;
    write_secret(&site.folder.path().join("seal"), &[7; 32]);
    std::fs::create_dir(site.folder.path().join("keys.d")).unwrap();
    let key = "[access_keys.of-the-directory]\nsecret_key = [\"first-secret\", \"second-secret\"]\ntime_zone = \"GMT+8\"\n";
    write_secret(&site.folder.path().join("keys.d/good.toml"), key.as_bytes());
    let text = crate::support::read(&site.file);
    std::fs::write(&site.file, format!("{keys}{text}")).unwrap();
    TestEnv::with_site(site)
}

#[tokio::test]
async fn a_real_status_is_as_the_schema_says_and_has_nothing_else() {
    let schema = schema();
    let mut closed = schema.clone();
    close(&mut closed);
    let env = TestEnv::start().await;
    let admin = env.bound.admin.unwrap();
    for path in ["/status", "/status?after=0&keys="] {
        let status = page::get(admin, path).await.json();
        assert_valid(&schema, &status);
        assert_valid(&closed, &status);
    }
    let env = busy_gateway().await;
    let admin = env.bound.admin.unwrap();
    env.nodes[0]
        .faults()
        .inject(Fault::Status(503), When::Always);
    env.nodes[1]
        .faults()
        .inject(Fault::FlowControl, When::Always);
    env.nodes[2].faults().add_unknown_call("1637742300-27");
    for call in 0..6 {
        for ak in [SHANGHAI, BERLIN, UNKNOWN] {
            let request = env.recording(&format!("status-{call}"));
            env.send(&signed(request, ak)).await;
        }
    }
    env.get_recording("1637742300-27").await;
    let node = env.nodes[2].address();
    page::post(admin, &format!("/nodes/ccfs/{node}/drain")).await;
    write_secret(&env.file("keys.d/bad.toml"), b"nonsense");
    let reloaded = page::post(admin, "/reload").await;
    assert_eq!(reloaded.status, 200, "{}", reloaded.body);
    std::fs::write(env.file("gateway.toml"), "nonsense = 1").unwrap();
    page::post(admin, "/reload").await;
    let status = async || page::get(admin, "/status?after=0&keys=").await.json();
    eventually("there is something to tell", async || {
        let status = status().await;
        ["findings", "claimed_access_keys", "busiest_access_keys"]
            .iter()
            .all(|name| status[*name].as_array().is_some_and(|all| !all.is_empty()))
            && status["history"]["points"] != Value::Array(vec![])
    })
    .await;
    let status = status().await;
    assert_valid(&schema, &status);
    assert_valid(&closed, &status);
    // The test can fail.
    let mut other = status;
    other["generation"] = "one".into();
    other["no-such-member"] = 1.into();
    assert_eq!(violations(&schema, &other).len(), 1);
    assert_eq!(violations(&closed, &other).len(), 2);
}
