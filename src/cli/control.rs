//! `status`, `nodes`, `top`, `tail`, `doctor`, `reload`, `drain`, `purge`, `healthcheck`: clients of the admin interface of a
//! running gateway. Exit code 1 if it cannot be reached or rejects the request.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use clap::error::ErrorKind;
use http::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

mod connection;
mod doctor;
mod live;
mod purge;
mod show;
mod table;
mod tail;
mod top;

use connection::{AdminClient, AdminResponse, StreamingAdminResponse};
pub use doctor::Doctor;
pub(in crate::cli) use live::explain_live;
pub use purge::Purge;
use table::replace_control_chars;
pub use tail::Tail;
pub use top::Top;

use super::failure::{self, Failure};

/// The admin interface to connect to, and the output format.
#[derive(Args, Clone, Debug)]
pub struct AdminArgs {
    /// URL of the gateway's admin interface; without a scheme http://
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9901")]
    admin: String,
    /// File that holds the admin token [default: the variable `CCFS_GATEWAY_ADMIN_TOKEN`]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// PEM file of the CA certificates to trust for an https:// admin interface [default: the system's]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Accept any certificate of an https:// admin interface
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// Print JSON, errors included
    #[arg(long)]
    pub(super) json: bool,
}

/// Shows the status of a running gateway
#[derive(Args, Debug)]
#[command(after_help = STATUS_EXAMPLES)]
pub struct Status {
    #[command(flatten)]
    pub(super) target: AdminArgs,
}

/// Shows the nodes of a running gateway; drains or undrains one
///
/// A drained node receives no new requests; its requests in flight may finish.
#[derive(Args, Debug)]
#[command(after_help = NODES_EXAMPLES)]
pub struct Nodes {
    #[command(flatten)]
    pub(super) target: AdminArgs,
    /// Send no new requests to this node
    #[arg(long, value_name = "CLUSTER/HOST:PORT", conflicts_with = "undrain")]
    drain: Option<String>,
    /// Send requests to this drained node again
    #[arg(long, value_name = "CLUSTER/HOST:PORT")]
    undrain: Option<String>,
}

/// Reloads the configuration of a running gateway
///
/// The new configuration is applied as a whole or not at all: if it has errors, they are shown, the
/// old configuration stays active and the exit code is 1.
#[derive(Args, Debug)]
#[command(after_help = RELOAD_EXAMPLES)]
pub struct Reload {
    #[command(flatten)]
    pub(super) target: AdminArgs,
}

/// Drains a running gateway: it finishes its requests and exits
///
/// The gateway reports "not ready" at once, closes its listeners after `drain_delay`, and lets
/// requests in flight finish within `grace`. This command does not wait for the exit.
#[derive(Args, Debug)]
#[command(after_help = DRAIN_EXAMPLES)]
pub struct Drain {
    #[command(flatten)]
    pub(super) target: AdminArgs,
}

/// Checks the readiness of a running gateway (exit code 0 or 1)
#[derive(Args, Debug)]
#[command(after_help = HEALTHCHECK_EXAMPLES)]
pub struct Healthcheck {
    #[command(flatten)]
    pub(super) target: AdminArgs,
}

impl AdminArgs {
    /// Returns the arguments for an admin interface that needs no token.
    #[cfg(feature = "stand-in")]
    pub(super) fn at(admin: std::net::SocketAddr) -> Self {
        Self {
            admin: format!("http://{admin}"),
            token_file: None,
            ca: None,
            insecure: false,
            json: false,
        }
    }

    /// Sends a command and returns the JSON of a successful response.
    pub(super) async fn order(&self, method: Method, path: &str) -> anyhow::Result<Value> {
        let response = self.send(method, path, COMMAND_TIMEOUT).await?;
        response.success_json()
    }
}

impl Status {
    /// Prints the status.
    ///
    /// # Errors
    /// Returns an error if the gateway cannot be reached or rejects the request.
    pub async fn run(&self, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let status = self.target.status().await?;
        if self.target.json {
            writeln!(out, "{status:#}")?;
        } else {
            write!(out, "{}", show::status(&status))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Nodes {
    /// Sends the drain or undrain command, if one was given, then prints the nodes.
    ///
    /// # Errors
    /// Returns an error if the gateway cannot be reached or rejects the request.
    pub async fn run(&self, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let commands = [(&self.drain, "drain"), (&self.undrain, "undrain")];
        for (node, command) in commands {
            if let Some(node) = node {
                self.send_command(node, command).await?;
            }
        }
        let status = self.target.status().await?;
        if self.target.json {
            writeln!(out, "{:#}", status["clusters"])?;
        } else {
            write!(out, "{}", show::nodes(&status))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn send_command(&self, node: &str, command: &str) -> anyhow::Result<()> {
        let is_address = |address: &str| {
            let port = address.rsplit_once(':');
            port.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        let parts = node.split_once('/');
        let parts = parts.filter(|(cluster, address)| !cluster.is_empty() && is_address(address));
        let Some((cluster, address)) = parts else {
            let text = format!("{node:?} is not a node: write it as CLUSTER/HOST:PORT\n");
            return Err(clap::Error::raw(ErrorKind::ValueValidation, text).into());
        };
        let path = node_path(cluster, address, command);
        self.target
            .send(Method::POST, &path, COMMAND_TIMEOUT)
            .await?
            .success_json()?;
        Ok(())
    }
}

/// Returns the target of an order about a node.
fn node_path(cluster: &str, address: &str, command: &str) -> String {
    let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    format!("/nodes/{}/{}/{command}", encode(cluster), encode(address))
}

impl Reload {
    /// Requests a reload and waits for its result. Warnings go to `err`, as those of `check`.
    ///
    /// # Errors
    /// Returns an error if the gateway cannot be reached or rejects the configuration.
    pub async fn run(&self, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let response = self
            .target
            .send(Method::POST, "/reload", RELOAD_TIMEOUT)
            .await?;
        if response.status == StatusCode::CONFLICT {
            let errors = response.detail();
            bail!("the new configuration is rejected, the old one stays in force:\n{errors}");
        }
        let response = response.success_json()?;
        if self.target.json {
            writeln!(out, "{response:#}")?;
        } else {
            for warning in response["warnings"].as_array().into_iter().flatten() {
                for line in warning.as_str().unwrap_or_default().lines() {
                    writeln!(err, "{}", replace_control_chars(line))?;
                }
                writeln!(err)?;
            }
            writeln!(
                out,
                "configuration reloaded: generation {}",
                response["generation"]
            )?;
            let keys = response["restart_needed"].as_array().into_iter().flatten();
            let keys: Vec<_> = keys.filter_map(Value::as_str).collect();
            if !keys.is_empty() {
                let keys = replace_control_chars(&keys.join(", "));
                writeln!(out, "in force only after a restart: {keys}")?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Drain {
    /// Requests the drain.
    ///
    /// # Errors
    /// Returns an error if the gateway cannot be reached or rejects the request.
    pub async fn run(&self, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let response = self
            .target
            .send(Method::POST, "/drain", COMMAND_TIMEOUT)
            .await?;
        let response = response.success_json()?;
        if self.target.json {
            writeln!(out, "{response:#}")?;
        } else {
            writeln!(out, "draining")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Healthcheck {
    /// Sends one readiness request with a short timeout.
    ///
    /// # Errors
    /// Returns an error only if the output cannot be written; an unreachable gateway is "not ready".
    pub async fn run(&self, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let response = self
            .target
            .send(Method::GET, "/readyz", HEALTHCHECK_TIMEOUT)
            .await;
        let failure = match response {
            Ok(response) if response.status == StatusCode::OK => None,
            Ok(response) => Some(json!({ "message": response.message(), "help": null })),
            Err(error) => Some(failure::to_json(&error)["error"].take()),
        };
        let ready = failure.is_none();
        let failure = failure.unwrap_or_default();
        let detail = failure["message"].as_str().unwrap_or("ready");
        if self.target.json {
            let mut report = json!({ "ready": ready, "detail": detail });
            if !ready {
                report["error"] = failure;
            }
            writeln!(out, "{report}")?;
        } else {
            writeln!(out, "{detail}")?;
            if let Some(help) = failure["help"].as_str() {
                writeln!(out, "{help}")?;
            }
        }
        Ok(if ready {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl AdminArgs {
    /// Returns the status of the gateway.
    pub(super) async fn status(&self) -> anyhow::Result<Value> {
        self.send(Method::GET, "/status", COMMAND_TIMEOUT)
            .await?
            .success_json()
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        timeout: Duration,
    ) -> anyhow::Result<AdminResponse> {
        let admin = AdminClient::new(self)?;
        self.within(timeout, admin.send(method, path)).await
    }

    /// Sends a GET and returns the response once its head has arrived.
    async fn open(&self, path: &str) -> anyhow::Result<StreamingAdminResponse> {
        let admin = AdminClient::new(self)?;
        self.within(COMMAND_TIMEOUT, admin.open(Method::GET, path))
            .await
    }

    /// Waits for a response; says which address was asked if there is none.
    async fn within<T>(
        &self,
        timeout: Duration,
        response: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let failure = |error: &dyn std::fmt::Display| {
            let text = format!(
                "cannot reach the admin interface at {}: {error}",
                self.admin
            );
            Failure::new(text, REACH_HELP)
        };
        match tokio::time::timeout(timeout, response).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => bail!(failure(&format_args!("{error:#}"))),
            Err(_) => bail!(failure(&format_args!("no response within {timeout:?}"))),
        }
    }
}

const HEALTHCHECK_TIMEOUT: Duration = Duration::from_secs(2);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// A reload may read and validate ten thousand access keys and their files.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(60);

const REACH_HELP: &str =
    "is the gateway running, and is this its address? --admin HOST:PORT gives another one";

const STATUS_EXAMPLES: &str = "\
Examples:
  ccfs-gateway status
  ccfs-gateway status --admin https://gateway.internal:9901 --token-file admin.token --ca ca.pem
  ccfs-gateway status --admin 10.1.2.3:9901 --json | jq .rates";
const NODES_EXAMPLES: &str = "\
Examples:
  ccfs-gateway nodes
  ccfs-gateway nodes --drain ccfs/10.154.198.164:8443
  ccfs-gateway nodes --undrain ccfs/10.154.198.164:8443";
const RELOAD_EXAMPLES: &str = "\
Examples:
  ccfs-gateway check --config gateway.toml && ccfs-gateway reload";
const DRAIN_EXAMPLES: &str = "\
Examples:
  ccfs-gateway drain";
const HEALTHCHECK_EXAMPLES: &str = "\
Examples:
  HEALTHCHECK CMD [\"ccfs-gateway\", \"healthcheck\"]";
