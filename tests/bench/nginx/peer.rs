//! An nginx process: the binary from the PATH, with its own configuration and directory.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ccfs_gateway::stand_in::certificates::write_private_file;

use crate::cpu::Cpus;
use crate::process::Server;
use crate::site::{Gateway, Site};

/// The work of the nginx.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Job {
    /// Respond from its cache, whose key is the request's path and body. It verifies nothing: every
    /// client that sends the same body gets the response.
    Cache,
    /// Forward every request.
    Forward,
    /// Much of the gateway's job, in Lua: verify, judge, limit, and respond from its cache or forward.
    Whole,
}

/// Whether the nginx on the PATH can do [`Job::Whole`]: it has the Lua module of Debian's packages, and what the
/// job needs. Without them nginx says what is missing.
pub(crate) fn has_lua(cpus: &Cpus, site: &Site) -> bool {
    let nowhere = ["https://127.0.0.1:1".to_owned()];
    (0..TRIES).any(|_| try_start(cpus, site, &nowhere, Job::Whole).is_some())
}

/// The directory of the modules that nginx can load.
fn modules() -> Option<PathBuf> {
    let output = Command::new("nginx").arg("-V").output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut options = text.split_whitespace();
    options
        .find_map(|option| option.strip_prefix("--modules-path="))
        .map(PathBuf::from)
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
    if job == Job::Whole {
        std::fs::write(prefix.join("job.lua"), include_str!("job.lua")).unwrap();
        let secrets = crate::site::secrets(Gateway::default().keys);
        write_private_file(&prefix.join("secrets"), secrets.as_bytes()).unwrap();
    }
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
    let modules = modules().unwrap_or_default();
    let load = |name| format!("load_module {};\n", modules.join(name).display());
    let (modules, shared, location) = match job {
        Job::Cache => (String::new(), CACHE, CACHED),
        Job::Forward => (String::new(), "", ""),
        Job::Whole => (load(NDK_MODULE) + &load(LUA_MODULE), LUA, LUA_JOB),
    };
    include_str!("nginx.conf.in")
        .replace("@USER@", user)
        .replace("@NODES@", &nodes)
        .replace("@ADDRESS@", &address.to_string())
        .replace("@MODULES@", &modules)
        .replace("@SHARED@", shared)
        .replace("@LOCATION@", location)
        .replace("@PREFIX@", &prefix.display().to_string())
}

const CACHE: &str = "proxy_cache_path @PREFIX@/cache keys_zone=answers:10m inactive=1h;";

const CACHED: &str = r#"proxy_cache answers;
      proxy_cache_methods POST;
      proxy_cache_key "$request_uri|$request_body";
      proxy_cache_valid 200 1h;
      add_header X-Cache $upstream_cache_status;"#;

const LUA: &str = r#"lua_package_path "@PREFIX@/?.lua;;";
  lua_shared_dict answers 64m;
  lua_shared_dict used 8m;
  init_by_lua_block { job = require "job"; job.load("@PREFIX@/secrets") }"#;

const LUA_JOB: &str = "access_by_lua_block { job.admit() }
      body_filter_by_lua_block { job.keep() }";

const LUA_MODULE: &str = "ngx_http_lua_module.so";

/// What the Lua module needs.
const NDK_MODULE: &str = "ndk_http_module.so";

const TRIES: usize = 3;
