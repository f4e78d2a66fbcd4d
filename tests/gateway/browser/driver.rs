//! Chromium, controlled by the WebDriver protocol.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// One browser window of 1280x800. Closed when dropped, also after a panic, without leaving
/// processes or files.
#[derive(Debug)]
pub(super) struct Browser {
    driver: Child,
    authority: String,
    /// Empty until the session is created.
    session: String,
    /// Profile directory and all other files of the browser and its driver.
    folder: TempDir,
}

impl Browser {
    /// Starts the browser; `evil.example` resolves to this machine.
    pub(super) async fn start() -> Self {
        Self::start_with_pins(&[]).await
    }

    /// Starts the browser; it accepts servers with these keys, in the form `sha256/…`, whoever issued their
    /// certificates.
    pub(super) async fn start_with_pins(pins: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let driver = Command::new("chromedriver")
            .arg("--port=0")
            .env("TMPDIR", folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Debian's chromium-driver");
        let mut browser = Self {
            driver,
            authority: String::new(),
            session: String::new(),
            folder,
        };
        let mut lines = BufReader::new(browser.driver.stdout.take().unwrap()).lines();
        let port = lines
            .find_map(|line| {
                let line = line.unwrap();
                let (_, port) = line.split_once("started successfully on port ")?;
                Some(port.trim_end_matches('.').to_owned())
            })
            .expect("chromedriver says its port");
        browser.authority = format!("127.0.0.1:{port}");
        let profile = browser.folder.path().join("profile");
        let profile = format!("--user-data-dir={}", profile.display());
        let mut arguments = ARGUMENTS.to_vec();
        arguments.push(&profile);
        let pins: Vec<_> = pins
            .iter()
            .map(|pin| pin.trim_start_matches("sha256/"))
            .collect();
        let pins = format!("--ignore-certificate-errors-spki-list={}", pins.join(","));
        arguments.push(&pins);
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": arguments },
        } } });
        let session = browser.ask("POST", "/session", Some(capabilities)).await;
        browser.session = format!("/session/{}", session["sessionId"].as_str().unwrap());
        browser.resize(1280, 800).await;
        browser
    }

    /// Sets the size of the window; one narrower than 500 pixels is a phone.
    pub(super) async fn resize(&self, width: u32, height: u32) {
        let metrics = json!({
            "width": width,
            "height": height,
            "deviceScaleFactor": 1,
            "mobile": width < 500,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)
            .await;
    }

    /// Loads a page.
    pub(super) async fn open(&self, url: &str) {
        self.post("/url", json!({ "url": url })).await;
    }

    /// Runs a script as the body of a function; returns its return value.
    pub(super) async fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({ "script": script, "args": [] }))
            .await
    }

    /// Sends key presses.
    pub(super) async fn press(&self, keys: &str) {
        let strokes = keys.chars().flat_map(|key| {
            let key = key.to_string();
            [
                json!({ "type": "keyDown", "value": key }),
                json!({ "type": "keyUp", "value": key }),
            ]
        });
        let actions =
            json!([{ "type": "key", "id": "keyboard", "actions": strokes.collect::<Vec<_>>() }]);
        self.post("/actions", json!({ "actions": actions })).await;
    }

    /// Sets the preferred colour scheme.
    pub(super) async fn prefer(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        )
        .await;
    }

    /// The console errors since the last call.
    pub(super) async fn errors(&self) -> Vec<String> {
        let log = self.post("/se/log", json!({ "type": "browser" })).await;
        let entries = log.as_array().unwrap().iter();
        let severe = entries.filter(|entry| entry["level"] == "SEVERE");
        severe
            .map(|entry| entry["message"].as_str().unwrap().to_owned())
            .collect()
    }

    /// A screenshot as base64-encoded PNG.
    pub(super) async fn screenshot(&self) -> String {
        let shot = self
            .ask("GET", &format!("{}/screenshot", self.session), None)
            .await;
        shot.as_str().unwrap().to_owned()
    }

    async fn devtools(&self, command: &str, parameters: Value) {
        self.post(
            "/goog/cdp/execute",
            json!({ "cmd": command, "params": parameters }),
        )
        .await;
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.ask("POST", &format!("{}{path}", self.session), Some(body))
            .await
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let stream = TcpStream::connect(&self.authority).await.unwrap();
        let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let driver = tokio::spawn(driver);
        let body = body
            .map(|body| Bytes::from(body.to_string()))
            .unwrap_or_default();
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.authority)
            .header("content-type", "application/json")
            .body(Full::new(body))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        driver.abort();
        let mut response: Value = serde_json::from_slice(&bytes).unwrap();
        assert!(status.is_success(), "{method} {path}: {response:#}");
        response["value"].take()
    }
}

impl Drop for Browser {
    /// Ending the session ends the browser reliably. A browser without a session is found by its
    /// profile directory.
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let _ = self.end_session();
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        let deadline = Instant::now() + PATIENCE;
        while let left = processes_of(self.folder.path())
            && !left.is_empty()
        {
            if Instant::now() > deadline {
                let _ = Command::new("kill").arg("-KILL").args(left).status();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Browser {
    /// The directory of all its files.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Blocking, because the runtime may be shutting down too.
    fn end_session(&self) -> std::io::Result<usize> {
        let mut stream = std::net::TcpStream::connect(&self.authority)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "DELETE {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.session, self.authority
        )?;
        stream.read(&mut [0; 256])
    }
}

/// The ids of processes that were started with this directory.
pub(super) fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap().as_bytes();
    let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let names_it = |process: &std::fs::DirEntry| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        line.windows(folder.len()).any(|part| part == folder)
    };
    all.filter(names_it)
        .map(|process| process.file_name().into_string().unwrap())
        .collect()
}

/// Time for a browser to exit by itself.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) const TAB: &str = "\u{e004}";
pub(super) const ENTER: &str = "\u{e007}";

const ARGUMENTS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP evil.example 127.0.0.1",
];
