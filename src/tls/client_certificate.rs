//! The certificate that a client presented in its handshake, judged again for each request: a connection can
//! outlive the certificate, its CRL and the configuration.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::VerifierBuilderError;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use super::authorities::Authorities;
use super::certificate::Validity;
use super::certificate_name::CertificateName;
use super::client_trust::ClientTrust;
use super::details::CertificateDetails;
use super::name_issuers::name_issuers;
use super::pin::Pin;

/// What client certificates of a listener prove about their holders.
#[derive(Debug)]
pub struct CertificateIdentities {
    /// Accepts a certificate at all, as in a handshake.
    accepted: ClientTrust,
    /// Accepts the names of a certificate: the authorities that may give them.
    issuers: ClientTrust,
    /// The keys of the authorities: what they signed for their own key proves nothing.
    authority_keys: HashSet<Pin>,
    /// When the CRLs are due, in seconds since 1970.
    list_ends: Vec<i64>,
}

impl CertificateIdentities {
    /// Creates the judge of a listener with these authorities and CRLs. `caller_keys` are the keys by which
    /// certificates identify callers: what these certificates sign proves no name.
    ///
    /// # Errors
    /// The authorities or CRLs cannot be used.
    pub fn new(
        authorities: &Authorities,
        crls: &[CertificateRevocationListDer<'static>],
        caller_keys: &HashSet<CertificateName>,
    ) -> Result<Self, VerifierBuilderError> {
        let provider: Arc<CryptoProvider> = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let certificates = authorities.certificates().iter();
        let issuers = name_issuers(authorities, caller_keys).cloned();
        // A part of certificates that can be read can be read; without any no name counts.
        let issuers = Authorities::new(issuers.collect())
            .unwrap_or_else(|_| Authorities::from_roots(rustls::RootCertStore::empty()));
        let ends = crls.iter().filter_map(|der| {
            let (_, crl) = CertificateRevocationList::from_der(der).ok()?;
            Some(crl.next_update()?.timestamp())
        });
        Ok(Self {
            list_ends: ends.collect(),
            authority_keys: certificates
                .filter(|it| CertificateDetails::read(it).may_vouch_for_others())
                .filter_map(|it| Pin::of(it))
                .collect(),
            accepted: ClientTrust::new(authorities, crls, false, provider.clone())?,
            issuers: ClientTrust::new(&issuers, crls, false, provider)?,
        })
    }

    /// Returns the names that a chain proves at `now`.
    fn proven(
        &self,
        chain: &[CertificateDer<'static>],
        now: UnixTime,
    ) -> Option<Vec<CertificateName>> {
        let (leaf, intermediates) = chain.split_first()?;
        self.accepted.check(leaf, intermediates, now).ok()?;
        let key = Pin::of(leaf)?;
        let mut names = vec![CertificateName::of_pin(key)];
        let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
        let is_self_issued = parsed.subject().as_raw() == parsed.issuer().as_raw();
        if !is_self_issued
            && !self.authority_keys.contains(&key)
            && self.is_issued(leaf, intermediates, now)
        {
            names.extend(CertificateName::issued(&parsed));
        }
        Some(names)
    }

    /// Whether an authority that may give names issued a certificate, through intermediates that may sign certificates.
    fn is_issued(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'static>],
        now: UnixTime,
    ) -> bool {
        // The verifier of chains asks for CA:TRUE, and not for a key usage.
        let intermediates = intermediates.iter();
        let intermediates: Vec<_> = intermediates
            .filter(|it| CertificateDetails::read(it).may_issue_names())
            .cloned()
            .collect();
        self.issuers.check_chain(leaf, &intermediates, now).is_ok()
    }

    /// Returns the first second at which another judgment of a chain is possible, if it was accepted at `now`.
    fn next_change(&self, chain: &[CertificateDer<'static>], now: i64) -> i64 {
        let expiry = |certificate: &CertificateDer<'_>| {
            let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
            Some(Validity::of(&parsed)?.not_after.as_second() + 1)
        };
        // One that cannot be read is judged each second.
        let expiries = chain.iter().map(|it| expiry(it).unwrap_or(now + 1));
        let ends = self.list_ends.iter().copied();
        let changes = expiries.chain(ends).filter(|at| *at > now);
        changes.min().unwrap_or(i64::MAX)
    }
}

/// The certificate of a client, with what it proved last.
#[derive(Debug)]
pub struct ClientCertificate {
    /// The leaf first.
    chain: Vec<CertificateDer<'static>>,
    judgment: Mutex<Option<Judgment>>,
}

/// What a certificate proves, and until when that is known.
#[derive(Debug)]
struct Judgment {
    identities: Arc<CertificateIdentities>,
    from: i64,
    until: i64,
    names: Arc<[CertificateName]>,
}

impl ClientCertificate {
    /// Takes the chain that a client presented, the leaf first.
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        Self {
            chain,
            judgment: Mutex::new(None),
        }
    }

    /// Returns the names that the certificate proves at `now`; none if it is not trusted, not valid or revoked.
    /// The chain is verified when the configuration has changed and when a date has passed, so that most calls
    /// only compare times.
    pub fn names(
        &self,
        identities: &Arc<CertificateIdentities>,
        now: Timestamp,
    ) -> Arc<[CertificateName]> {
        let second = now.as_second();
        let mut judgment = self.judgment.lock();
        if let Some(known) = &*judgment
            && Arc::ptr_eq(&known.identities, identities)
            && (known.from..known.until).contains(&second)
        {
            return known.names.clone();
        }
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(
            u64::try_from(second).unwrap_or_default(),
        ));
        let proven = identities.proven(&self.chain, time);
        let until = match &proven {
            Some(_) => identities.next_change(&self.chain, second),
            // It may become valid.
            None => second + 1,
        };
        let names: Arc<[CertificateName]> = proven.unwrap_or_default().into();
        *judgment = Some(Judgment {
            identities: identities.clone(),
            from: second,
            until,
            names: names.clone(),
        });
        names
    }
}

#[cfg(test)]
mod tests;
