//! Warnings about certificates that work, but not everywhere or not for long.

use std::collections::BTreeSet;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;

use crate::config::diagnostics::Diagnostics;
use crate::config::spanned::Spanned;
use crate::tls::CertificateDetails;

/// Warns of a certificate that many clients refuse. `known_authorities` are the subjects of authorities
/// that need no intermediate.
pub(super) fn warn_of_certificate(
    chain: &[CertificateDer<'static>],
    known_authorities: &BTreeSet<String>,
    file: &Spanned<String>,
    diagnostics: &mut Diagnostics,
) {
    let Some(leaf) = chain.first().map(|leaf| CertificateDetails::read(leaf)) else {
        return;
    };
    if leaf.names.is_empty() {
        diagnostics.warning(
            file.span(),
            "the certificate has no subject alternative name",
            "should have one for each name of the gateway: clients ignore the common name",
        );
    }
    if chain.len() == 1 && !leaf.is_self_issued && !known_authorities.contains(&leaf.issuer) {
        diagnostics.warning(
            file.span(),
            format!("the certificate stands alone, without that of its issuer, {}", leaf.issuer),
            "should be followed by its intermediate certificates; right as it is only if clients trust \
             this very issuer",
        );
    }
    if is_outdated(&leaf) {
        diagnostics.warning(
            file.span(),
            format!("the certificate is signed with {}", leaf.signature),
            "should be signed with SHA-256 at least: clients refuse it",
        );
    }
}

/// Warns of certificates of a `ca` or `client_ca` that vouch for nothing, or no longer.
pub(super) fn warn_of_authorities(
    certificates: &[CertificateDer<'static>],
    file: &Spanned<String>,
    now: SystemTime,
    diagnostics: &mut Diagnostics,
) {
    for certificate in certificates {
        let details = CertificateDetails::read(certificate);
        let expired = details
            .validity
            .filter(|validity| validity.has_expired_at(now));
        if let Some(validity) = expired {
            diagnostics.warning(
                file.span(),
                format!("{} expired at {}", details.subject, validity.not_after),
                "should be renewed or removed",
            );
        }
        if !details.may_vouch_for_others() {
            diagnostics.warning(
                file.span(),
                format!("{} is no authority (CA:FALSE)", details.subject),
                "is trusted only where exactly this certificate is presented; when it is renewed, the \
                 new one has to stand here",
            );
        }
    }
}

/// Whether the signature of its issuer is of an algorithm that no longer counts. The signature of a
/// self-signed certificate is not asked.
fn is_outdated(details: &CertificateDetails) -> bool {
    let outdated = ["MD2", "MD5", "SHA-1"];
    !details.is_self_issued && outdated.iter().any(|it| details.signature.starts_with(it))
}
