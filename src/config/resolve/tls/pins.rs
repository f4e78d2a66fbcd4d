//! `tls.pins`, and what excludes it.

use crate::config::diagnostics::Diagnostics;
use crate::config::file::ClusterTls;
use crate::config::spanned::Spanned;
use crate::tls::{NotAPin, Pin};

/// Reports what excludes `insecure_skip_verify`.
pub(super) fn check_exclusive(tls: &ClusterTls, diagnostics: &mut Diagnostics) {
    if let Some(ca) = &tls.ca {
        diagnostics.error(
            ca.span(),
            "both ca and insecure_skip_verify",
            "must be one of the two: without verification the ca has no use",
        );
    }
    if let Some(pins) = &tls.pins {
        diagnostics.error(
            pins.span(),
            "both pins and insecure_skip_verify",
            "must be one of the two: without verification the pins have no use",
        );
    }
}

/// Parses the pins; an empty list is an error.
pub(super) fn parse(
    written: Option<&Spanned<Vec<Spanned<String>>>>,
    diagnostics: &mut Diagnostics,
) -> Vec<Pin> {
    let Some(written) = written else {
        return Vec::new();
    };
    if written.is_empty() {
        diagnostics.error(written.span(), "no pin", PIN_HELP);
    }
    let mut pins = Vec::new();
    for text in &written.value {
        match text.parse() {
            Ok(pin) => pins.push(pin),
            Err(NotAPin) => diagnostics.error(text.span(), "not a pin", PIN_HELP),
        }
    }
    pins
}

const PIN_HELP: &str = "must be \"sha256/\" and the base64 of the SHA-256 of a public key, as \
     `check --connect` prints it";
