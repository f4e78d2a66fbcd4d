//! `keys`: orders to a running gateway, and the import of a spreadsheet.

mod import;

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::control::AdminArgs;
use import::Import;

/// Disables, enables and imports access keys
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Keys {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Disable(Disable),
    Enable(Enable),
    Import(Import),
}

/// Disables an access key of a running gateway at once
///
/// Its requests get 401, and its cached responses are purged. The order holds over reloads, until
/// `keys enable`, or until the access key's own table or its secrets change. The admin interface needs
/// a token, also on loopback.
#[derive(Args, Debug)]
#[command(after_help = DISABLE_EXAMPLES)]
struct Disable {
    #[command(flatten)]
    order: Order,
}

/// Enables an access key that was disabled by an order
#[derive(Args, Debug)]
#[command(after_help = ENABLE_EXAMPLES)]
struct Enable {
    #[command(flatten)]
    order: Order,
}

#[derive(Args, Debug)]
struct Order {
    #[command(flatten)]
    target: AdminArgs,
    /// The access key
    #[arg(value_name = "AK")]
    access_key: String,
}

impl Keys {
    /// Whether the command prints JSON.
    pub(super) fn is_json(&self) -> bool {
        match &self.command {
            Command::Disable(command) => command.order.target.json,
            Command::Enable(command) => command.order.target.json,
            Command::Import(import) => import.json,
        }
    }

    /// Runs the command.
    ///
    /// # Errors
    /// Returns an error if the gateway cannot be reached or rejects the order, or if a file cannot be
    /// read or written.
    pub async fn run(&self, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<ExitCode> {
        match &self.command {
            Command::Disable(command) => command.order.send("disable", out).await,
            Command::Enable(command) => command.order.send("enable", out).await,
            Command::Import(import) => import.run(out, err),
        }
    }
}

impl Order {
    async fn send(&self, order: &str, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let access_key = utf8_percent_encode(&self.access_key, NON_ALPHANUMERIC);
        let path = format!("/access_keys/{access_key}/{order}");
        let response = self.target.order(Method::POST, &path).await?;
        if self.target.json {
            writeln!(out, "{response:#}")?;
            return Ok(ExitCode::SUCCESS);
        }
        let access_key = &self.access_key;
        writeln!(
            out,
            "{access_key} is {order}d, kept: {}",
            text(&response["kept"])
        )?;
        if let Some(end) = response["urls_live_until"].as_str() {
            writeln!(out, "recording URLs that were given out live until {end}")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or_default()
}

const EXAMPLES: &str = "\
Examples:
  ccfs-gateway keys disable 279a08bbd8d949a0 --token-file admin.token
  ccfs-gateway keys import accounts.csv -o secrets/access_keys.toml";

const DISABLE_EXAMPLES: &str = "\
Examples:
  ccfs-gateway keys disable 279a08bbd8d949a0 --token-file admin.token
  ccfs-gateway keys disable 279a08bbd8d949a0 --admin 10.1.2.3:9901 --json";

const ENABLE_EXAMPLES: &str = "\
Examples:
  ccfs-gateway keys enable 279a08bbd8d949a0 --token-file admin.token";
