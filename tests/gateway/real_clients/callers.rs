//! Callers without a secret key, as they are written in practice: curl with an API key and with a certificate, also
//! through a link to the recording, and `openssl s_client`.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use ccfs_gateway::stand_in::UrlStyle;
use ccfs_gateway::stand_in::certificates::write_private_file;

use crate::callers::{Authority, Site, caller};
use crate::support::{TestEnv, write_secret};

const KEY: &str = "0123456789abcdef0123456789abcdef";
const LINK: &str = "/recordings/1-1?begin=2021-11-24%2016:25:03&end=2021-11-24%2017:25:11";
const API: &str = "/CCFS/resource/ccfs/getRecordFileUrlFromObs";
const BODY: &str = r#"{"callId":"1-1","beginTime":"2021-11-24 16:25:03","endTime":"2021-11-24 17:25:11","version":"2.0"}"#;

/// A gateway with a caller of each way, in front of a node that has the recordings too.
async fn start() -> TestEnv {
    let authority = Authority::new("clients");
    let tables = caller("web", "api_key_file = \"web-key\"")
        + &caller("qa", "client_certificate = [\"CN=qa\"]");
    let mut site = Site::new(&authority, &tables);
    site.setup.listener = "playback = true".to_owned();
    site.setup.urls = UrlStyle {
        opens: true,
        ..UrlStyle::default()
    };
    let identity = authority.issue(&["CN=qa"]);
    site.start_after(|folder| {
        write_secret(&folder.join("web-key"), KEY.as_bytes());
        std::fs::write(folder.join("qa.pem"), identity.certificate.pem()).unwrap();
        let key = identity.key.serialize_pem();
        write_private_file(&folder.join("qa.key"), key.as_bytes()).unwrap();
    })
    .await
}

/// Runs a client in the directory of the gateway's files, off the runtime that serves it.
async fn run(env: &TestEnv, program: &str, arguments: &[&str], input: &str) -> Output {
    let folder = env.file("");
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let input = input.to_owned();
    let run = move || {
        let mut child = command.spawn().unwrap();
        // The input stays open until the client has its answer: `s_client` ends with it.
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        drop(stdin);
        output
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// Runs curl; returns the status of the last answer, the bytes of its body, and what was said on the way.
async fn curl(env: &TestEnv, arguments: &[&str], path: &str) -> (String, String) {
    let url = format!("{}{path}", env.url());
    let mut all = vec![
        "--silent",
        "--verbose",
        "--cacert",
        "ca.pem",
        "--output",
        "got",
    ];
    all.extend(["--write-out", "%{http_code} %{size_download}"]);
    all.extend(arguments);
    all.push(&url);
    let output = run(env, "curl", &all, "").await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (String::from_utf8(output.stdout).unwrap(), said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Debian's package curl"]
async fn curl_asks_with_a_key_and_with_a_certificate() {
    let env = start().await;
    let (bearer, field) = (
        format!("Authorization: Bearer {KEY}"),
        format!("X-Api-Key: {KEY}"),
    );
    let json = ["--header", "Content-Type: application/json", "--data", BODY];
    let status = async |credential: &[&str], more: &[&str]| {
        let arguments = [credential, &json, more].concat();
        let (shown, said) = curl(&env, &arguments, API).await;
        assert!(!shown.starts_with("000"), "{said}");
        shown.split(' ').next().unwrap().to_owned()
    };
    let certificate = ["--cert", "qa.pem", "--key", "qa.key"];
    for version in ["--http1.1", "--http2"] {
        assert_eq!(status(&["--header", &bearer], &[version]).await, "200");
        assert_eq!(status(&["--header", &field], &[version]).await, "200");
        assert_eq!(status(&["--oauth2-bearer", KEY], &[version]).await, "200");
        assert_eq!(status(&certificate, &[version]).await, "200");
        for wrong in [
            &["--oauth2-bearer", &KEY[1..]][..],
            &["--header", &bearer, "--header", &field],
            &["--header", &field, "--header", &field],
            &["--user", &format!("web:{KEY}")],
            &[],
        ] {
            assert_eq!(status(wrong, &[version]).await, "401", "{wrong:?}");
        }
        // A wrong key does not fall back to the certificate.
        let both = [&certificate[..], &["--header", "X-Api-Key: x"]].concat();
        assert_eq!(status(&both, &[version]).await, "401");
        let foreign = [
            &certificate[..],
            &["--header", "Sec-Fetch-Site: cross-site"],
        ]
        .concat();
        assert_eq!(status(&foreign, &[version]).await, "403");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Debian's package curl"]
async fn curl_follows_a_link_to_the_recording_and_leaves_its_key_behind() {
    let env = start().await;
    for credential in [
        &["--header", &format!("Authorization: Bearer {KEY}")][..],
        &["--cert", "qa.pem", "--key", "qa.key"],
    ] {
        let arguments = [&["--location"][..], credential].concat();
        let (shown, said) = curl(&env, &arguments, LINK).await;
        assert_eq!(shown, "200 24044", "{said}");
        let whole = std::fs::read(env.file("got")).unwrap();
        assert_eq!((&whole[..4], &whole[8..12]), (&b"RIFF"[..], &b"WAVE"[..]));
        let sent = said.lines().filter(|line| line.starts_with("> "));
        let keys = sent.filter(|line| line.contains(KEY)).count();
        assert!(keys <= 1, "the object store gets the key: {said}");
    }
    let range = ["--location", "--range", "0-99", "--oauth2-bearer", KEY];
    assert_eq!(curl(&env, &range, LINK).await.0, "206 100");
    let head = ["--head", "--oauth2-bearer", KEY];
    assert_eq!(curl(&env, &head, LINK).await.0, "302 0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Debian's package openssl"]
async fn openssl_presents_a_certificate_over_both_versions() {
    let env = start().await;
    let address = env.url().trim_start_matches("https://").to_owned();
    let request = format!("GET {LINK} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    for version in ["-tls1_2", "-tls1_3"] {
        let connect = [
            "s_client",
            "-quiet",
            "-verify_quiet",
            "-CAfile",
            "ca.pem",
            version,
        ];
        let connect = [&connect[..], &["-connect", &address]].concat();
        let with = [&connect[..], &["-cert", "qa.pem", "-key", "qa.key"]].concat();
        for (arguments, status) in [(&with, "302"), (&connect, "401")] {
            let output = run(&env, "openssl", arguments, &request).await;
            let answer = String::from_utf8_lossy(&output.stdout).into_owned();
            let start = format!("HTTP/1.1 {status} ");
            assert!(
                answer.starts_with(&start),
                "{version}: {answer:?} {output:?}"
            );
        }
    }
}
