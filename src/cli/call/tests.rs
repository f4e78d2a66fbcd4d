use clap::{FromArgMatches, Parser};

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
        let usual = ["call", &url, "--ca", &ca, "--ak", "ak", "--sk-file", &sk];
        let args = parse(usual.iter().chain(arguments))?;
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
async fn a_recording_is_asked_for_and_shown() {
    let scene = TestEnv::new().await;
    let (succeeded, out, notes) = scene.call(&RECORDING).await.unwrap();
    assert!(succeeded);
    assert!(
        out.starts_with("{\"resultData\":{\"url\":\"https://") && out.ends_with("}\n"),
        "{out}"
    );
    assert!(notes.starts_with("HTTP 200 OK\n"), "{notes}");
    let received = &scene.node.requests()[0];
    assert!(received.body.ends_with(br#","version":"2.0"}"#));
    let authorization = received.header("authorization").unwrap();
    assert!(authorization.contains("/content-length;content-type;host/"));

    let arguments = [&RECORDING[..], &["--no-version", "--sign", "host"]].concat();
    assert!(scene.call(&arguments).await.unwrap().0);
    let received = &scene.node.requests()[1];
    assert!(!received.body.windows(7).any(|part| part == b"version"));
    assert!(
        received
            .header("authorization")
            .unwrap()
            .contains("Z/host/")
    );
}

#[tokio::test]
async fn json_is_no_file_and_its_code_decides() {
    let scene = TestEnv::new().await;
    let output = scene.path("out.json");
    let arguments = [&RECORDING[..], &["-o", &output]].concat();
    let (succeeded, out, notes) = scene.call(&arguments).await.unwrap();
    assert!(succeeded && out.contains("\"resultCode\":\"0\""), "{out}");
    let told = format!("the answer is JSON: nothing was written to {output}");
    assert!(notes.contains(&told), "{notes}");
    assert!(!Path::new(&output).exists());

    let fault = Fault::ResultCode("0300012".into());
    scene.node.faults().inject(fault, When::Next(1));
    assert!(!scene.call(&arguments).await.unwrap().0);
}

#[tokio::test]
async fn a_get_is_signed_over_its_host() {
    let scene = TestEnv::new().await;
    let path = "/CCFS/resource/ccfs/x";
    let (_, _, notes) = scene
        .call(&["--method", "GET", "--path", path])
        .await
        .unwrap();
    assert!(!notes.contains("401"), "{notes}");
    let received = &scene.node.requests()[0];
    let authorization = received.header("authorization").unwrap();
    assert!(authorization.contains("Z/host/"), "{authorization}");
}

#[tokio::test]
async fn a_url_with_another_path_needs_no_call() {
    let scene = TestEnv::new().await;
    let url = format!("{}/CCFS/resource/ccfs/playVoice?st=1", scene.node.url());
    let arguments = ["call", &url, "--insecure", "--unsigned", "--method", "GET"];
    let args = parse(arguments.iter()).unwrap();
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    call(&args, now(), &mut out, &mut notes).await.unwrap();
    assert_eq!(scene.node.requests()[0].method, "GET");
}

#[tokio::test]
async fn a_refused_signature_is_advised_about() {
    let scene = TestEnv::new().await;
    fs::write(scene.path("sk"), "another").unwrap();
    let (succeeded, _, notes) = scene.call(&RECORDING).await.unwrap();
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
async fn a_failure_is_shown_and_is_a_failure() {
    let scene = TestEnv::new().await;
    for fault in [
        Fault::ResultCode("0300012".into()),
        Fault::Status(503),
        Fault::GarbageJson,
    ] {
        scene.node.faults().inject(fault.clone(), When::Next(1));
        let (succeeded, out, _) = scene.call(&RECORDING).await.unwrap();
        assert!(!succeeded && !out.is_empty(), "{fault:?}");
    }
}

#[tokio::test]
async fn a_file_is_written_whole_or_not_at_all() {
    let scene = TestEnv::new().await;
    let (body, output) = (scene.path("body.json"), scene.path("a.wav"));
    let path = "/CCFS/resource/ccfs/downloadRecordFile";
    let arguments = ["--path", path, "--body", &body, "-o", &output];
    let ask = |name: &str| {
        let text =
            format!(r#"{{"request":{{"version":"2.0"}},"msgBody":{{"fileName":"{name}"}}}}"#);
        fs::write(&body, text).unwrap();
    };

    ask("code-0300011.wav");
    let (succeeded, out, _) = scene.call(&arguments).await.unwrap();
    assert!(!succeeded && out.contains("0300011"));
    ask("5MiB.wav");
    scene
        .node
        .faults()
        .inject(Fault::CloseInBody, When::Next(1));
    assert!(scene.call(&arguments).await.is_err());
    assert!(!Path::new(&output).exists() && !partial_path(Path::new(&output)).exists());
    let (succeeded, out, notes) = scene.call(&arguments).await.unwrap();
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
async fn a_failure_that_is_labelled_as_a_file_is_no_file() {
    let scene = TestEnv::new().await;
    let output = scene.path("a.wav");
    let path = "/CCFS/resource/ccfs/playVoice?t=1&version=2.0&st=";
    let url = scene.node.url();
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
async fn ordinary_mistakes_are_explained() {
    let mut scene = TestEnv::new().await;
    for wrong in [
        &[][..],
        &["--call-id", "1"],
        &["--sk-env", "SK"],
        &["--begin", "x"],
        &["--path", "/", "--header", "Authorization: mine"],
        &["--path", "/", "--timeout", "0s"],
        &[&RECORDING[..], &["--body", "b"]].concat(),
    ] {
        let error = scene.call(wrong).await.unwrap_err();
        assert!(error.is::<clap::Error>(), "{error}");
    }
    let stranger = CertificateAuthority::new().unwrap();
    stranger
        .write_certificate(&scene.dir.path().join("ca.pem"))
        .unwrap();
    let error = scene.call(&RECORDING).await.unwrap_err().to_string();
    assert!(error.contains("--ca"), "{error}");
    scene.node.stop().await;
    let error = scene.call(&RECORDING).await.unwrap_err().to_string();
    assert!(error.contains("nothing listens there"), "{error}");
}
