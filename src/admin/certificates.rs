//! The certificates and revocation lists of the listeners, for `/status` and `/metrics`.

use crate::config::{Config, Crl, ListenerTls};
use crate::tls::{Validity, display_names, validity};

/// A certificate of a listener.
#[derive(Clone, Debug)]
pub(super) struct CertificateInfo<'a> {
    /// The listener; `admin` for the admin interface.
    pub(super) listener: &'a str,
    /// The subject alternative names, or the subject if there are none.
    pub(super) names: Vec<String>,
    /// The validity period; `None` if the certificate cannot be parsed.
    pub(super) validity: Option<Validity>,
}

impl CertificateInfo<'_> {
    /// Returns the metric label: the listener and the first name.
    pub(super) fn label(&self) -> String {
        let name = self.names.first().map_or("", String::as_str);
        format!("{}/{name}", self.listener)
    }
}

/// Returns all certificates, in the order of the configuration.
pub(super) fn all(config: &Config) -> impl Iterator<Item = CertificateInfo<'_>> {
    listeners(config).flat_map(|(listener, tls)| {
        tls.certificates.iter().map(move |key| CertificateInfo {
            listener,
            names: display_names(key),
            validity: validity(key),
        })
    })
}

/// Returns the client CRLs of all listeners, with the listener's name.
pub(super) fn crls(config: &Config) -> impl Iterator<Item = (&str, &Crl)> {
    listeners(config)
        .flat_map(|(listener, tls)| tls.client_crls.iter().map(move |crl| (listener, crl)))
}

/// Returns the `nextUpdate` of each listener's client CRLs, in seconds since 1970, with its labels.
pub(super) fn crl_expiries(
    config: &Config,
) -> impl Iterator<Item = (Vec<(&'static str, String)>, i64)> {
    crls(config).filter_map(|(listener, crl)| {
        let labels = vec![("listener", listener.to_owned())];
        Some((labels, crl.next_update?.as_second()))
    })
}

fn listeners(config: &Config) -> impl Iterator<Item = (&str, &ListenerTls)> {
    let listeners = config
        .listeners
        .iter()
        .map(|(name, listener)| (name.as_ref(), &listener.tls));
    listeners.chain(config.admin.tls.iter().map(|tls| ("admin", tls)))
}
