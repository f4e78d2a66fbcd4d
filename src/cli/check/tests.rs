use super::*;

/// A folder with a configuration, the text of its file, and the path of it.
fn configuration() -> (tempfile::TempDir, String, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let account = |ak: &str, zone: &str| {
        format!("[access_keys.{ak}]\nsecret_key_file = \"sk\"\ntime_zone = \"{zone}\"\n")
    };
    let accounts = [
        account("A", "Asia/Shanghai"),
        account("B", "Asia/Shanghai"),
        account("C", "GMT-3:30"),
    ];
    let file = format!(
        "[listeners.l]\nbind = \"127.0.0.1:0\"\ncluster = \"c\"\n\
         tls = {{ certificate = \"g.pem\", private_key = \"g.key\" }}\n\
         [clusters.c]\nnodes = [\"https://h:1\"]\ntls = {{ ca = \"g.pem\" }}\n{}",
        accounts.concat()
    );
    let path = folder.path().join("gateway.toml");
    for (name, text) in [
        ("g.pem", made.cert.pem()),
        ("g.key", made.signing_key.serialize_pem()),
        ("sk", "secret".to_owned()),
        ("gateway.toml", file.clone()),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    (folder, file, path)
}

#[test]
fn the_summary_lists_zones_with_their_offsets() {
    let (_folder, _, path) = configuration();
    let mut out = Vec::new();
    Check::new(path).run(&mut out, &mut io::sink()).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert!(
        out.contains("Asia/Shanghai, now at +08:00: 2 access keys\n"),
        "{out}"
    );
    assert!(out.contains("now at -03:30: 1 access key\n"), "{out}");
}

#[test]
fn the_json_report_has_the_members_of_the_contract() {
    let (_folder, file, path) = configuration();
    let check = Check {
        json: true,
        ..Check::new(path.clone())
    };
    let mut out = Vec::new();
    check.run(&mut out, &mut io::sink()).unwrap();
    let report: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(
        (&report["valid"], &report["errors"]),
        (&json!(true), &json!([]))
    );
    let summary = report["summary"].as_array().unwrap();
    assert!(
        summary.contains(&json!("cluster c: least-request")),
        "{report:#}"
    );

    std::fs::write(&path, format!("nonsense = 1\n{file}")).unwrap();
    let mut out = Vec::new();
    let code = check.run(&mut out, &mut io::sink()).unwrap();
    let report: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(
        (code, &report["valid"]),
        (ExitCode::from(78), &json!(false))
    );
    assert_eq!(report["summary"], Value::Null);
    let error = &report["errors"][0];
    assert_eq!(error["file"], path.to_str().unwrap());
    assert_eq!(
        (&error["line"], &error["column"], &error["count"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert!(
        error["message"].as_str().unwrap().contains("nonsense"),
        "{report:#}"
    );
}

#[test]
fn no_configuration_anywhere_names_both_places() {
    let mut out = Vec::new();
    report_missing(&NotFound, true, &mut out, &mut io::sink()).unwrap();
    let report: Value = serde_json::from_slice(&out).unwrap();
    let message = report["errors"][0]["message"].as_str().unwrap();
    for part in ["CCFS_GATEWAY_CONFIG", "/etc/ccfs-gateway/gateway.toml"] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(report["errors"][0]["file"], Value::Null);
}
