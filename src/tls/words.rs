//! TLS errors in words, for logs, pages and commands. Nothing of it reaches a client.

use rustls::{CertificateError, Error};

use super::trust_error::TrustError;

/// Returns why a TLS connection to a server failed. `peer` is what the server is called, such as "the
/// node".
pub(crate) fn explain(error: &Error, peer: &str) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::Other(_))
            if TrustError::of(error).is_some() =>
        {
            TrustError::of(error)
                .map(TrustError::to_string)
                .unwrap_or_default()
        }
        Error::InvalidCertificate(wrong) => {
            format!(
                "certificate not trusted: {}",
                plain_words(&wrong.to_string())
            )
        }
        Error::AlertReceived(alert) => {
            let name = plain_words(&format!("{alert:?}")).replace(' ', "_");
            format!("TLS refused by {peer}: alert {name}")
        }
        Error::InvalidMessage(_) => format!("{peer} does not speak TLS"),
        Error::PeerIncompatible(reason) => format!(
            "no TLS version, cipher suite or signature in common: {}",
            plain_words(&format!("{reason:?}"))
        ),
        Error::PeerMisbehaved(reason) => {
            format!(
                "{peer} violates TLS: {}",
                plain_words(&format!("{reason:?}"))
            )
        }
        other => format!("TLS: {}", plain_words(&other.to_string())),
    }
}

/// Turns the names of variants inside a text, such as `CaUsedAsEndEntity`, into words.
pub(super) fn plain_words(text: &str) -> String {
    let mut words = String::with_capacity(text.len() + 16);
    let mut previous = ' ';
    for c in text.chars() {
        if c.is_ascii_uppercase() && (previous.is_ascii_lowercase() || previous.is_ascii_digit()) {
            words.push(' ');
        }
        match c {
            '(' | ')' | '{' | '}' | '"' => {
                if !words.ends_with(' ') {
                    words.push(' ');
                }
            }
            c => words.push(c.to_ascii_lowercase()),
        }
        previous = c;
    }
    words.trim().to_owned()
}
