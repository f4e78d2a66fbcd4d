//! The authorities of callers with client certificates: which there are, and which may give names.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::Callers;
use crate::config::diagnostics::Diagnostics;
use crate::config::file::{self, File};
use crate::config::spanned::Spanned;
use crate::config::{CallerSettings, Listener, pinned_keys};
use crate::tls::{Authorities, CertificateDetails, CertificateName, name_issuers};

/// Checks that the certificates of a caller are verified on its listeners, and by the same authorities if the
/// configuration does not say on which.
pub(super) fn check(
    name: &Spanned<String>,
    table: &file::Caller,
    (caller, listeners): (&CallerSettings, &BTreeMap<Arc<str>, Listener>),
    diagnostics: &mut Diagnostics,
) {
    let Some(first) = table.client_certificate.as_ref().and_then(|it| it.first()) else {
        return;
    };
    let resolved = caller.listeners.iter().filter_map(|it| listeners.get(it));
    if resolved.clone().count() < caller.listeners.len() {
        // What is wrong with the others is reported there.
        return;
    }
    let mut authorities = resolved.filter_map(|it| it.tls.client_ca.as_deref());
    let Some(one) = authorities.next() else {
        diagnostics.error(
            first.span(),
            "client_certificate, and none of its listeners has a client_ca",
            "needs client_ca in the tls of a listener, with client_auth = \"optional\" beside other clients",
        );
        return;
    };
    if table.listeners.is_none() && authorities.any(|it| it.certificates() != one.certificates()) {
        diagnostics.missing_key(
            &format!("callers.{}.listeners", name.value),
            first.span(),
            "client_certificate without listeners, where listeners have different client_ca",
            "needs listeners = [\"…\"]: another authority may issue the same name to somebody else",
        );
    }
}

/// Warns of authorities of listeners where names of certificates identify callers: if there is none that may give
/// them, and of each that looks like the certificate of one client.
pub(super) fn warn_of_issuers(
    file: &File,
    (callers, listeners): (&Callers, &BTreeMap<Arc<str>, Listener>),
    diagnostics: &mut Diagnostics,
) {
    let pinned = pinned_keys(callers.values());
    for (name, table) in &file.listeners {
        let resolved = listeners.get(name.as_str());
        let authorities = resolved.and_then(|listener| listener.tls.client_ca.as_deref());
        let written = table.tls.as_ref().and_then(|tls| tls.client_ca.as_ref());
        let (Some(authorities), Some(written)) = (authorities, written) else {
            continue;
        };
        let mut here = callers
            .values()
            .filter(|caller| caller.listeners.contains(name.as_str()));
        if here.any(|caller| {
            caller
                .client_certificate
                .iter()
                .any(CertificateName::is_issued)
        }) {
            warn_of_issuers_in(authorities, written, &pinned, diagnostics);
        }
    }
}

fn warn_of_issuers_in(
    authorities: &Authorities,
    written: &Spanned<String>,
    pinned: &HashSet<CertificateName>,
    diagnostics: &mut Diagnostics,
) {
    let issuers = name_issuers(authorities, pinned);
    let issuers: Vec<_> = issuers.map(|it| CertificateDetails::read(it)).collect();
    if issuers.is_empty() {
        diagnostics.warning(
            written.span(),
            "no certificate here may give callers their names",
            "needs an authority: CA:TRUE, and a key usage, if it has one, with keyCertSign",
        );
    }
    // One alone is what the names are of. Beside others, one that was made for a client gives itself any name.
    for issuer in &issuers {
        let others_say_so = issuers.iter().any(|it| it.signs_certificates == Some(true));
        let is_unsaid = issuer.signs_certificates.is_none() && others_say_so;
        let is_for_use = issuer.has_purpose || !issuer.names.is_empty();
        if issuers.len() > 1 && issuer.is_self_issued && (is_unsaid || is_for_use) {
            diagnostics.warning(
                written.span(),
                format!(
                    "{} may give its clients the name of any caller, and looks like the certificate of one client",
                    issuer.subject
                ),
                "right for an authority; that of one client should be CA:FALSE, or pinned as a caller's \"sha256/…\"",
            );
        }
    }
}
