//! TLS rules that several layers share: what a certificate contains, and the verifier behind
//! `insecure_skip_verify`. No dependencies inside the crate.

mod certificate;
mod no_verification;

pub use certificate::{Validity, display_names, dns_names, validity};
pub(crate) use no_verification::NoVerification;
