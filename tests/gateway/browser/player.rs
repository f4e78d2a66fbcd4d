//! The page of the demo: a recording plays in a real browser that holds no key.

use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::process::{ChildStdout, Command, Stdio};

use ccfs_gateway::tls::CertificateDetails;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use super::driver::{Browser, ENTER};
use crate::commands_at_work::KillOnDrop;
use crate::page;
use crate::process::PROGRAM;
use crate::support::eventually;

/// A demo that serves, and what it says about its page.
struct Demo {
    process: KillOnDrop,
    admin: SocketAddr,
    player: String,
    code: String,
    /// The pins of its certificates.
    pins: Vec<String>,
    /// Open until the end, so that the demo can say that it shuts down.
    _output: Lines<BufReader<ChildStdout>>,
    _folder: tempfile::TempDir,
}

impl Demo {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let demo = Command::new(PROGRAM)
            .args(["demo", "--port", "0"])
            .env("TMPDIR", folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut process = KillOnDrop(demo.unwrap());
        let mut output = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let lines = output.by_ref().map(Result::unwrap);
        let lines: Vec<_> = lines
            .take_while(|line| !line.starts_with("Ctrl-C"))
            .collect();
        let after = |mark: &str| {
            let found = lines.iter().find_map(|line| line.split_once(mark));
            found
                .unwrap_or_else(|| panic!("{mark} in {lines:#?}"))
                .1
                .to_owned()
        };
        let code = after("sign in with ");
        let authority = after("--ca ");
        let authority = authority.split(' ').next().unwrap();
        let tls = std::path::Path::new(authority).parent().unwrap();
        let pins = ["gateway.pem", "node.pem"].map(|file| {
            let der = CertificateDer::from_pem_file(tls.join(file)).unwrap();
            CertificateDetails::read(&der).pin.unwrap().to_string()
        });
        Self {
            admin: after("status page  http://")
                .trim_end_matches('/')
                .parse()
                .unwrap(),
            player: after("player       ").trim().to_owned(),
            code: code.split(',').next().unwrap().to_owned(),
            pins: pins.into(),
            process,
            _output: output,
            _folder: folder,
        }
    }

    /// What the gateway counted for the page's server.
    async fn caller(&self) -> Value {
        let status = page::get(self.admin, "/status").await.json();
        status["callers"][0].clone()
    }
}

/// Presses the play button of the first recording, as a user does, and waits for sound.
async fn play(browser: &Browser) {
    browser
        .run("document.querySelector('button[data-call]').focus()")
        .await;
    browser.press(ENTER).await;
    eventually("it plays", async || {
        let time = browser
            .run("return document.getElementById('player').currentTime")
            .await;
        time.as_f64().unwrap() > 0.0
    })
    .await;
}

async fn link(browser: &Browser) -> String {
    let link = browser
        .run("return document.getElementById('link').textContent")
        .await;
    link.as_str().unwrap().to_owned()
}

#[tokio::test]
#[ignore = "needs Debian's chromium and chromium-driver"]
async fn a_recording_plays_by_a_ticket_and_the_second_time_from_the_cache() {
    let mut demo = Demo::start();
    let browser = Browser::start_with_pins(&demo.pins).await;
    browser.open(&demo.player).await;
    let counts = "return fetch('/counts').then((answer) => answer.status)";
    assert_eq!(browser.run(counts).await, 401, "nobody has signed in");
    let sign_in = format!(
        "document.getElementById('code').value = '{}'; document.querySelector('#sign-in button').focus()",
        demo.code
    );
    browser.run(&sign_in).await;
    browser.press(ENTER).await;
    eventually("signed in", async || browser.run(counts).await == 200).await;
    assert_eq!(browser.run("return document.cookie").await, "");

    play(&browser).await;
    let duration = "return document.getElementById('player').duration";
    assert_eq!(browser.run(duration).await, 3.0, "the whole recording");
    let first = link(&browser).await;
    assert!(first.contains("/recordings/1637742310-1?begin="), "{first}");
    let before = demo.caller().await;
    assert_eq!(
        (&before["name"], &before["refused"]),
        (&"player".into(), &0.into())
    );

    // Again: another ticket, and no node is asked.
    browser
        .run("document.getElementById('player').removeAttribute('src'); document.getElementById('player').load()")
        .await;
    play(&browser).await;
    let after = demo.caller().await;
    let hits = |counts: &Value| counts["hits"].as_u64().unwrap();
    assert!(hits(&after) > hits(&before), "{before} {after}");
    eventually("the page shows the hit", async || {
        let shown = browser
            .run("return Number(document.getElementById('hits').textContent)")
            .await;
        shown.as_u64().unwrap() >= hits(&after)
    })
    .await;
    let errors = browser.errors().await;
    // The console names the request that was made before signing in.
    assert!(
        errors.iter().all(|error| error.contains("/counts")),
        "{errors:?}"
    );

    // The operator sees the caller.
    browser.open(&format!("http://{}/", demo.admin)).await;
    let row = "return [...document.querySelectorAll('#callers-table tbody td')].map((cell) => cell.textContent).join(' ')";
    eventually("the status page shows the caller", async || {
        let row = browser.run(row).await.as_str().unwrap().to_owned();
        row.starts_with("player 279a08bbd8d949a0 ") && row.ends_with(" usable")
    })
    .await;

    let sent = Command::new("kill")
        .arg(demo.process.0.id().to_string())
        .status();
    assert!(sent.unwrap().success());
    assert_eq!(demo.process.0.wait().unwrap().code(), Some(0));
}
