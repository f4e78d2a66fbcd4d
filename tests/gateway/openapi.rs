//! `/openapi.json` describes what the admin interface really answers.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::json_schema::violations;
use crate::page;
use crate::support::{TestEnv, read};

async fn description(env: &TestEnv) -> Value {
    let response = page::get(env.bound.admin.unwrap(), "/openapi.json").await;
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("application/json"));
    response.json()
}

#[tokio::test]
async fn status_is_as_described() {
    let env = TestEnv::start().await;
    env.get_recording("1637742300-27").await;
    let description = description(&env).await;
    let status = page::get(env.bound.admin.unwrap(), "/status?after=0").await;
    let status = status.json();
    let schema = json!({
        "$ref": "#/components/schemas/Status",
        "components": description["components"],
    });
    assert_eq!(violations(&schema, &status), [""; 0]);
    let described = &description["components"]["schemas"]["Status"]["properties"];
    for member in status.as_object().unwrap().keys() {
        assert!(
            described[member].is_object(),
            "src/admin/openapi/admin.json does not describe the member {member} of /status"
        );
    }
}

/// Every path that `src/admin.rs` answers is described, and every described one is answered.
#[tokio::test]
async fn every_path_of_the_admin_interface_is_described() {
    let env = TestEnv::start().await;
    let description = description(&env).await;
    let described: BTreeSet<_> = description["paths"]
        .as_object()
        .unwrap()
        .keys()
        .filter(|path| !path.starts_with("/CCFS/"))
        .map(String::as_str)
        .collect();
    let source = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin.rs"));
    let routes = source.split("(\"/").skip(1);
    let routes: BTreeSet<_> = routes
        .filter_map(|rest| rest.split_once('"'))
        .filter(|(_, rest)| rest.starts_with(", true, _)") || rest.starts_with(", _, true)"))
        .map(|(path, _)| format!("/{path}"))
        .collect();
    assert!(routes.len() >= 9, "{routes:?}");
    for route in &routes {
        assert!(
            described.contains(route.as_str()),
            "{route} is not described"
        );
    }
    for path in described {
        let path = path.replace("{cluster}", "ccfs").replace("{order}", "none");
        let path = path
            .replace("{node}", "127.0.0.1:1")
            .replace("{ak}", "nobody");
        // With another method than the right one: nothing is done, and the path is known.
        let admin = env.bound.admin.unwrap();
        let lines = format!("OPTIONS {path} HTTP/1.1\r\nHost: {admin}\r\nX-Ccfs-Gateway: 1\r\n");
        let status = page::exchange(admin, &lines).await.status;
        let has_names = path.matches('/').count() > 1 && path != "/cache/purge";
        assert!(status == 405 || has_names, "{path}: {status}");
    }
}
