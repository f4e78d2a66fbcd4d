//! What is lost, and defects.

use std::net::Ipv4Addr;
use std::sync::Arc;

use ccfs_gateway::admin::AdminCommand;
use ccfs_gateway::drain;
use ccfs_gateway::listener::{
    self, ConnectionInfo, ConnectionLimitSettings, ConnectionLimits, HeadLimits, Http2Settings,
    ListenerContext, ProtocolError, RequestBody,
};
use ccfs_gateway::metrics::Shard;
use http_body_util::Full;
use hyper::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Replaces the link `name` in the gateway's folder, and has the logs opened again.
async fn link(env: &TestEnv, name: &str, target: &str) {
    let path = env.file(name);
    let _ = std::fs::remove_file(&path);
    std::os::unix::fs::symlink(target, path).unwrap();
    env.commands.send(AdminCommand::ReopenLog).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_under_the_audit_log_is_critical_until_there_is_room() {
    let site = Setup {
        tables:
            "[telemetry]\nlog_level = \"error\"\naudit_log = \"audit.log\"\naccess_log = \"off\""
                .to_owned(),
        ..Setup::default()
    };
    let env = start(site).await;
    env.get_recording("audit-1").await;
    std::fs::rename(env.file("audit.log"), env.file("kept.log")).unwrap();
    link(&env, "audit.log", "/dev/full").await;
    let finding = {
        eventually("a line is lost", async || {
            env.get_recording("audit-2").await;
            !all(&env, "audit-lines-lost").await.is_empty()
        })
        .await;
        appears(&env, "audit-lines-lost").await
    };
    assert_eq!(finding["severity"], "critical");
    assert!(
        finding["details"]["lines"]
            .as_u64()
            .is_some_and(|lines| lines > 0)
    );
    link(&env, "audit.log", "kept.log").await;
    disappears(&env, "audit-lines-lost").await;
    let log = read(&env.file("kept.log"));
    assert!(log.contains("\"kind\":\"lost\""), "{log}");
}

#[tokio::test]
async fn a_full_disk_under_the_access_log_is_a_finding_until_there_is_room() {
    let env = start(Setup::default()).await;
    link(&env, "access.log", "/dev/full").await;
    eventually("a line is lost", async || {
        env.get_recording("lost-1").await;
        !all(&env, "log-lines-lost").await.is_empty()
    })
    .await;
    appears(&env, "log-lines-lost").await;
    link(&env, "access.log", "kept.log").await;
    env.get_recording("lost-2").await;
    disappears(&env, "log-lines-lost").await;
}

/// A handler with a bug.
struct Broken;

impl listener::Handler for Broken {
    type Body = Full<Bytes>;

    fn handle(
        self: &Arc<Self>,
        _: &Arc<ConnectionInfo>,
        _: Request<RequestBody>,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send + 'static {
        std::future::poll_fn(|_| panic!("a bug, on purpose"))
    }

    fn reject(&self, _: &Arc<ConnectionInfo>, _: &ProtocolError) -> Response<Bytes> {
        Response::default()
    }
}

/// Serves a further listener, whose handler is broken, and counts where the gateway counts.
async fn serve_broken(metrics: Arc<Shard>) -> SocketAddr {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    let second = Duration::from_secs(1);
    let context = Arc::new(ListenerContext {
        name: "broken".into(),
        tls: None,
        handler: Arc::new(Broken),
        settings: Arc::new(listener::Settings {
            head: HeadLimits {
                size: 16_384,
                fields: 100,
            },
            handshake_timeout: second,
            header_timeout: second,
            idle_timeout: second,
            park_after: second,
            max_connection_age: second,
            min_send_rate: 0,
            send_rate_window: second,
            max_discarded: 0,
            linger_timeout: second,
            http2: Http2Settings {
                max_concurrent_streams: 1,
                max_resets: 1,
                stream_window: 65_535,
                connection_window: 65_535,
                ping_interval: second,
                goaway_timeout: second,
            },
        }),
        metrics: metrics.clone(),
    });
    let settings = ConnectionLimitSettings {
        connections: 8,
        per_address: 8,
        handshakes: 8,
    };
    let limits = ConnectionLimits::new(settings, metrics);
    tokio::spawn(async move {
        let (_trigger, watch) = drain::channel();
        let connections = watch.clone();
        let dispatch = |accepted| {
            tokio::spawn(listener::serve(
                context.clone(),
                accepted,
                connections.clone(),
                (),
            ));
        };
        listener::accept_loop(socket, limits, |_| false, dispatch, watch).await
    });
    address
}

#[tokio::test]
async fn a_defect_closes_one_connection_and_is_a_finding_for_a_minute() {
    let site = Setup::default().prepare().await;
    let (config, _) = Config::load(&site.file).unwrap_or_else(|wrong| panic!("{wrong}"));
    let app = App::bind(config, Some(site.file.clone())).unwrap();
    let shard = app.metrics().add_shard();
    let env = TestEnv::with_app(site, app.with_finding_timing(QUICK));
    // The counters have been looked at before.
    assert_eq!(env.get_recording("before").await.status, 200);
    let broken = serve_broken(shard).await;
    let mut stream = TcpStream::connect(broken).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "no answer: the connection is closed");
    let finding = appears(&env, "defect").await;
    assert!(
        finding["cause"].as_str().unwrap().contains("1 panic"),
        "{finding}"
    );
    assert_eq!(env.get_recording("goes-on").await.status, 200);
    disappears(&env, "defect").await;
}
