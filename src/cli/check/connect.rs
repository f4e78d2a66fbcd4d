//! `check --connect`: what each node presents.

use std::io::{self, Write};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::config::Config;
use crate::upstream::{NodeReport, probe_nodes};

/// The reports of all nodes with their clusters.
#[derive(Debug)]
pub(super) struct Connections(Vec<(Arc<str>, NodeReport)>);

impl Connections {
    /// Connects to all nodes, each within its cluster's connect timeout.
    pub(super) fn open(config: &Config) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let reports = runtime.block_on(async {
            let mut reports = Vec::new();
            for (name, settings) in &config.clusters {
                let nodes = probe_nodes(settings).await;
                reports.extend(nodes.into_iter().map(|report| (name.clone(), report)));
            }
            reports
        });
        runtime.shutdown_background();
        Ok(Self(reports))
    }

    /// Whether the gateway would use every node.
    pub(super) fn are_trusted(&self) -> bool {
        self.0.iter().all(|(_, report)| report.is_trusted())
    }

    /// Writes one line for each address.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for (cluster, report) in &self.0 {
            write!(out, "node {cluster} {}", report.node)?;
            let address = report.address.map(|it| it.to_string());
            if let Some(address) = address.filter(|address| *address != report.node) {
                write!(out, " at {address}")?;
            }
            if let Some(cause) = &report.cause {
                writeln!(out, ": {cause}")?;
                continue;
            }
            write!(out, ": TLS {}", report.tls.unwrap_or("?"))?;
            if let Some(certificate) = &report.certificate {
                write!(
                    out,
                    ", {}, issued by {}",
                    certificate.subject, certificate.issuer
                )?;
                if let Some(days) = certificate.days_left(crate::cli::now()) {
                    write!(out, ", {days} days left")?;
                }
                if let Some(pin) = certificate.pin {
                    write!(out, ", pin {pin}")?;
                }
            }
            if let Some(latency) = report.latency {
                write!(out, ", {:.1} ms", latency.as_secs_f64() * 1_000.0)?;
            }
            match &report.note {
                Some(note) => writeln!(out, ", accepted: {note}")?,
                None => writeln!(out, ", trusted")?,
            }
        }
        Ok(())
    }

    /// Returns one object for each address.
    pub(super) fn to_json(&self) -> Value {
        let nodes = self.0.iter().map(|(cluster, report)| {
            let certificate = report.certificate.as_ref();
            json!({
                "cluster": cluster,
                "node": report.node,
                "address": report.address.map(|address| address.to_string()),
                "tls": report.tls,
                "subject": certificate.map(|it| &it.subject),
                "issuer": certificate.map(|it| &it.issuer),
                "days_left": certificate.and_then(|it| it.days_left(crate::cli::now())),
                "trusted": report.is_trusted(),
                "cause": report.cause.as_ref().or(report.note.as_ref()),
                "pin": certificate.and_then(|it| it.pin).map(|pin| pin.to_string()),
                "latency_ms": report.latency.map(|it| (it.as_secs_f64() * 10_000.0).round() / 10.0),
            })
        });
        nodes.collect()
    }
}
