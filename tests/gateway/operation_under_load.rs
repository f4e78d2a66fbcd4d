//! Reloads, drains and listener hand-overs under load: no request fails.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use ccfs_gateway::admin::AdminCommand;
use ccfs_gateway::app::App;
use ccfs_gateway::client::{Client, Trust};
use ccfs_gateway::config::Config;
use ccfs_gateway::stand_in::certificates::{
    CertificateAuthority, IssuedCertificate, SERVER_NAMES as HOSTS, write_private_file,
};
use tokio::sync::oneshot;

use crate::support::{BERLIN, SHANGHAI, Setup, TestEnv, eventually, read, secret, signed};
use crate::traffic::{ConnectionMode, ContinuousLoad};

/// Reloads the configuration through the command channel.
async fn reload(env: &TestEnv) -> Result<u64, String> {
    let (response, result) = oneshot::channel();
    env.commands
        .send(AdminCommand::Reload(response))
        .await
        .unwrap();
    result.await.unwrap().map(|done| done.generation)
}

fn trusting(env: &TestEnv) -> impl Fn() -> Client + use<> {
    let ca = env.file("ca.pem");
    move || Client::new(&Trust::from_pem_file(&ca).unwrap()).unwrap()
}

/// Ports that are free and stay so: they are below the ephemeral port range, and in a block
/// reserved for this run of the tests.
fn free_ports(count: usize) -> Vec<SocketAddr> {
    static BLOCK: LazyLock<TcpListener> = LazyLock::new(block);
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let first = BLOCK.local_addr().unwrap().port();
    let free = std::iter::repeat_with(|| {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(next < BLOCK_SIZE, "no port is left in this block");
        TcpListener::bind(("127.0.0.1", first + next))
    });
    let sockets = free.filter_map(Result::ok).take(count);
    let ports: Vec<_> = sockets.map(|it| it.local_addr().unwrap()).collect();
    assert_eq!(ports.len(), count);
    ports
}

/// Reserves a block of ports. The process that listens on the first port of a block owns it.
fn block() -> TcpListener {
    let mut firsts = (20_000..32_000).step_by(BLOCK_SIZE.into());
    let mine = firsts.find_map(|first: u16| TcpListener::bind(("127.0.0.1", first)).ok());
    mine.expect("a free block")
}

const BLOCK_SIZE: u16 = 100;

#[test]
fn two_runs_reserve_different_blocks() {
    let (one, other) = (block(), block());
    let first = |it: &TcpListener| it.local_addr().unwrap().port();
    assert!(first(&one).abs_diff(first(&other)) >= BLOCK_SIZE);
}

/// A listener that can be told apart by its route: `prefix` is served, every other path is 404.
fn listener(name: &str, bind: SocketAddr, prefix: &str) -> String {
    format!(
        "[listeners.{name}]\nbind = \"{bind}\"\nroutes = {{ \"{prefix}\" = \"ccfs\" }}\n\
         tls = {{ certificate = \"leaf.pem\", private_key = \"leaf.key\" }}\n"
    )
}

/// Writes further listeners into the configuration and reloads.
async fn with_listeners(env: &TestEnv, base: &str, further: &[String]) -> Result<u64, String> {
    let text = format!("{base}\n{}", further.join("\n"));
    std::fs::write(env.file("gateway.toml"), text).unwrap();
    reload(env).await
}

async fn status_at(env: &TestEnv, address: SocketAddr) -> Option<u16> {
    let query = ccfs_gateway::client::RecordingQuery {
        call_id: "1637742300-1",
        begin: crate::support::BEGIN,
        end: crate::support::END,
        version: Some("2.0"),
    };
    let url = format!("https://{address}");
    let request = ccfs_gateway::client::ClientRequest::recording(&url, &query).unwrap();
    let response = trusting(env)().send(&signed(request, SHANGHAI)).await;
    response.ok().map(|response| response.status.as_u16())
}

#[tokio::test]
async fn two_hundred_reloads_under_load_fail_no_request() {
    let setup = Setup {
        nodes: 2,
        ..Setup::default()
    };
    let env = setup.start().await;
    let base = read(&env.file("gateway.toml"));
    // The clients trust one authority; each reload brings another leaf certificate of it.
    let authority = CertificateAuthority::new().unwrap();
    let ca = read(&env.file("ca.pem"));
    authority
        .write_certificate(&env.file("other-ca.pem"))
        .unwrap();
    let both = ca + &read(&env.file("other-ca.pem"));
    std::fs::write(env.file("trusted.pem"), both).unwrap();
    let trusted = env.file("trusted.pem");
    let client = move || Client::new(&Trust::from_pem_file(&trusted).unwrap()).unwrap();
    // Nodes keep their certificate, the gateway gets new ones.
    let base = base.replace("\"leaf.pem\"", "\"front.pem\"");
    let base = base.replace("\"leaf.key\"", "\"front.key\"");
    let manners = [
        ConnectionMode::KeepAlive,
        ConnectionMode::NewConnection,
        ConnectionMode::Http2,
    ];
    let load = ContinuousLoad::start(client, &env.url(), SHANGHAI, &manners);
    let ports = free_ports(2);
    for round in 0..200 {
        if round % 10 == 0 {
            let leaf: IssuedCertificate = authority.issue(&HOSTS).unwrap();
            let (certificate, key) = (env.file("front.pem"), env.file("front.key"));
            leaf.write(&certificate, &key).unwrap();
        }
        let berlin = format!("{}-{round}", secret(BERLIN));
        write_private_file(&env.file(BERLIN), berlin.as_bytes()).unwrap();
        let further = match round % 4 {
            0 => vec![],
            1 => vec![
                listener("one", ports[0], "/CCFS/"),
                listener("two", ports[1], "/none/"),
            ],
            2 => vec![
                listener("one", ports[1], "/CCFS/"),
                listener("two", ports[0], "/none/"),
            ],
            _ => vec![listener("three", ports[1], "/CCFS/")],
        };
        let generation = with_listeners(&env, &base, &further).await.unwrap();
        assert_eq!(generation, round + 2);
        if round % 20 == 0 {
            load.progress(10).await;
        }
    }
    load.progress(10).await;
    load.end().await;
}

#[tokio::test]
async fn listeners_swap_addresses_and_keep_their_connections() {
    let env = TestEnv::start().await;
    let base = read(&env.file("gateway.toml"));
    let ports = free_ports(2);
    let pair = |one: usize, two: usize| {
        [
            listener("one", ports[one], "/CCFS/"),
            listener("two", ports[two], "/none/"),
        ]
    };
    with_listeners(&env, &base, &pair(0, 1)).await.unwrap();
    assert_eq!(status_at(&env, ports[0]).await, Some(200));
    assert_eq!(status_at(&env, ports[1]).await, Some(404));
    let url = format!("https://{}", ports[1]);
    for (one, two) in [(1, 0), (0, 1), (1, 0)] {
        with_listeners(&env, &base, &pair(one, two)).await.unwrap();
        assert_eq!(status_at(&env, ports[one]).await, Some(200));
        assert_eq!(status_at(&env, ports[two]).await, Some(404));
    }
    // Under load, a new listener takes over the address of a removed one.
    let manners = [
        ConnectionMode::KeepAlive,
        ConnectionMode::NewConnection,
        ConnectionMode::Http2,
    ];
    let load = ContinuousLoad::start(trusting(&env), &url, SHANGHAI, &manners);
    for name in ["three", "four", "one"] {
        load.progress(20).await;
        let heir = [listener(name, ports[1], "/CCFS/")];
        with_listeners(&env, &base, &heir).await.unwrap();
    }
    load.progress(20).await;
    load.end().await;
}

#[tokio::test]
async fn a_removed_listener_serves_only_existing_connections() {
    let env = TestEnv::start().await;
    let base = read(&env.file("gateway.toml")) + "\n[server]\ndrain_delay = \"0s\"\n";
    let port = free_ports(1)[0];
    with_listeners(&env, &base, &[listener("further", port, "/CCFS/")])
        .await
        .unwrap();
    let url = format!("https://{port}");
    let client = trusting(&env)().with_idle_connections(1);
    let ask = async || {
        let query = ccfs_gateway::client::RecordingQuery {
            call_id: "1637742300-1",
            begin: crate::support::BEGIN,
            end: crate::support::END,
            version: Some("2.0"),
        };
        let request = ccfs_gateway::client::ClientRequest::recording(&url, &query).unwrap();
        client.send(&signed(request, SHANGHAI)).await.unwrap()
    };
    assert_eq!(ask().await.header("connection"), None);
    with_listeners(&env, &base, &[]).await.unwrap();
    let last = ask().await;
    assert_eq!(
        (last.status.as_u16(), last.header("connection")),
        (200, Some("close"))
    );
    eventually("the socket is closed", async || {
        tokio::net::TcpStream::connect(port).await.is_err()
    })
    .await;
}

#[tokio::test]
async fn an_address_in_use_rejects_the_whole_reload() {
    let env = TestEnv::start().await;
    let base = read(&env.file("gateway.toml"));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let further = [
        listener("free", free_ports(1)[0], "/CCFS/"),
        listener("taken", taken.local_addr().unwrap(), "/CCFS/"),
    ];
    let why = with_listeners(&env, &base, &further).await.unwrap_err();
    assert!(
        why.contains("listener taken cannot listen on 127.0.0.1"),
        "{why}"
    );
    assert_eq!(env.get_recording("1637742300-1").await.status, 200);
    assert_eq!(with_listeners(&env, &base, &[]).await, Ok(2));
}

#[tokio::test]
async fn a_drain_under_load_fails_no_request() {
    for manner in [
        ConnectionMode::KeepAlive,
        ConnectionMode::NewConnection,
        ConnectionMode::Http2,
    ] {
        // Two gateways in front of the same nodes, one after the other on the same address, as
        // behind a load balancer.
        let env = Setup {
            tables: "[server]\ndrain_delay = \"300ms\"\n".to_owned(),
            ..Setup::default()
        }
        .start()
        .await;
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let front = socket.local_addr().unwrap();
        let second = second_gateway(&env.file("gateway.toml"));
        let balancer = Balancer::start(socket, env.bound.listeners["ccfs"]);
        let url = format!("https://{front}");
        let load = ContinuousLoad::start(trusting(&env), &url, SHANGHAI, &[manner; 3]);
        load.progress(30).await;
        balancer.point_to(second.bound_addresses().listeners["ccfs"]);
        let orders = second.commands();
        let running = tokio::spawn(second.run());
        env.commands.send(AdminCommand::Terminate).await.unwrap();
        let mut env = env;
        let report = (&mut env.gateway).await.unwrap();
        assert!(report.complete, "{manner:?}");
        load.progress(30).await;
        load.end().await;
        orders.send(AdminCommand::Terminate).await.unwrap();
        assert!(running.await.unwrap().complete);
    }
}

/// Another gateway with the same configuration file.
fn second_gateway(file: &Path) -> App {
    let (config, _) = Config::load(file).unwrap();
    App::bind(config, Some(file.to_owned())).unwrap()
}

/// A TCP load balancer: copies bytes, and sends new connections to the current target.
#[derive(Debug)]
struct Balancer {
    target: tokio::sync::watch::Sender<SocketAddr>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Balancer {
    fn start(socket: TcpListener, to: SocketAddr) -> Self {
        socket.set_nonblocking(true).unwrap();
        let (target, seen) = tokio::sync::watch::channel(to);
        let accepting = tokio::spawn(async move {
            let socket = tokio::net::TcpListener::from_std(socket).unwrap();
            loop {
                let (mut client, _) = socket.accept().await.unwrap();
                let target = *seen.borrow();
                tokio::spawn(async move {
                    let mut server = tokio::net::TcpStream::connect(target).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { target, accepting }
    }

    fn point_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

#[tokio::test]
async fn a_signal_after_a_drain_command_is_the_first_signal() {
    let env = Setup {
        tables: "[server]\ndrain_delay = \"1s\"\ngrace = \"10s\"\n".to_owned(),
        ..Setup::default()
    }
    .start()
    .await;
    let started = tokio::time::Instant::now();
    env.commands.send(AdminCommand::Drain).await.unwrap();
    env.commands.send(AdminCommand::Terminate).await.unwrap();
    assert_eq!(
        env.get_recording("1637742300-1").await.header("connection"),
        Some("close")
    );
    let mut env = env;
    let report = (&mut env.gateway).await.unwrap();
    assert!(report.complete);
    assert!(started.elapsed() >= Duration::from_secs(1));
}

/// A reload leaves everything that did not change as it is.
#[tokio::test]
async fn a_reload_is_repeatable() {
    let env = TestEnv::start().await;
    let before: BTreeMap<_, _> = env.bound.listeners.clone();
    for generation in 2..5 {
        assert_eq!(reload(&env).await, Ok(generation));
    }
    assert_eq!(before, env.bound.listeners);
    assert_eq!(env.get_recording("1637742300-1").await.status, 200);
}
