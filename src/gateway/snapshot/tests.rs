use super::*;

/// Two ways to one cluster of 8 connections.
fn config(max_connections: usize) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
    let key = made.signing_key.serialize_pem();
    std::fs::write(folder.path().join("cert.key"), key).unwrap();
    let text = format!(
        "[listeners.one]
        bind = \"127.0.0.1:0\"
        routes = {{ \"/a/\" = \"ccfs\", \"/b/\" = \"ccfs\" }}
        tls = {{ certificate = \"cert.pem\", private_key = \"cert.key\" }}
        [listeners.two]
        bind = \"127.0.0.1:0\"
        cluster = \"ccfs\"
        tls = {{ certificate = \"cert.pem\", private_key = \"cert.key\" }}
        [clusters.ccfs]
        nodes = [\"https://127.0.0.1:1\"]
        tls = {{ ca = \"cert.pem\" }}
        pool = {{ max_connections = {max_connections} }}"
    );
    match Config::parse(&text, &folder.path().join("gateway.toml")) {
        Ok((config, _)) => config,
        Err(wrong) => panic!("{wrong}"),
    }
}

fn share<'a>(snapshot: &'a Snapshot, listener: &str, path: &str) -> &'a InFlight {
    let (_, share, _) = snapshot
        .listener_policy(listener)
        .unwrap()
        .longest_prefix(path)
        .unwrap();
    share
}

#[test]
fn who_did_not_verify_has_one_share_of_a_cluster_over_all_routes_and_reloads() {
    let first = Snapshot::next(&config(8), None);
    let slow = share(&first, "one", "/a/x").try_acquire().unwrap();
    let slower = share(&first, "one", "/b/x").try_acquire().unwrap();
    assert!(
        share(&first, "two", "/").try_acquire().is_none(),
        "a quarter of 8"
    );
    let second = Snapshot::next(&config(8), Some(&first));
    assert!(
        share(&second, "two", "/").try_acquire().is_none(),
        "still there"
    );
    let third = Snapshot::next(&config(16), Some(&second));
    assert!(
        share(&third, "two", "/").try_acquire().is_some(),
        "more room"
    );
    drop((slow, slower));
    assert_eq!(share(&third, "one", "/a/x").in_use(), 0);
}
