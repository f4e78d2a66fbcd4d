//! `GET /tail` and the command `tail`: the requests as they end (§8).

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use ccfs_gateway::client::{Client, ClientRequest, StreamingClientResponse};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpSocket;

use crate::page;
use crate::process::{PROGRAM, Process};
use crate::support::{
    BERLIN, SHANGHAI, Setup, Site, TestEnv, UNKNOWN, client_trusting, eventually, read, signed,
    write_secret,
};
use crate::terminal::Terminal;

const TOKEN: &str = "t0ken";

/// A site whose admin interface has a token.
async fn site(admin: &str, tables: &str) -> Site {
    let admin = format!("[admin]\nbind = \"127.0.0.1:0\"\ntoken_file = \"token\"\n{admin}");
    let setup = Setup {
        tables: format!("{admin}\n{tables}"),
        ..Setup::default()
    };
    let site = setup.prepare().await;
    write_secret(&site.folder.path().join("token"), TOKEN.as_bytes());
    site
}

async fn start(tables: &str) -> TestEnv {
    TestEnv::with_site(site("", tables).await)
}

/// A client of `/tail`.
struct Follower {
    status: u16,
    body: Incoming,
    text: String,
}

impl Follower {
    async fn new(env: &TestEnv, query: &str) -> Self {
        Self::with_receive_buffer(env, query, None).await
    }

    async fn with_receive_buffer(env: &TestEnv, query: &str, size: Option<u32>) -> Self {
        let admin = env.bound.admin.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(size) = size {
            socket.set_recv_buffer_size(size).unwrap();
        }
        let stream = TokioIo::new(socket.connect(admin).await.unwrap());
        let (mut sender, connection) = http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get(format!("/tail{query}"))
            .header(HOST, admin.to_string())
            .header(AUTHORIZATION, format!("Bearer {TOKEN}"))
            .body(Empty::<Bytes>::new())
            .unwrap();
        let response: Response<Incoming> = sender.send_request(request).await.unwrap();
        Self {
            status: response.status().as_u16(),
            body: response.into_body(),
            text: String::new(),
        }
    }

    /// The next line; `None` at the end of a complete response.
    async fn line(&mut self) -> Option<Value> {
        let line = self.raw_line().await?;
        Some(serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}")))
    }

    async fn raw_line(&mut self) -> Option<String> {
        loop {
            if let Some((line, rest)) = self.text.split_once('\n') {
                let line = line.to_owned();
                self.text = rest.to_owned();
                return Some(line);
            }
            let frame = tokio::time::timeout(Duration::from_secs(10), self.body.frame());
            let frame = frame.await.expect("a line within 10 s")?;
            let data = frame.expect("not cut off").into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&data).unwrap());
        }
    }
}

#[tokio::test]
async fn the_lines_are_those_of_the_access_log() {
    let env = start("").await;
    let mut follower = Follower::new(&env, "").await;
    assert_eq!(follower.status, 200, "the head arrives before any line");
    let mut request = env.recording("tail-1");
    request.target.push_str("?secret=of-the-query");
    let agent = HeaderValue::from_bytes("agent\u{202e}\"".as_bytes()).unwrap();
    request.headers.insert(USER_AGENT, agent);
    env.send(&signed(request, SHANGHAI)).await;
    env.get_recording("tail-2").await;
    env.get_recording("tail-2").await;
    env.send(&signed(env.recording("tail-2"), UNKNOWN)).await;
    let mut lines = Vec::new();
    for _ in 0..4 {
        lines.push(follower.raw_line().await.unwrap());
    }
    let file = env.file("access.log");
    eventually("the log is written", async || {
        read(&file).lines().count() == 4
    })
    .await;
    let log = read(&file);
    assert_eq!(lines, log.lines().collect::<Vec<_>>());
    assert!(!log.contains("of-the-query"), "{log}");
}

#[tokio::test]
async fn without_an_access_log_requests_are_followed_too() {
    let env = start("[telemetry]\naccess_log = \"off\"\nlog_level = \"error\"").await;
    env.get_recording("before").await;
    let mut follower = Follower::new(&env, "").await;
    env.get_recording("tail-1").await;
    let line = follower.line().await.unwrap();
    assert_eq!(
        (&line["gw.call_id"], &line["gw.outcome"]),
        (&"tail-1".into(), &"node".into())
    );
}

#[tokio::test]
async fn a_follower_gets_what_it_asks_for() {
    let env = start("").await;
    let mut by_key = Follower::new(&env, &format!("?ak={BERLIN}")).await;
    let mut by_call = Follower::new(&env, "?call_id=tail%2D2").await;
    let mut by_outcome = Follower::new(&env, "?outcome=unauthenticated").await;
    let mut by_all = Follower::new(
        &env,
        &format!("?ak={SHANGHAI}&outcome=cached&call_id=tail-2"),
    )
    .await;
    env.get_recording("tail-1").await;
    env.get_recording("tail-2").await;
    env.send(&signed(env.recording("tail-3"), UNKNOWN)).await;
    env.send(&signed(env.recording("tail-4"), BERLIN)).await;
    env.get_recording("tail-2").await;
    let call = |line: &Value| line["gw.call_id"].as_str().unwrap_or("-").to_owned();
    assert_eq!(call(&by_key.line().await.unwrap()), "tail-4");
    assert_eq!(call(&by_call.line().await.unwrap()), "tail-2");
    assert_eq!(by_outcome.line().await.unwrap()["gw.result_code"], "GW401");
    let line = by_all.line().await.unwrap();
    assert_eq!(
        (call(&line).as_str(), &line["gw.cache"]),
        ("tail-2", &"hit".into())
    );
    for (query, words) in [
        ("?outcome=nonsense", "rate_limited"),
        ("?ak=", "each once"),
        ("?access_key=a", "ak=…"),
    ] {
        let mut wrong = Follower::new(&env, query).await;
        assert_eq!(wrong.status, 400, "{query}");
        let problem = wrong.line().await.unwrap();
        assert!(
            problem["detail"].as_str().unwrap().contains(words),
            "{problem}"
        );
    }
}

#[tokio::test]
async fn the_ninth_follower_is_refused_until_another_one_ends() {
    let env = start("").await;
    let mut followers = Vec::new();
    for _ in 0..8 {
        followers.push(Follower::new(&env, "").await);
    }
    assert!(followers.iter().all(|follower| follower.status == 200));
    assert_eq!(Follower::new(&env, "").await.status, 503);
    followers.pop();
    eventually("a place is free", async || {
        Follower::new(&env, "").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn following_needs_a_token_on_loopback_too() {
    let env = TestEnv::start().await;
    let admin = env.bound.admin.unwrap();
    let response = page::get(admin, "/tail").await;
    assert_eq!(response.status, 403);
    assert!(
        response.body.contains("[admin] token_file"),
        "{}",
        response.body
    );
    let env = start("").await;
    let admin = env.bound.admin.unwrap();
    assert_eq!(page::get(admin, "/tail").await.status, 401);
    assert_eq!(
        page::post_with_token(admin, "/tail", TOKEN).await.status,
        405
    );
}

#[tokio::test]
async fn a_slow_reader_is_told_how_many_lines_it_lost() {
    let env = start("[telemetry]\naccess_log = \"off\"\nlog_level = \"error\"").await;
    let mut follower = Follower::with_receive_buffer(&env, "", Some(4096)).await;
    let mut request = signed(env.recording("tail-1"), SHANGHAI);
    let agent = HeaderValue::from_str(&"a".repeat(10_000)).unwrap();
    request.headers.insert(USER_AGENT, agent);
    // Twice what the follower's buffer and its socket hold.
    let total = 800;
    for _ in 0..total {
        assert_eq!(env.send(&request).await.status, 200);
    }
    let (mut shown, mut lost) = (0, 0);
    while shown + lost < total {
        let line = follower.line().await.unwrap();
        match line["lost"].as_u64() {
            Some(lines) => lost += lines,
            None => shown += 1,
        }
    }
    assert_eq!(shown + lost, total);
    assert!(lost > 0 && shown > 0, "{shown} shown, {lost} lost");
    env.get_recording("tail-2").await;
    assert_eq!(follower.line().await.unwrap()["gw.call_id"], "tail-2");
}

#[tokio::test]
async fn a_shutdown_ends_the_followers_with_a_complete_response() {
    let mut env = start("").await;
    let mut follower = Follower::new(&env, "").await;
    env.get_recording("tail-1").await;
    let begin = tokio::time::Instant::now();
    assert!(env.shut_down().await.complete);
    // The admin interface waits for its connections, at most a second.
    assert!(
        begin.elapsed() < Duration::from_millis(900),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(follower.line().await.unwrap()["gw.call_id"], "tail-1");
    assert!(follower.line().await.is_none());
}

#[tokio::test]
async fn requests_are_followed_over_http2_as_well() {
    let tls = "tls = { certificate = \"leaf.pem\", private_key = \"leaf.key\" }";
    let site = site(tls, "").await;
    let client: Client = client_trusting(site.folder.path()).http2_only();
    let env = TestEnv::with_site(site);
    let mut request =
        ClientRequest::get(&format!("https://{}/tail", env.bound.admin.unwrap())).unwrap();
    let token = HeaderValue::from_static("Bearer t0ken");
    request.headers.insert(AUTHORIZATION, token);
    let mut response: StreamingClientResponse = client.send_streaming(&request).await.unwrap();
    assert_eq!(response.status, 200);
    env.get_recording("tail-1").await;
    let line = response.chunk().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&line).contains("tail-1"));
}

/// The command `tail` with its output in a pipe.
struct Tail {
    child: Child,
    lines: Receiver<String>,
}

impl Tail {
    fn start(process: &Process, arguments: &[&str]) -> Self {
        let mut child = Command::new(PROGRAM)
            .args([
                "tail",
                "--admin",
                &process.admin.to_string(),
                "--token-file",
            ])
            .arg(process.site.folder.path().join("token"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    async fn exit(&mut self) -> (Option<i32>, String) {
        let mut status = None;
        eventually("the command ends", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        let mut err = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        std::io::Read::read_to_string(&mut stderr, &mut err).unwrap();
        (status.unwrap().code(), err)
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn start_process() -> Process {
    let setup = Setup {
        tables: "[admin]\nbind = \"127.0.0.1:0\"\ntoken_file = \"token\"\n[telemetry]\nlog_level = \"info\"\naccess_log = \"off\"".to_owned(),
        ..Setup::default()
    };
    Process::start_with(&setup, |site| {
        write_secret(&site.folder.path().join("token"), TOKEN.as_bytes());
    })
    .await
}

/// Sends requests until the command has printed one of them.
async fn first_line(process: &Process, tail: &Tail) -> Value {
    let mut line = None;
    eventually("a line", async || {
        process.get_recording("tail-1").await;
        line = tail.lines.try_recv().ok();
        line.is_some()
    })
    .await;
    serde_json::from_str(&line.unwrap()).unwrap()
}

#[tokio::test]
async fn the_command_prints_objects_into_a_pipe_and_ends_at_ctrl_c() {
    let process = start_process().await;
    let mut tail = Tail::start(&process, &["--ak", SHANGHAI]);
    assert_eq!(first_line(&process, &tail).await["gw.ak"], SHANGHAI);
    let id = tail.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(tail.exit().await, (Some(0), String::new()));
}

#[tokio::test]
async fn the_command_says_that_the_gateway_ends() {
    let mut process = start_process().await;
    let mut tail = Tail::start(&process, &["--json"]);
    first_line(&process, &tail).await;
    process.signal("TERM");
    assert_eq!(
        tail.exit().await,
        (Some(0), "the gateway has shut down\n".to_owned())
    );
    assert_eq!(process.wait_for_exit().await.code(), Some(0));
    let mut tail = Tail::start(&process, &[]);
    let (code, err) = tail.exit().await;
    assert_eq!(code, Some(1));
    assert!(
        err.contains("cannot reach") && err.contains("--admin"),
        "{err}"
    );
    let mut tail = Tail::start(&process, &["--json"]);
    assert_eq!(tail.exit().await.0, Some(1));
    let text: String = tail.lines.iter().collect();
    let report: Value = serde_json::from_str(&text).unwrap();
    assert!(report["error"]["message"].is_string(), "{text}");
}

#[tokio::test]
async fn a_command_whose_reader_is_gone_ends_without_a_word() {
    let process = start_process().await;
    let mut tail = Tail::start(&process, &[]);
    first_line(&process, &tail).await;
    // The thread ends with its channel, and closes the pipe.
    drop(std::mem::replace(&mut tail.lines, channel().1));
    let mut ended = None;
    eventually("the command ends", async || {
        process.get_recording("tail-2").await;
        ended = tail.child.try_wait().unwrap();
        ended.is_some()
    })
    .await;
    assert_eq!(tail.exit().await, (Some(0), String::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_terminal_requests_are_lines_of_columns() {
    let env = start("[telemetry]\naccess_log = \"off\"\nlog_level = \"error\"").await;
    let token = env.file("token");
    let token = token.to_str().unwrap();
    let arguments = ["tail", "--admin", &env.admin(), "--token-file", token];
    let mut terminal = Terminal::start(&arguments, 24, 120);
    eventually("a line", async || {
        env.get_recording("tail-1").await;
        terminal.text().contains("hit")
    })
    .await;
    let rows = terminal.rows();
    assert!(rows[0].starts_with("TIME (UTC)"), "{rows:?}");
    let at = |title: &str| rows[0].find(title).unwrap();
    let line = rows.iter().find(|row| row.contains("hit")).unwrap();
    assert!(line[at("ACCESS KEY")..].starts_with(SHANGHAI), "{rows:?}");
    assert!(line[at("CALL")..].starts_with("tail-1"), "{rows:?}");
    terminal.type_text("\u{3}");
    assert_eq!(terminal.exit().await, Some(0));
}
