//! `purge`: removes cached responses of a running gateway.

use std::io::Write;
use std::process::ExitCode;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{AdminArgs, COMMAND_TIMEOUT};

/// Purges cached responses, also in replicas that share the store
///
/// With --ak and --call-id only responses that match both are purged.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
#[command(group = ArgGroup::new("purged").args(["ak", "call_id", "all"]).required(true).multiple(true))]
pub struct Purge {
    #[command(flatten)]
    pub(in crate::cli) target: AdminArgs,
    /// Purge the responses of this access key
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    ak: Option<String>,
    /// Purge the responses of this call
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    call_id: Option<String>,
    /// Purge all responses
    #[arg(long, conflicts_with_all = ["ak", "call_id"])]
    all: bool,
}

impl Purge {
    /// Requests the purge and prints its result.
    ///
    /// # Errors
    /// Returns an error if the gateway cannot be reached or rejects the request.
    pub async fn run(&self, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let path = self.path();
        let response = self
            .target
            .send(Method::POST, &path, COMMAND_TIMEOUT)
            .await?;
        let response = response.success_json()?;
        // Both are null without a shared store.
        let (store, told) = (&response["store"], &response["replicas_told"]);
        if self.target.json {
            let result = json!({
                "entries": response["entries"],
                "store": store,
                "replicas_told": told,
            });
            writeln!(out, "{result:#}")?;
            return Ok(ExitCode::SUCCESS);
        }
        let noun = if response["entries"] == 1 {
            "entry"
        } else {
            "entries"
        };
        writeln!(out, "{} {noun} purged", response["entries"])?;
        match store {
            Value::Bool(true) => writeln!(
                out,
                "the shared store has the purge; other replicas told: {told}"
            )?,
            Value::Bool(false) => writeln!(
                err,
                "the shared store is unavailable: other replicas purge once it is back"
            )?,
            _ => {}
        }
        Ok(ExitCode::SUCCESS)
    }

    fn path(&self) -> String {
        let parameters = [("ak", &self.ak), ("call_id", &self.call_id)];
        let pairs: Vec<_> = parameters
            .into_iter()
            .filter_map(|(name, value)| {
                let value = utf8_percent_encode(value.as_ref()?, NON_ALPHANUMERIC);
                Some(format!("{name}={value}"))
            })
            .collect();
        format!("/cache/purge?{}", pairs.join("&"))
    }
}

const EXAMPLES: &str = "\
Examples:
  ccfs-gateway purge --call-id 1637742300-27
  ccfs-gateway purge --ak 279a08bbd8d949a0 --admin 10.1.2.3:9901 --token-file admin.token
  ccfs-gateway purge --all --json";
