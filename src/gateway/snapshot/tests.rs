use super::*;

/// Two listeners, three routes, one cluster.
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

fn slots<'a>(snapshot: &'a Snapshot, listener: &str, path: &str) -> &'a InFlight {
    let policy = snapshot.listener_policy(listener).unwrap();
    &policy.longest_prefix(path).unwrap().unverified_slots
}

#[test]
fn unverified_requests_share_one_limit_per_cluster_over_routes_and_reloads() {
    let first = Snapshot::next(&config(8), None);
    let slow = slots(&first, "one", "/a/x").try_acquire().unwrap();
    let slower = slots(&first, "one", "/b/x").try_acquire().unwrap();
    assert!(
        slots(&first, "two", "/").try_acquire().is_none(),
        "a quarter of 8"
    );
    let second = Snapshot::next(&config(8), Some(&first));
    assert!(
        slots(&second, "two", "/").try_acquire().is_none(),
        "the requests are still in flight"
    );
    let third = Snapshot::next(&config(16), Some(&second));
    assert!(
        slots(&third, "two", "/").try_acquire().is_some(),
        "a quarter of 16"
    );
    drop((slow, slower));
    assert_eq!(slots(&third, "one", "/a/x").in_use(), 0);
}
