//! `access_keys_dir` on a running gateway (§12): files that come, go, break and are replaced.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use ccfs_gateway::stand_in::certificates::write_private_file;

use crate::certificates::WatchedGateway;
use crate::page;
use crate::support::{TestEnv, eventually, read};

fn table(access_key: &str, secret: &str) -> String {
    format!("[access_keys.{access_key}]\nsecret_key = \"{secret}\"\ntime_zone = \"UTC\"\n")
}

fn write(path: &Path, text: &str) {
    write_private_file(path, text.as_bytes()).unwrap();
}

/// A gateway that follows the directory `keys`.
async fn following(files: &[(&str, String)]) -> (WatchedGateway, PathBuf) {
    let gateway = WatchedGateway::start(|env, text| {
        let keys = env.file("keys");
        std::fs::create_dir(&keys).unwrap();
        for (name, text) in files {
            write(&keys.join(name), text);
        }
        format!("access_keys_dir = \"keys\"\n{text}")
    })
    .await;
    let keys = gateway.env.file("keys");
    (gateway, keys)
}

async fn is(gateway: &WatchedGateway, access_key: &str, secret: &str, status: u16) -> bool {
    gateway.status(access_key, secret, "ca.pem").await == Some(status)
}

#[tokio::test]
async fn files_that_come_change_and_go_are_followed() {
    let (gateway, keys) = following(&[("a.toml", table("KEY-A", "a"))]).await;
    assert!(is(&gateway, "KEY-A", "a", 200).await);
    write(&keys.join("b.toml"), &table("KEY-B", "b"));
    eventually("a new file is taken", async || {
        is(&gateway, "KEY-B", "b", 200).await
    })
    .await;
    write(&keys.join("b.toml"), &table("KEY-B", "other"));
    eventually("a new secret is taken", async || {
        is(&gateway, "KEY-B", "other", 200).await
    })
    .await;
    assert!(is(&gateway, "KEY-B", "b", 401).await);
    std::fs::remove_file(keys.join("b.toml")).unwrap();
    eventually("its access keys are removed", async || {
        is(&gateway, "KEY-B", "other", 401).await
    })
    .await;
    assert!(is(&gateway, "KEY-A", "a", 200).await);
}

#[tokio::test]
async fn a_file_that_breaks_and_a_directory_that_vanishes_keep_their_access_keys() {
    let (gateway, keys) = following(&[("a.toml", table("KEY-A", "a"))]).await;
    write(
        &keys.join("a.toml"),
        "[access_keys.KEY-A]\nsecret_key = \"a",
    );
    write(&keys.join("c.toml"), &table("KEY-C", "c"));
    eventually("the good file is taken", async || {
        is(&gateway, "KEY-C", "c", 200).await
    })
    .await;
    assert!(is(&gateway, "KEY-A", "a", 200).await);
    std::fs::rename(&keys, keys.with_extension("away")).unwrap();
    // A full round of the watcher.
    gateway.wait_until_applied().await;
    assert!(is(&gateway, "KEY-A", "a", 200).await && is(&gateway, "KEY-C", "c", 200).await);
    std::fs::rename(keys.with_extension("away"), &keys).unwrap();
    write(&keys.join("a.toml"), &table("KEY-A", "new"));
    eventually("it is followed again", async || {
        is(&gateway, "KEY-A", "new", 200).await
    })
    .await;
}

#[tokio::test]
async fn renamed_files_and_swapped_links_lose_no_access_key() {
    let gateway = WatchedGateway::start(|env, text| {
        // The layout of a Kubernetes volume: a.toml -> ..data/a.toml, ..data -> ..one.
        let keys = env.file("keys");
        for version in ["..one", "..two"] {
            std::fs::create_dir_all(keys.join(version)).unwrap();
            write(&keys.join(version).join("a.toml"), &table("KEY-A", "a"));
        }
        write(&keys.join("..two/b.toml"), &table("KEY-B", "b"));
        symlink("..one", keys.join("..data")).unwrap();
        symlink("..data/a.toml", keys.join("a.toml")).unwrap();
        format!("access_keys_dir = \"keys\"\n{text}")
    })
    .await;
    let keys = gateway.env.file("keys");
    symlink("..two", keys.join("..data_tmp")).unwrap();
    std::fs::rename(keys.join("..data_tmp"), keys.join("..data")).unwrap();
    symlink("..data/b.toml", keys.join("b.toml")).unwrap();
    eventually("the new file is taken", async || {
        assert!(is(&gateway, "KEY-A", "a", 200).await, "never lost");
        is(&gateway, "KEY-B", "b", 200).await
    })
    .await;
    for number in 0..5 {
        let name = |number| keys.join(format!("renamed-{number}.toml"));
        match number {
            0 => std::fs::rename(keys.join("b.toml"), name(0)).unwrap(),
            number => std::fs::rename(name(number - 1), name(number)).unwrap(),
        }
        for _ in 0..20 {
            assert!(is(&gateway, "KEY-B", "b", 200).await, "never lost");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

/// The number of access keys, and how many of the directory's files are refused.
async fn counts(gateway: &WatchedGateway) -> (u64, usize) {
    let status = page::get(gateway.admin, "/status").await.json();
    let refused = status["access_key_files"]["refused"].as_array().unwrap();
    (status["access_keys"].as_u64().unwrap(), refused.len())
}

/// Like `eventually`, for what takes longer in a debug build on a busy machine.
async fn in_a_minute(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_files_come_move_and_go_at_once() {
    let (gateway, keys) = following(&[("first.toml", table("KEY-FIRST", "f"))]).await;
    let (before, _) = counts(&gateway).await;
    let all = FILES as u64;
    for number in 0..FILES {
        let access_key = format!("KEY-{number}");
        write(
            &keys.join(format!("{number}.toml")),
            &table(&access_key, "s"),
        );
    }
    in_a_minute("all are taken", async || {
        counts(&gateway).await == (before + all, 0)
    })
    .await;
    let last = format!("KEY-{}", FILES - 1);
    for number in 0..FILES {
        let [from, to] = [format!("{number}.toml"), format!("moved-{number}.toml")];
        std::fs::rename(keys.join(from), keys.join(to)).unwrap();
        if number % 1_000 == 0 {
            assert!(is(&gateway, &last, "s", 200).await, "never lost");
            assert_eq!(counts(&gateway).await.0, before + all, "never lost");
        }
    }
    for _ in 0..5 {
        gateway.wait_until_applied().await;
        assert!(is(&gateway, &last, "s", 200).await, "never lost");
        assert_eq!(counts(&gateway).await, (before + all, 0));
    }
    for entry in std::fs::read_dir(&keys).unwrap() {
        let path = entry.unwrap().path();
        if !path.ends_with("first.toml") {
            std::fs::remove_file(path).unwrap();
        }
    }
    in_a_minute("all are gone", async || {
        counts(&gateway).await == (before, 0)
    })
    .await;
    assert!(is(&gateway, "KEY-FIRST", "f", 200).await);
}

const FILES: usize = 10_000;

#[tokio::test]
async fn a_reload_takes_the_good_files_and_names_the_others() {
    let env = TestEnv::start().await;
    let admin = env.bound.admin.unwrap();
    let keys = env.file("keys");
    std::fs::create_dir(&keys).unwrap();
    write(
        &keys.join("a.toml"),
        &format!("{}{}", table("KEY-A", "a"), table("KEY-B", "b")),
    );
    let file = env.file("gateway.toml");
    std::fs::write(
        &file,
        format!("access_keys_dir = \"keys\"\n{}", read(&file)),
    )
    .unwrap();
    let json = |body: &str| -> serde_json::Value { serde_json::from_str(body).unwrap() };
    let first = page::post(admin, "/reload").await;
    assert_eq!(first.status, 200, "{}", first.body);
    assert_eq!(json(&first.body)["refused_files"], serde_json::json!([]));
    write(
        &keys.join("a.toml"),
        &format!("{}x = CANARY", table("KEY-A", "CANARY")),
    );
    write(&keys.join("c.toml"), &table("KEY-C", "c"));
    let second = page::post(admin, "/reload").await;
    assert_eq!(second.status, 200, "{}", second.body);
    let answer = json(&second.body);
    assert!(answer["generation"].as_u64() > json(&first.body)["generation"].as_u64());
    let refused = &answer["refused_files"][0];
    assert_eq!(refused["file"], keys.join("a.toml").to_str().unwrap());
    assert!(
        refused["message"].as_str().unwrap().contains("a.toml:4:"),
        "{answer}"
    );
    let status = page::get(admin, "/status").await;
    let files = &json(&status.body)["access_key_files"];
    assert_eq!(
        (&files["files"], &files["error"]),
        (&2.into(), &serde_json::Value::Null)
    );
    let refused = &files["refused"][0];
    assert_eq!(refused["not_yet_revoked"], serde_json::json!(["KEY-B"]));
    assert!(!format!("{}{}", second.body, status.body).contains("CANARY"));
    write(&keys.join("a.toml"), &table("KEY-A", "a"));
    let third = page::post(admin, "/reload").await;
    assert_eq!(json(&third.body)["refused_files"], serde_json::json!([]));
}
