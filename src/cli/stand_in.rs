//! `stand-in`: runs one stand-in CC-FS node until SIGTERM or SIGINT.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use jiff::SignedDuration;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::signals::shutdown_signal;
use super::values;
use zeroize::Zeroizing;

use crate::encoding;
use crate::stand_in::certificates::{self, CertificateAuthority};
use crate::stand_in::{Packing, Settings, StandIn, UrlForm, UrlStyle};

mod fault_flags;
mod keys;

use fault_flags::FaultFlags;
use keys::KeyArgs;

/// Serves a stand-in CC-FS node over TLS, or several
///
/// It verifies signatures, responds with pre-signed URLs of the real form (which open nothing without --play), serves
/// files of any size, and injects faults. The first line on stdout is the address it listens on; with
/// several --bind the first lines are, in their order.
///
/// A callId, or the name of a file, may request behaviour by words joined by `_`: `code-0300009` this
/// result code; `form-obs`, `form-s3v2`, `form-s3v4`, `form-lss` the form of the URLs; `urls-2`,
/// `array-2`, `members-2` several URLs; `life-90` URLs valid for 90 seconds; `size-1048576` or `1GiB`
/// a file of this size. Call IDs that begin with `0000` are unknown (0300012).
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct StandInArgs {
    /// Address to listen on; port 0 selects a free port. Several: one node at each
    #[arg(long, default_value = "127.0.0.1:0")]
    bind: Vec<SocketAddr>,
    #[command(flatten)]
    keys: KeyArgs,
    /// PEM file with the certificate chain [default: a temporary certificate is generated]
    #[arg(long, value_name = "FILE", requires = "private_key")]
    certificate: Option<PathBuf>,
    /// PEM file with the certificate's private key
    #[arg(long, value_name = "FILE", requires = "certificate")]
    private_key: Option<PathBuf>,
    /// Write the CA certificate of the temporary certificate here, instead of to stdout
    #[arg(long, value_name = "FILE", conflicts_with = "certificate")]
    ca_out: Option<PathBuf>,
    /// Maximum difference between a timestamp and the clock; 0s: unlimited
    #[arg(long, default_value = "15m", value_parser = values::parse_duration)]
    clock_window: Duration,
    /// Form of the URLs: obs, s3v2, s3v4, or lss (which has no readable expiry)
    #[arg(long, default_value = "obs", value_parser = parse_form)]
    url_form: UrlForm,
    /// URLs per recording
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    urls: u8,
    /// How several URLs are packed: joined, array or members
    #[arg(long, default_value = "joined", value_parser = parse_packing)]
    packing: Packing,
    /// Lifetime of the URLs
    #[arg(long, default_value = "8h", value_parser = values::parse_duration)]
    url_life: Duration,
    /// OBS links lead to the node itself, which has a short recording there until they expire
    #[arg(long)]
    play: bool,
    #[command(flatten)]
    faults: FaultFlags,
}

const EXAMPLES: &str = "\
Examples:
  ccfs-gateway stand-in --bind 127.0.0.1:8443 --ak 279a08bbd8d949a0 \\
      --sk-file secrets/279a08bbd8d949a0 --ca-out tls/ccfs-ca.pem
  ccfs-gateway stand-in --keys keys.toml --delay 200ms --fail-status 503 --fail-every 3
  ccfs-gateway stand-in --keys keys.toml --flow-control-every 5 --fault close-in-body=10
  ccfs-gateway stand-in --keys keys.toml --delay 100ms --max-at-once 8
  ccfs-gateway stand-in --keys keys.toml --max-per-second 50 --window fixed --limit-per-ak";

/// Runs the command until SIGINT or SIGTERM.
pub async fn run(args: StandInArgs) -> anyhow::Result<ExitCode> {
    let shutdown = shutdown_signal()?;
    let nodes = start(&args, &mut io::stdout(), &mut io::stderr()).await?;
    shutdown.await;
    for mut node in nodes {
        node.stop().await;
    }
    Ok(ExitCode::SUCCESS)
}

async fn start(
    args: &StandInArgs,
    out: &mut impl Write,
    notes: &mut impl Write,
) -> anyhow::Result<Vec<StandIn>> {
    let credentials = args.keys.read()?;
    let (tls, authority) = args.tls()?;
    let settings = Settings {
        clock_window: (!args.clock_window.is_zero())
            .then(|| SignedDuration::try_from(args.clock_window))
            .transpose()?,
        urls: UrlStyle {
            form: args.url_form,
            count: args.urls.into(),
            packing: args.packing,
            lifetime: args.url_life,
            opens: args.play,
        },
        max_recorded: 0,
        ..Settings::new(tls, credentials)
    };
    let mut nodes = Vec::new();
    for &bind in &args.bind {
        let settings = settings.clone();
        let started = StandIn::start(Settings { bind, ..settings }).await;
        let node = started.with_context(|| format!("cannot listen on {bind}"))?;
        args.faults.inject(node.faults());
        nodes.push(node);
    }
    if let (Some(authority), Some(path)) = (&authority, &args.ca_out) {
        let problem = || format!("cannot write {}", path.display());
        authority.write_certificate(path).with_context(problem)?;
    }
    // Printed last: once an address can be read, all nodes serve and all files exist.
    for node in &nodes {
        writeln!(out, "{}", node.address())?;
    }
    match (authority, &args.ca_out) {
        (Some(_), Some(path)) => {
            writeln!(notes, "the CA certificate is in {}", path.display())?;
        }
        (Some(authority), None) => write!(out, "{}", authority.certificate_pem())?,
        (None, _) => {}
    }
    out.flush()?;
    Ok(nodes)
}

impl StandInArgs {
    /// Returns the TLS configuration, and the CA if the certificate was generated.
    fn tls(&self) -> anyhow::Result<(Arc<ServerConfig>, Option<CertificateAuthority>)> {
        let (Some(certificate), Some(private_key)) = (&self.certificate, &self.private_key) else {
            let authority = CertificateAuthority::new()?;
            let addresses: Vec<_> = self.bind.iter().map(|it| it.ip().to_string()).collect();
            let names: Vec<&str> = certificates::SERVER_NAMES
                .into_iter()
                .chain(addresses.iter().map(String::as_str))
                .collect();
            let issued = authority.issue(&names)?;
            return Ok((issued.server_config()?, Some(authority)));
        };
        let problem = |path: &PathBuf| format!("cannot read {}", path.display());
        let pem = encoding::read_text_file(certificate).with_context(|| problem(certificate))?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .with_context(|| problem(certificate))?;
        if chain.is_empty() {
            bail!("no certificate in {}", certificate.display());
        }
        let pem = encoding::read_text_file(private_key).with_context(|| problem(private_key))?;
        let pem = Zeroizing::new(pem);
        let key = PrivateKeyDer::from_pem_slice(&pem).with_context(|| problem(private_key))?;
        let config = certificates::server_config(chain, key)
            .with_context(|| format!("{} and {}", certificate.display(), private_key.display()))?;
        Ok((config, None))
    }
}

fn parse_form(name: &str) -> Result<UrlForm, &'static str> {
    UrlForm::from_name(name).ok_or("one of obs, s3v2, s3v4, lss")
}

fn parse_packing(name: &str) -> Result<Packing, &'static str> {
    Packing::from_name(name).ok_or("one of joined, array, members")
}

#[cfg(test)]
mod tests;
