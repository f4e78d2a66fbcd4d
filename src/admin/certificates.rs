//! The certificates that listeners show, as far as an operator asks for them.

use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;
use x509_parser::prelude::X509Certificate;

use crate::config::{Config, ListenerTls, Validity, validity};

/// A certificate of a listener.
#[derive(Clone, Debug)]
pub(super) struct Shown<'a> {
    /// The listener; the admin interface's own is `admin`.
    pub(super) listener: &'a str,
    /// The names it is for, or its subject where it has none.
    pub(super) names: Vec<String>,
    /// From when to when it holds; `None` if it cannot be read.
    pub(super) validity: Option<Validity>,
}

impl Shown<'_> {
    /// What it is called in metrics: its listener and the first of its names.
    pub(super) fn label(&self) -> String {
        let name = self.names.first().map_or("", String::as_str);
        format!("{}/{name}", self.listener)
    }
}

/// All certificates in force, in the order of the configuration.
pub(super) fn all(config: &Config) -> impl Iterator<Item = Shown<'_>> {
    listeners(config).flat_map(|(listener, tls)| {
        tls.certificates.iter().map(move |key| Shown {
            listener,
            names: names(key),
            validity: validity(key),
        })
    })
}

/// When the lists of revoked client certificates end to hold, by listener.
pub(super) fn crls(config: &Config) -> impl Iterator<Item = (Vec<(&'static str, String)>, i64)> {
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

fn names(key: &CertifiedKey) -> Vec<String> {
    let leaf = key.cert.first().map(|leaf| parse_x509_certificate(leaf));
    let Some(Ok((_, leaf))) = leaf else {
        return Vec::new();
    };
    let names = alternative_names(&leaf);
    if names.is_empty() {
        vec![leaf.subject().to_string()]
    } else {
        names
    }
}

fn alternative_names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = leaf.subject_alternative_name() else {
        return Vec::new();
    };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes),
        _ => None,
    };
    names.value.general_names.iter().filter_map(text).collect()
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    let v6 = <[u8; 16]>::try_from(bytes).ok()?;
    Some(std::net::Ipv6Addr::from(v6).to_string())
}
