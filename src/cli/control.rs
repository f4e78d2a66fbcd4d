//! `status`, `nodes`, `reload`, `drain`, `healthcheck`: they speak to the admin interface of a running
//! gateway. Exit code 1 when it cannot be reached or says no.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use http::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

mod connection;
mod show;
mod table;

use connection::{AdminClient, AdminResponse};
use table::replace_control_chars;

/// Which gateway, and how it is told.
#[derive(Args, Clone, Debug)]
pub struct AdminArgs {
    /// The gateway's admin interface
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9901")]
    admin: String,
    /// File that holds the admin token; without it the variable `CCFS_GATEWAY_ADMIN_TOKEN` is taken
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// PEM file of the authorities that an https:// admin interface is trusted by [default: the system's]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Trust any certificate of an https:// admin interface
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Shows how a running gateway is
#[derive(Args, Debug)]
#[command(after_help = STATUS_EXAMPLES)]
pub struct Status {
    #[command(flatten)]
    target: AdminArgs,
}

/// Shows the nodes of a running gateway; drains one, or takes that back
///
/// A drained node gets nothing new; what it is working on is finished.
#[derive(Args, Debug)]
#[command(after_help = NODES_EXAMPLES)]
pub struct Nodes {
    #[command(flatten)]
    target: AdminArgs,
    /// Give nothing new to this node
    #[arg(long, value_name = "CLUSTER/HOST:PORT", conflicts_with = "undrain")]
    drain: Option<String>,
    /// Take the drain of this node back
    #[arg(long, value_name = "CLUSTER/HOST:PORT")]
    undrain: Option<String>,
}

/// Tells a running gateway to read its configuration again
///
/// All or nothing: with a configuration that has a mistake the old one stays, the mistake is shown and
/// the exit code is 1.
#[derive(Args, Debug)]
#[command(after_help = RELOAD_EXAMPLES)]
pub struct Reload {
    #[command(flatten)]
    target: AdminArgs,
}

/// Tells a running gateway to finish what it is doing and end
///
/// It says "not ready" at once, closes its listeners after drain_delay, and gives requests in
/// flight grace to finish. This does not wait for the end.
#[derive(Args, Debug)]
#[command(after_help = DRAIN_EXAMPLES)]
pub struct Drain {
    #[command(flatten)]
    target: AdminArgs,
}

/// Exit code 0 if a running gateway is ready, else 1: for containers without a shell
#[derive(Args, Debug)]
#[command(after_help = HEALTHCHECK_EXAMPLES)]
pub struct Healthcheck {
    #[command(flatten)]
    target: AdminArgs,
}

impl Status {
    /// Shows it.
    ///
    /// # Errors
    /// The gateway cannot be reached or says no.
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
    /// Shows them, after the order if one is given.
    ///
    /// # Errors
    /// The gateway cannot be reached or says no.
    pub async fn run(&self, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let orders = [(&self.drain, "drain"), (&self.undrain, "undrain")];
        for (node, order) in orders {
            if let Some(node) = node {
                self.send_command(node, order).await?;
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

    async fn send_command(&self, node: &str, order: &str) -> anyhow::Result<()> {
        let Some((cluster, address)) = node.split_once('/') else {
            bail!("{node:?} is no node: write it as CLUSTER/HOST:PORT");
        };
        let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
        let path = format!("/nodes/{}/{}/{order}", encode(cluster), encode(address));
        self.target
            .send(Method::POST, &path, COMMAND_TIMEOUT)
            .await?
            .success_json()?;
        Ok(())
    }
}

impl Reload {
    /// Orders it and waits for what becomes of it. Warnings go to `err`, as those of `check`.
    ///
    /// # Errors
    /// The gateway cannot be reached, or refuses the configuration.
    pub async fn run(&self, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let reply = self
            .target
            .send(Method::POST, "/reload", RELOAD_TIMEOUT)
            .await?;
        let answer = reply.success_json()?;
        if self.target.json {
            writeln!(out, "{answer:#}")?;
        } else {
            for warning in answer["warnings"].as_array().into_iter().flatten() {
                for line in warning.as_str().unwrap_or_default().lines() {
                    writeln!(err, "{}", replace_control_chars(line))?;
                }
                writeln!(err)?;
            }
            writeln!(out, "generation {} is in force", answer["generation"])?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Drain {
    /// Orders it.
    ///
    /// # Errors
    /// The gateway cannot be reached or says no.
    pub async fn run(&self, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let reply = self
            .target
            .send(Method::POST, "/drain", COMMAND_TIMEOUT)
            .await?;
        let answer = reply.success_json()?;
        if self.target.json {
            writeln!(out, "{answer:#}")?;
        } else {
            writeln!(out, "draining")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Healthcheck {
    /// Asks once, briefly.
    ///
    /// # Errors
    /// The output cannot be written; that nobody answers is none.
    pub async fn run(&self, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let reply = self
            .target
            .send(Method::GET, "/readyz", HEALTHCHECK_TIMEOUT)
            .await;
        let (ready, why) = match reply {
            Ok(reply) if reply.status == StatusCode::OK => (true, "ready".to_owned()),
            Ok(reply) => (false, reply.message()),
            Err(error) => (false, format!("{error:#}")),
        };
        if self.target.json {
            writeln!(out, "{}", json!({ "ready": ready, "detail": why }))?;
        } else {
            writeln!(out, "{why}")?;
        }
        Ok(if ready {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl AdminArgs {
    async fn status(&self) -> anyhow::Result<Value> {
        self.send(Method::GET, "/status", COMMAND_TIMEOUT)
            .await?
            .success_json()
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        within: Duration,
    ) -> anyhow::Result<AdminResponse> {
        let admin = AdminClient::new(self)?;
        tokio::time::timeout(within, admin.send(method, path))
            .await
            .with_context(|| format!("{} did not answer in {within:?}", self.admin))?
            .with_context(|| format!("cannot speak to the admin interface at {}", self.admin))
    }
}

const HEALTHCHECK_TIMEOUT: Duration = Duration::from_secs(2);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// Ten thousand keys and their files are read and checked.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(60);

const STATUS_EXAMPLES: &str = "\
Examples:
  ccfs-gateway status
  ccfs-gateway status --admin https://gateway.internal:9901 --token-file admin.token --ca ca.pem
  ccfs-gateway status --json | jq .rates";
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
