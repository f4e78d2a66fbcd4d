//! Certificate revocation lists of client authorities, read from PEM files.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::error::X509Error;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use crate::config::Crl;
use crate::config::diagnostics::Diagnostics;
use crate::config::spanned::Spanned;
use crate::tls::{Authorities, ClientTrust};

/// Reads the CRLs of `file`, for certificates of the `authorities` of the file `ca`.
pub(super) fn read(
    file: &Spanned<String>,
    ca: &Spanned<String>,
    authorities: &Authorities,
    now: SystemTime,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<Crl>> {
    let lists = read_lists(file, diagnostics)?;
    let certificates = authorities.certificates().iter();
    let trusted = authorities;
    let authorities: Vec<X509Certificate<'_>> = certificates
        .filter_map(|certificate| Some(X509Certificate::from_der(certificate).ok()?.1))
        .collect();
    let mut crls = Vec::new();
    let mut covered = vec![false; authorities.len()];
    for der in lists {
        let Some(crl) = parse(&der) else {
            diagnostics.error(file.span(), "not a certificate revocation list", HELP);
            return None;
        };
        match issuer(&crl, &authorities) {
            Issuer::Authority(index) => covered[index] = true,
            Issuer::SignatureMismatch => {
                diagnostics.error(
                    file.span(),
                    format!("the signature of the CRL of {} is wrong", crl.issuer()),
                    format!("must be signed by the authority of {}", ca.value),
                );
                return None;
            }
            Issuer::Unknown => diagnostics.warning(
                file.span(),
                format!("the CRL of {} is of no authority in client_ca", crl.issuer()),
                "counts only for certificates under an authority of this name that clients send along",
            ),
        }
        let this_update = Timestamp::from_second(crl.last_update().timestamp()).ok();
        let next_update = next_update(&crl);
        warn_if_expired(file, &crl, next_update, now, diagnostics);
        crls.push(Crl {
            der,
            this_update,
            next_update,
        });
    }
    if !covered.contains(&true) {
        diagnostics.error(
            file.span(),
            "every CRL is of another authority than client_ca",
            format!("must hold the CRLs of the authorities in {}", ca.value),
        );
        return None;
    }
    for (authority, _) in authorities.iter().zip(&covered).filter(|(_, has)| !**has) {
        diagnostics.warning(
            file.span(),
            format!(
                "no CRL of {}, an authority in client_ca",
                authority.subject()
            ),
            "needs its CRL: certificates whose revocation is unknown are refused",
        );
    }
    check_usable(file, trusted, &crls, diagnostics).then_some(crls)
}

/// Whether rustls accepts the CRLs. It supports neither delta nor indirect CRLs.
fn check_usable(
    file: &Spanned<String>,
    authorities: &Authorities,
    crls: &[Crl],
    diagnostics: &mut Diagnostics,
) -> bool {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let lists: Vec<_> = crls.iter().map(|crl| crl.der.clone()).collect();
    let verifier = ClientTrust::new(authorities, &lists, true, provider);
    if let Err(error) = &verifier {
        diagnostics.error(
            file.span(),
            format!("the CRL cannot be used: {error}"),
            "must hold complete CRLs, version 2 (RFC 5280, 5); `openssl ca` needs a crlnumber for that",
        );
    }
    verifier.is_ok()
}

fn read_lists(
    file: &Spanned<String>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<CertificateRevocationListDer<'static>>> {
    let pem = diagnostics.read_file(file)?;
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(lists) if !lists.is_empty() => Some(lists),
        _ => {
            diagnostics.error(file.span(), "no CRL in this file", HELP);
            None
        }
    }
}

fn parse<'a>(
    der: &'a CertificateRevocationListDer<'static>,
) -> Option<CertificateRevocationList<'a>> {
    let (rest, crl) = CertificateRevocationList::from_der(der).ok()?;
    rest.is_empty().then_some(crl)
}

/// The issuer of a CRL.
enum Issuer {
    /// The authority at this index.
    Authority(usize),
    /// It has the name of an authority, but not its signature.
    SignatureMismatch,
    /// None of the authorities.
    Unknown,
}

fn issuer(crl: &CertificateRevocationList<'_>, authorities: &[X509Certificate<'_>]) -> Issuer {
    let mut issuer = Issuer::Unknown;
    for (index, authority) in authorities.iter().enumerate() {
        if authority.subject().as_raw() != crl.issuer().as_raw() {
            continue;
        }
        match crl.verify_signature(authority.public_key()) {
            // An algorithm that x509-parser does not support is verified in the handshake.
            Ok(()) | Err(X509Error::SignatureUnsupportedAlgorithm) => {
                return Issuer::Authority(index);
            }
            // Another authority of the same name can have signed it, during a change of its key.
            Err(_) => issuer = Issuer::SignatureMismatch,
        }
    }
    issuer
}

fn next_update(crl: &CertificateRevocationList<'_>) -> Option<Timestamp> {
    Timestamp::from_second(crl.next_update()?.timestamp()).ok()
}

fn warn_if_expired(
    file: &Spanned<String>,
    crl: &CertificateRevocationList<'_>,
    next_update: Option<Timestamp>,
    now: SystemTime,
    diagnostics: &mut Diagnostics,
) {
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs();
    let is_over = |end: &Timestamp| i64::try_from(now).is_ok_and(|now| end.as_second() <= now);
    if let Some(end) = next_update.filter(is_over) {
        diagnostics.warning(
            file.span(),
            format!("the CRL of {} expired at {end}", crl.issuer()),
            "must be renewed: until then its authority's certificates are refused",
        );
    }
}

const HELP: &str = "must hold -----BEGIN X509 CRL----- blocks, each a whole CRL";
