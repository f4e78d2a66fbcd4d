//! The program under a service manager. The test plays the manager: it holds the sockets, receives
//! the notifications and sends the signals.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ccfs_gateway::client::{Client, Trust};

use crate::support::{SHANGHAI, TestEnv, read};
use crate::traffic::{ConnectionMode, ContinuousLoad};

/// A unit with two sockets, `ccfs` and `admin`, and the notifications of its process.
struct Unit {
    env: TestEnv,
    ccfs: TcpListener,
    admin: TcpListener,
    notify: UnixDatagram,
}

impl Unit {
    async fn new() -> Self {
        let env = TestEnv::start().await;
        let notify = UnixDatagram::bind(env.file("notify")).unwrap();
        notify
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let unit = Self {
            ccfs: TcpListener::bind("127.0.0.1:0").unwrap(),
            admin: TcpListener::bind("127.0.0.1:0").unwrap(),
            notify,
            env,
        };
        unit.write(&unit.text());
        unit
    }

    /// The environment's configuration with the unit's addresses.
    fn text(&self) -> String {
        let text = read(&self.env.file("gateway.toml"));
        text.replacen("127.0.0.1:0", &self.address().to_string(), 1)
            .replacen(
                "127.0.0.1:0",
                &self.admin.local_addr().unwrap().to_string(),
                1,
            )
    }

    fn write(&self, text: &str) {
        std::fs::write(self.env.file("unit.toml"), text).unwrap();
    }

    fn address(&self) -> SocketAddr {
        self.ccfs.local_addr().unwrap()
    }

    /// Starts the program with the sockets as descriptors 3 and 4. A shell puts them there, as the
    /// service manager does between fork and exec.
    fn start(&self, names: &str, environment: &[(&str, &str)]) -> Process {
        let handed = |socket: &TcpListener| Stdio::from(OwnedFd::from(socket.try_clone().unwrap()));
        let child = Command::new("sh")
            .args([
                "-c",
                "exec 3<&0 4<&1 0</dev/null 1>/dev/null; LISTEN_PID=$$ exec \"$@\"",
                "sh",
                env!("CARGO_BIN_EXE_ccfs-gateway"),
                "run",
                "--config",
            ])
            .arg(self.env.file("unit.toml"))
            .stdin(handed(&self.ccfs))
            .stdout(handed(&self.admin))
            .stderr(std::fs::File::create(self.env.file("stderr")).unwrap())
            .env("LISTEN_FDS", "2")
            .env("LISTEN_FDNAMES", names)
            .env("NOTIFY_SOCKET", self.env.file("notify"))
            .envs(environment.iter().copied())
            .spawn()
            .unwrap();
        Process(child)
    }

    /// Waits for a notification that contains `line`; returns the whole notification.
    fn notification(&self, line: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let length = self.notify.recv(&mut buffer).unwrap_or_else(|error| {
                let text = read(&self.env.file("stderr"));
                panic!("{line:?} was never received ({error}); the program: {text}")
            });
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.lines().any(|it| it.starts_with(line)) {
                return text;
            }
        }
    }

    fn client(&self) -> impl Fn() -> Client + use<> {
        let ca = self.env.file("ca.pem");
        move || Client::new(&Trust::from_pem_file(&ca).unwrap()).unwrap()
    }
}

/// A child process, killed when dropped.
struct Process(Child);

impl Process {
    fn signal(&self, name: &str) {
        let sent = Command::new("sh")
            .args(["-c", "kill -s \"$1\" \"$2\"", "sh", name])
            .arg(self.0.id().to_string())
            .status();
        assert!(sent.unwrap().success());
    }

    async fn wait_for_exit(mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a blocking wait without stopping the clients on this runtime.
fn off_thread<T>(wait: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(wait)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_refuses_no_connection() {
    let unit = Unit::new().await;
    let mut process = unit.start("ccfs:admin", &[]);
    off_thread(|| unit.notification("READY=1"));
    let url = format!("https://{}", unit.address());
    let manners = [
        ConnectionMode::KeepAlive,
        ConnectionMode::NewConnection,
        ConnectionMode::NewConnection,
        ConnectionMode::Http2,
    ];
    let load = ContinuousLoad::start(unit.client(), &url, SHANGHAI, &manners);
    for _ in 0..3 {
        load.progress(30).await;
        process.signal("TERM");
        assert_eq!(process.wait_for_exit().await.code(), Some(0));
        process = unit.start("ccfs:admin", &[]);
        off_thread(|| unit.notification("READY=1"));
    }
    load.progress(30).await;
    load.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manager_receives_every_notification() {
    let unit = Unit::new().await;
    let process = unit.start("ccfs:admin", &[("WATCHDOG_USEC", "200000")]);
    off_thread(|| {
        assert!(
            unit.notification("READY=1")
                .contains("\nSTATUS=serving, generation 1")
        );
        for _ in 0..3 {
            unit.notification("WATCHDOG=1");
        }
        process.signal("HUP");
        let reloading = unit.notification("RELOADING=1");
        let text = reloading
            .lines()
            .find_map(|it| it.strip_prefix("MONOTONIC_USEC="));
        assert!(text.unwrap().parse::<u64>().unwrap() > 0);
        assert!(
            unit.notification("READY=1")
                .contains("\nSTATUS=serving, generation 2")
        );

        unit.write("this is wrong");
        process.signal("HUP");
        unit.notification("RELOADING=1");
        let refused = unit.notification("READY=1");
        assert!(
            refused.contains("generation 2; the last reload was rejected"),
            "{refused}"
        );

        process.signal("TERM");
        unit.notification("STOPPING=1");
        unit.notification("EXTEND_TIMEOUT_USEC=");
    });
    assert_eq!(process.wait_for_exit().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_with_another_address_is_rejected_naming_both() {
    let unit = Unit::new().await;
    // The names are in the wrong order.
    let process = unit.start("admin:ccfs", &[]);
    assert_eq!(process.wait_for_exit().await.code(), Some(1));
    let text = read(&unit.env.file("stderr"));
    assert!(text.contains(&unit.address().to_string()), "{text}");
    assert!(
        text.contains("the service manager passed a socket"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_under_a_name_that_no_listener_has_is_not_used() {
    let unit = Unit::new().await;
    let text = unit.text().replace("log_level = \"error\"", "");
    unit.write(&text.replace("[listeners.ccfs]", "[listeners.other]"));
    // The manager holds the address under a name that no listener has.
    let process = unit.start("ccfs:admin", &[]);
    assert_eq!(process.wait_for_exit().await.code(), Some(1));
    let text = read(&unit.env.file("stderr"));
    assert!(text.contains("listener other cannot listen on"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn core_dumps_are_off_and_the_descriptor_limit_is_raised() {
    let unit = Unit::new().await;
    let process = unit.start("ccfs:admin", &[]);
    off_thread(|| unit.notification("READY=1"));
    let limits = read(Path::new(&format!("/proc/{}/limits", process.0.id())));
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        let mut words = line[name.len()..].split_whitespace();
        (words.next().unwrap(), words.next().unwrap())
    };
    assert_eq!(limit("Max core file size"), ("0", "0"));
    let (soft, hard) = limit("Max open files");
    assert_eq!(soft, hard);
}

/// Needs `systemd-socket-activate` of Debian's package systemd.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Debian's package systemd"]
async fn systemd_socket_activate_starts_the_program() {
    let unit = Unit::new().await;
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    unit.write(
        &unit
            .text()
            .replace(&unit.address().to_string(), &address.to_string())
            .replace(&unit.admin.local_addr().unwrap().to_string(), "127.0.0.1:0"),
    );
    let child = Command::new("systemd-socket-activate")
        .args(["--listen", &address.to_string(), "--fdname=ccfs", "--"])
        .args([env!("CARGO_BIN_EXE_ccfs-gateway"), "run", "--config"])
        .arg(unit.env.file("unit.toml"))
        .stderr(std::fs::File::create(unit.env.file("stderr")).unwrap())
        .spawn()
        .unwrap();
    let process = Process(child);
    crate::support::eventually("it listens", async || {
        tokio::net::TcpStream::connect(address).await.is_ok()
    })
    .await;
    let url = format!("https://{address}");
    let load = ContinuousLoad::start(
        unit.client(),
        &url,
        SHANGHAI,
        &[ConnectionMode::NewConnection],
    );
    load.progress(5).await;
    load.end().await;
    process.signal("TERM");
    assert_eq!(process.wait_for_exit().await.code(), Some(0));
}
