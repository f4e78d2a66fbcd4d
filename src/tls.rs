//! TLS rules that several layers share: what a certificate contains, which ones are trusted, and why one
//! is not. No dependencies inside the crate.

mod authorities;
mod certificate;
mod certificate_name;
mod client_certificate;
mod client_trust;
mod details;
mod legacy_rsa;
mod name_issuers;
mod no_verification;
mod pin;
mod public_key;
mod server_trust;
mod tickets;
mod trust_error;
mod words;

pub use authorities::Authorities;
pub use certificate::{Validity, display_names, dns_names, validity};
pub use certificate_name::{CertificateName, NotACertificateName};
pub use client_certificate::{CertificateIdentities, ClientCertificate};
pub(crate) use client_trust::ClientTrust;
pub use details::CertificateDetails;
pub use name_issuers::name_issuers;
pub(crate) use no_verification::NoVerification;
pub use pin::{NotAPin, Pin};
pub(crate) use public_key::PublicKey;
pub(crate) use server_trust::ServerTrust;
pub(crate) use tickets::SharedTickets;
pub use tickets::{KEY_LENGTH as TICKET_KEY_LENGTH, TicketKey};
pub use trust_error::TrustError;
pub(crate) use words::explain;

#[cfg(test)]
mod tests;
