//! The certificates that listeners show, as far as an operator asks for them.

use crate::config::{Config, ListenerTls};
use crate::tls::{Validity, display_names, validity};

/// A certificate of a listener.
#[derive(Clone, Debug)]
pub(super) struct CertificateInfo<'a> {
    /// The listener; the admin interface's own is `admin`.
    pub(super) listener: &'a str,
    /// The names it is for, or its subject where it has none.
    pub(super) names: Vec<String>,
    /// From when to when it holds; `None` if it cannot be read.
    pub(super) validity: Option<Validity>,
}

impl CertificateInfo<'_> {
    /// What it is called in metrics: its listener and the first of its names.
    pub(super) fn label(&self) -> String {
        let name = self.names.first().map_or("", String::as_str);
        format!("{}/{name}", self.listener)
    }
}

/// All certificates in force, in the order of the configuration.
pub(super) fn all(config: &Config) -> impl Iterator<Item = CertificateInfo<'_>> {
    listeners(config).flat_map(|(listener, tls)| {
        tls.certificates.iter().map(move |key| CertificateInfo {
            listener,
            names: display_names(key),
            validity: validity(key),
        })
    })
}

/// When the lists of revoked client certificates end to hold, by listener.
pub(super) fn crl_expiries(
    config: &Config,
) -> impl Iterator<Item = (Vec<(&'static str, String)>, i64)> {
    listeners(config).flat_map(|(listener, tls)| {
        tls.client_crls.iter().filter_map(move |crl| {
            let labels = vec![("listener", listener.to_owned())];
            Some((labels, crl.next_update?.as_second()))
        })
    })
}

fn listeners(config: &Config) -> impl Iterator<Item = (&str, &ListenerTls)> {
    let listeners = config
        .listeners
        .iter()
        .map(|(name, listener)| (name.as_ref(), &listener.tls));
    listeners.chain(config.admin.tls.iter().map(|tls| ("admin", tls)))
}
