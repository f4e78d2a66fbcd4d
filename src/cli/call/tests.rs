use std::fs;
use std::path::Path;

use clap::{FromArgMatches, Parser};
use serde_json::{Value, json};

use super::*;
use crate::stand_in::certificates::{CertificateAuthority, SERVER_NAMES as CERTIFIED};
use crate::stand_in::{Fault, Settings, StandIn, When};

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    call: Call,
}

struct TestEnv {
    node: StandIn,
    dir: tempfile::TempDir,
}

impl TestEnv {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = CertificateAuthority::new().unwrap();
        authority
            .write_certificate(&dir.path().join("ca.pem"))
            .unwrap();
        fs::write(dir.path().join("sk"), "secret\n").unwrap();
        let tls = authority
            .issue(&CERTIFIED)
            .unwrap()
            .server_config()
            .unwrap();
        let secret = crate::auth::Secret::new(b"secret".to_vec());
        let credential = super::super::secret_key::credential("ak", secret).unwrap();
        let node = StandIn::start(Settings::new(tls, vec![credential]))
            .await
            .unwrap();
        Self { node, dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// Success, stdout, stderr.
    async fn call(&self, arguments: &[&str]) -> anyhow::Result<(bool, String, String)> {
        let (url, ca, sk) = (self.node.url(), self.path("ca.pem"), self.path("sk"));
        let defaults = ["call", &url, "--ca", &ca, "--ak", "ak", "--sk-file", &sk];
        let args = parse(defaults.iter().chain(arguments))?;
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let succeeded = call(&args, now(), &mut out, &mut notes).await?;
        Ok((
            succeeded,
            String::from_utf8(out)?,
            String::from_utf8(notes)?,
        ))
    }
}

fn parse<'a>(arguments: impl Iterator<Item = &'a &'a str>) -> anyhow::Result<Call> {
    let matches = <Program as clap::CommandFactory>::command().try_get_matches_from(arguments)?;
    Ok(Program::from_arg_matches(&matches)?.call)
}

const RECORDING: [&str; 6] = [
    "--call-id",
    "1637742300-1234",
    "--begin",
    "2021-11-24 16:00:00",
    "--end",
    "2021-11-24 17:00:00",
];

#[test]
fn the_command_line_is_consistent() {
    <Program as clap::CommandFactory>::command().debug_assert();
}

#[tokio::test]
async fn a_recording_response_is_printed() {
    let env = TestEnv::new().await;
    let (succeeded, out, notes) = env.call(&RECORDING).await.unwrap();
    assert!(succeeded);
    assert!(
        out.starts_with("{\"resultData\":{\"url\":\"https://") && out.ends_with("}\n"),
        "{out}"
    );
    assert!(notes.starts_with("HTTP 200 OK\n"), "{notes}");
    let received = &env.node.requests()[0];
    assert!(received.body.ends_with(br#","version":"2.0"}"#));
    let authorization = received.header("authorization").unwrap();
    assert!(authorization.contains("/content-length;content-type;host/"));

    let arguments = [&RECORDING[..], &["--no-version", "--sign", "host"]].concat();
    assert!(env.call(&arguments).await.unwrap().0);
    let received = &env.node.requests()[1];
    assert!(!received.body.windows(7).any(|part| part == b"version"));
    assert!(
        received
            .header("authorization")
            .unwrap()
            .contains("Z/host/")
    );
}

#[tokio::test]
async fn json_is_not_written_and_its_result_code_decides() {
    let env = TestEnv::new().await;
    let output = env.path("out.json");
    let arguments = [&RECORDING[..], &["-o", &output]].concat();
    let (succeeded, out, notes) = env.call(&arguments).await.unwrap();
    assert!(succeeded && out.contains("\"resultCode\":\"0\""), "{out}");
    let text = format!("the response is JSON: nothing was written to {output}");
    assert!(notes.contains(&text), "{notes}");
    assert!(!Path::new(&output).exists());

    let fault = Fault::ResultCode("0300012".into());
    env.node.faults().inject(fault, When::Next(1));
    assert!(!env.call(&arguments).await.unwrap().0);
}

#[tokio::test]
async fn a_get_is_signed_over_its_host() {
    let env = TestEnv::new().await;
    let path = "/CCFS/resource/ccfs/x";
    let (_, _, notes) = env
        .call(&["--method", "GET", "--path", path])
        .await
        .unwrap();
    assert!(!notes.contains("401"), "{notes}");
    let received = &env.node.requests()[0];
    let authorization = received.header("authorization").unwrap();
    assert!(authorization.contains("Z/host/"), "{authorization}");
}

#[tokio::test]
async fn a_url_with_another_path_needs_no_call_id() {
    let env = TestEnv::new().await;
    let url = format!("{}/CCFS/resource/ccfs/playVoice?st=1", env.node.url());
    let arguments = ["call", &url, "--insecure", "--unsigned", "--method", "GET"];
    let args = parse(arguments.iter()).unwrap();
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    call(&args, now(), &mut out, &mut notes).await.unwrap();
    assert_eq!(env.node.requests()[0].method, "GET");
}

#[tokio::test]
async fn a_rejected_signature_gets_a_hint() {
    let env = TestEnv::new().await;
    fs::write(env.path("sk"), "another").unwrap();
    let (succeeded, _, notes) = env.call(&RECORDING).await.unwrap();
    assert!(
        !succeeded && notes.contains("`ccfs-gateway explain`"),
        "{notes}"
    );
}

#[tokio::test]
async fn no_password_of_a_url_is_shown() {
    let url = "https://u:SECRETPW@127.0.0.1:1";
    let arguments = ["call", url, "--unsigned", "--path", "/"];
    let args = parse(arguments.iter()).unwrap();
    let done = call(&args, now(), &mut Vec::new(), &mut Vec::new()).await;
    let error = done.unwrap_err();
    assert!(error.is::<clap::Error>());
    assert!(
        !format!("{error:#} {error:?}").contains("SECRETPW"),
        "{error}"
    );
}

#[tokio::test]
async fn an_error_response_is_printed_and_fails() {
    let env = TestEnv::new().await;
    for fault in [
        Fault::ResultCode("0300012".into()),
        Fault::Status(503),
        Fault::GarbageJson,
    ] {
        env.node.faults().inject(fault.clone(), When::Next(1));
        let (succeeded, out, _) = env.call(&RECORDING).await.unwrap();
        assert!(!succeeded && !out.is_empty(), "{fault:?}");
    }
}

#[tokio::test]
async fn a_file_is_written_whole_or_not_at_all() {
    let env = TestEnv::new().await;
    let (body, output) = (env.path("body.json"), env.path("a.wav"));
    let path = "/CCFS/resource/ccfs/downloadRecordFile";
    let arguments = ["--path", path, "--body", &body, "-o", &output];
    let ask = |name: &str| {
        let text =
            format!(r#"{{"request":{{"version":"2.0"}},"msgBody":{{"fileName":"{name}"}}}}"#);
        fs::write(&body, text).unwrap();
    };

    ask("code-0300011.wav");
    let (succeeded, out, _) = env.call(&arguments).await.unwrap();
    assert!(!succeeded && out.contains("0300011"));
    ask("5MiB.wav");
    env.node.faults().inject(Fault::CloseInBody, When::Next(1));
    assert!(env.call(&arguments).await.is_err());
    let files = fs::read_dir(env.dir.path()).unwrap().count();
    assert_eq!(files, 3, "ca.pem, sk, body.json");
    let (succeeded, out, notes) = env.call(&arguments).await.unwrap();
    assert!(
        succeeded && out.is_empty() && notes.contains("5242880 bytes"),
        "{notes}"
    );
    assert!(crate::stand_in::files::matches(
        0,
        &fs::read(&output).unwrap()
    ));
}

#[tokio::test]
async fn an_error_with_the_content_type_of_a_file_is_not_written() {
    let env = TestEnv::new().await;
    let output = env.path("a.wav");
    let path = "/CCFS/resource/ccfs/playVoice?t=1&version=2.0&st=";
    let url = env.node.url();
    let arguments = [
        "call",
        &url,
        "--insecure",
        "--unsigned",
        "--method",
        "GET",
        "--path",
        path,
    ];
    let args = parse(arguments.iter().chain(&["-o", &output])).unwrap();
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    assert!(!call(&args, now(), &mut out, &mut notes).await.unwrap());
    assert!(String::from_utf8(out).unwrap().contains("010106"));
    assert!(!Path::new(&output).exists());
}

#[tokio::test]
async fn common_errors_have_hints() {
    let mut env = TestEnv::new().await;
    for wrong in [
        &[][..],
        &["--call-id", "1"],
        &["--sk-env", "SK"],
        &["--begin", "x"],
        &["--path", "/", "--header", "Authorization: mine"],
        &["--path", "/", "--timeout", "0s"],
        &[&RECORDING[..], &["--body", "b"]].concat(),
    ] {
        let error = env.call(wrong).await.unwrap_err();
        assert!(error.is::<clap::Error>(), "{error}");
    }
    let other_ca = CertificateAuthority::new().unwrap();
    other_ca
        .write_certificate(&env.dir.path().join("ca.pem"))
        .unwrap();
    let error = env.call(&RECORDING).await.unwrap_err().to_string();
    assert!(error.contains("--ca"), "{error}");
    env.node.stop().await;
    let error = env.call(&RECORDING).await.unwrap_err().to_string();
    assert!(error.contains("nothing listens there"), "{error}");
}

#[tokio::test]
async fn json_has_the_response_its_urls_and_its_error() {
    let env = TestEnv::new().await;
    let call_id = "urls-2";
    let arguments = [
        &["--json", "--call-id", call_id][..],
        RECORDING.get(2..).unwrap(),
    ]
    .concat();
    let (succeeded, out, notes) = env.call(&arguments).await.unwrap();
    assert!(succeeded && notes.is_empty(), "{notes}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&report["succeeded"], &report["status"]),
        (&json!(true), &json!(200))
    );
    assert_eq!(report["result_code"], report["body"]["resultCode"]);
    let urls = report["urls"].as_array().unwrap();
    assert_eq!(urls.len(), 2);
    assert!(urls[1]["seconds_left"].as_i64().unwrap() > 28_000, "{out}");
    assert_eq!(report.get("error"), None);

    let fault = Fault::ResultCode("0300012".into());
    env.node.faults().inject(fault, When::Next(1));
    let (succeeded, out, _) = env.call(&arguments).await.unwrap();
    let report: Value = serde_json::from_str(&out).unwrap();
    assert!(!succeeded && report["succeeded"] == false);
    assert_eq!(
        report["error"]["message"],
        "result code 0300012: no data found"
    );

    fs::write(env.path("sk"), "another").unwrap();
    let (_, out, _) = env.call(&arguments).await.unwrap();
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["error"]["message"], "HTTP 401 Unauthorized");
    assert!(report["error"]["help"].is_string(), "{out}");
}

#[tokio::test]
async fn a_401_of_a_node_does_not_blame_the_client() {
    let env = TestEnv::new().await;
    fs::write(env.path("sk"), "another").unwrap();
    let (_, _, notes) = env.call(&RECORDING).await.unwrap();
    assert!(notes.contains("a node rejected the request"), "{notes}");
    let args = ["call", "https://h", "--ak", "ak", "--sk-file", "f"];
    let args = parse(args.iter().chain(&RECORDING)).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("x-gateway-error", HeaderValue::from_static("unauthorized"));
    let hint = args.unauthorized_hint(&headers);
    assert!(
        hint.contains("the gateway rejected the signature"),
        "{hint}"
    );
}

#[tokio::test]
async fn a_client_certificate_is_presented() {
    let authority = CertificateAuthority::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    authority
        .write_certificate(path("ca.pem").as_ref())
        .unwrap();
    let client = authority.issue(&["client"]).unwrap();
    client
        .write(path("client.pem").as_ref(), path("client.key").as_ref())
        .unwrap();
    let other = authority.issue(&["other"]).unwrap();
    other
        .write(path("other.pem").as_ref(), path("other.key").as_ref())
        .unwrap();
    fs::write(path("sk"), "secret").unwrap();
    let server = authority.issue(&CERTIFIED).unwrap();
    let roots = std::sync::Arc::new(authority.roots().unwrap());
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .unwrap();
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(server.chain(), server.key())
        .unwrap();
    let secret = crate::auth::Secret::new(b"secret".to_vec());
    let credential = super::super::secret_key::credential("ak", secret).unwrap();
    let node = StandIn::start(Settings::new(tls.into(), vec![credential]))
        .await
        .unwrap();
    let (url, ca, sk) = (node.url(), path("ca.pem"), path("sk"));
    let (chain, key, other_key) = (path("client.pem"), path("client.key"), path("other.key"));
    let defaults = ["call", &url, "--ca", &ca, "--ak", "ak", "--sk-file", &sk];
    let run = async |more: &[&str]| {
        let arguments = defaults.iter().chain(&RECORDING).chain(more);
        let arguments: Vec<_> = arguments.copied().collect();
        let args = parse(arguments.iter())?;
        call(&args, now(), &mut Vec::new(), &mut Vec::new()).await
    };
    assert!(run(&["--cert", &chain, "--key", &key]).await.unwrap());
    assert!(run(&[]).await.is_err(), "a certificate is required");
    let mismatch = run(&["--cert", &chain, "--key", &other_key]).await;
    let error = mismatch.unwrap_err().to_string();
    assert!(error.contains("client certificate"), "{error}");
    let alone = run(&["--cert", &chain]).await.unwrap_err();
    assert!(alone.is::<clap::Error>(), "{alone}");
}
