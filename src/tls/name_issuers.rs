//! The certificates of a `client_ca` that may give callers their names.

use std::collections::HashSet;

use rustls::pki_types::CertificateDer;

use super::authorities::Authorities;
use super::certificate_name::CertificateName;
use super::details::CertificateDetails;
use super::pin::Pin;

/// Returns the authorities that may give callers their names: those that say that they sign certificates, without the
/// certificates of callers themselves, which could give themselves any name. `caller_keys` are the keys by which
/// certificates identify callers.
pub fn name_issuers<'a>(
    authorities: &'a Authorities,
    caller_keys: &HashSet<CertificateName>,
) -> impl Iterator<Item = &'a CertificateDer<'static>> {
    let is_caller = |certificate: &CertificateDer<'_>| {
        Pin::of(certificate).is_some_and(|pin| caller_keys.contains(&CertificateName::of_pin(pin)))
    };
    let certificates = authorities.certificates().iter();
    certificates.filter(move |it| CertificateDetails::read(it).may_issue_names() && !is_caller(it))
}
