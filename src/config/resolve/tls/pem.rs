//! Reading of PEM files; files in other formats are named with the command that converts them.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::diagnostics::Diagnostics;
use crate::config::spanned::Spanned;

/// Reads the certificates of a PEM file; at least one.
pub(super) fn certificates(
    file: &Spanned<String>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<CertificateDer<'static>>> {
    let pem = diagnostics.read_file(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(chain) if !chain.is_empty() => Some(chain),
        _ => {
            let wrong = Format::of(&pem).wrong_certificate(file);
            diagnostics.error(file.span(), wrong.0, wrong.1);
            None
        }
    }
}

/// Reads the private key of a PEM file.
pub(super) fn private_key(
    file: &Spanned<String>,
    diagnostics: &mut Diagnostics,
) -> Option<PrivateKeyDer<'static>> {
    let pem = zeroize::Zeroizing::new(diagnostics.read_secret_text(file, &file.span)?);
    match PrivateKeyDer::from_pem_slice(&pem) {
        Ok(key) => Some(key),
        Err(_) => {
            let wrong = Format::of(&pem).wrong_key(file);
            diagnostics.error(file.span(), wrong.0, wrong.1);
            None
        }
    }
}

/// The format of a file, as far as it tells what is wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Format {
    Pem,
    EncryptedPem,
    /// `-----BEGIN PKCS7-----`.
    Pkcs7,
    /// PKCS #12 (RFC 7292): `.pfx`, `.p12`.
    Pkcs12,
    Der,
    /// The key store of Java before version 9.
    Jks,
}

impl Format {
    fn of(bytes: &[u8]) -> Self {
        let holds = |text: &[u8]| memchr::memmem::find(bytes, text).is_some();
        // A SEQUENCE whose length has one to three bytes, then version 3 (RFC 7292, 4).
        let is_pkcs12 = (2..=5).any(|at| bytes.get(at..at + 3) == Some(&[0x02, 0x01, 0x03]));
        match bytes {
            [0xfe, 0xed, 0xfe, 0xed, ..] => Self::Jks,
            [0x30, ..] if is_pkcs12 => Self::Pkcs12,
            [0x30, length, ..] if *length >= 0x80 => Self::Der,
            _ if holds(b"-----BEGIN PKCS7-----") => Self::Pkcs7,
            _ if holds(b"ENCRYPTED") => Self::EncryptedPem,
            _ => Self::Pem,
        }
    }

    fn wrong_certificate(self, file: &str) -> (&'static str, String) {
        match self {
            Self::Der => (
                "this file is DER, not PEM",
                format!("`openssl x509 -inform DER -in {file} -out {file}.pem` makes PEM of it"),
            ),
            Self::Pkcs7 => (
                "this file is PKCS #7, not certificates in PEM",
                format!("`openssl pkcs7 -print_certs -in {file} -out {file}.pem` takes them out"),
            ),
            Self::Pkcs12 => (
                "this file is PKCS #12 (PFX), not PEM",
                format!(
                    "`openssl pkcs12 -in {file} -nokeys -out {file}.pem` takes the certificates out"
                ),
            ),
            Self::Jks => ("this file is a key store of Java, not PEM", from_jks(file)),
            Self::Pem | Self::EncryptedPem => (
                "no certificate in this file",
                "must hold -----BEGIN CERTIFICATE----- blocks".to_owned(),
            ),
        }
    }

    fn wrong_key(self, file: &str) -> (&'static str, String) {
        match self {
            Self::EncryptedPem => (
                "the private key is encrypted with a password",
                format!(
                    "`openssl pkey -in {file} -out {file}.plain` takes the password away; mode 0600"
                ),
            ),
            Self::Der => (
                "this file is DER, not PEM",
                format!("`openssl pkey -inform DER -in {file} -out {file}.pem` makes PEM of it"),
            ),
            Self::Pkcs12 => (
                "this file is PKCS #12 (PFX), not PEM",
                format!(
                    "`openssl pkcs12 -in {file} -nocerts -nodes -out {file}.pem` takes the key out"
                ),
            ),
            Self::Jks => ("this file is a key store of Java, not PEM", from_jks(file)),
            Self::Pem | Self::Pkcs7 => (
                "no private key in this file",
                "must hold a -----BEGIN PRIVATE KEY----- block without a password".to_owned(),
            ),
        }
    }
}

fn from_jks(file: &str) -> String {
    format!(
        "`keytool -importkeystore -srckeystore {file} -destkeystore {file}.p12 -deststoretype pkcs12` \
         makes PKCS #12 of it, and `openssl pkcs12 -in {file}.p12 -nodes` PEM"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_recognized() {
        for (bytes, format) in [
            (&b"-----BEGIN CERTIFICATE-----"[..], Format::Pem),
            (b"", Format::Pem),
            (
                b"-----BEGIN ENCRYPTED PRIVATE KEY-----",
                Format::EncryptedPem,
            ),
            (b"Proc-Type: 4,ENCRYPTED", Format::EncryptedPem),
            (b"-----BEGIN PKCS7-----", Format::Pkcs7),
            (
                &[0x30, 0x82, 0x09, 0x00, 0x02, 0x01, 0x03, 0x30],
                Format::Pkcs12,
            ),
            (&[0x30, 0x82, 0x03, 0x00, 0x30, 0x82], Format::Der),
            (&[0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2], Format::Jks),
            (b"0 text that begins as DER does", Format::Pem),
        ] {
            assert_eq!(Format::of(bytes), format, "{bytes:?}");
        }
    }
}
