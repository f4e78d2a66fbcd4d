//! An nginx process: the binary from the PATH, with its own configuration and directory.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cpu::Cpus;
use crate::process::Server;
use crate::site::Site;

/// The work of the nginx.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Job {
    /// Respond from its cache, whose key is the request's path and body. It verifies nothing: every
    /// client that sends the same body gets the response.
    Cache,
    /// Forward every request.
    Forward,
}

/// The version of the nginx on the PATH, if any.
pub(crate) fn version() -> Option<String> {
    let output = Command::new("nginx").arg("-v").output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Some(text.trim().rsplit(' ').next()?.to_owned())
}

/// Starts nginx in front of `nodes`.
pub(crate) fn start(cpus: &Cpus, site: &Site, nodes: &[String], job: Job) -> Server {
    // Another process may take a port between finding and binding it.
    (0..TRIES)
        .find_map(|_| try_start(cpus, site, nodes, job))
        .expect("nginx does not start")
}

fn try_start(cpus: &Cpus, site: &Site, nodes: &[String], job: Job) -> Option<Server> {
    let prefix = tempfile::tempdir_in(site.path("")).unwrap().keep();
    let address = free_address();
    let file = prefix.join("nginx.conf");
    std::fs::write(&file, configuration(&prefix, address, nodes, job)).unwrap();
    let child = cpus
        .server("nginx")
        .arg("-p")
        .arg(&prefix)
        .arg("-c")
        .arg(&file)
        .arg("-e")
        .arg(prefix.join("error.log"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    Server::listening(child, address)
}

fn free_address() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

fn configuration(prefix: &Path, address: SocketAddr, nodes: &[String], job: Job) -> String {
    // The workers need read access to files of this user.
    let user = if rustix::process::geteuid().is_root() {
        "user root;"
    } else {
        ""
    };
    let nodes: String = nodes
        .iter()
        .map(|url| format!("server {}; ", url.trim_start_matches("https://")))
        .collect();
    let (cache, cached) = match job {
        Job::Cache => (CACHE, CACHED),
        Job::Forward => ("", ""),
    };
    include_str!("nginx.conf.in")
        .replace("@USER@", user)
        .replace("@NODES@", &nodes)
        .replace("@ADDRESS@", &address.to_string())
        .replace("@CACHE@", cache)
        .replace("@CACHED@", cached)
        .replace("@PREFIX@", &prefix.display().to_string())
}

const CACHE: &str = "proxy_cache_path @PREFIX@/cache keys_zone=answers:10m inactive=1h;";

const CACHED: &str = r#"proxy_cache answers;
      proxy_cache_methods POST;
      proxy_cache_key "$request_uri|$request_body";
      proxy_cache_valid 200 1h;
      add_header X-Cache $upstream_cache_status;"#;

const TRIES: usize = 3;
