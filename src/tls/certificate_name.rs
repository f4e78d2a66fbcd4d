//! The names by which a client certificate identifies a caller.

use std::fmt;
use std::str::FromStr;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use super::pin::Pin;

/// A name or the key of a client certificate, as `client_certificate` of a caller writes it: `CN=…`, `DNS=…`,
/// `URI=…` or `sha256/…`. Compared whole; the case of a DNS name does not matter (RFC 4343).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum CertificateName {
    /// The common name of the subject, which has only this one.
    CommonName(Box<str>),
    /// A DNS alternative name, in lower case.
    Dns(Box<str>),
    /// A URI alternative name, such as a SPIFFE id.
    Uri(Box<str>),
    /// The SHA-256 of the public key, in the form of a pin.
    Key(Box<str>),
}

impl CertificateName {
    /// Returns the name of a key.
    pub fn of_pin(pin: Pin) -> Self {
        Self::Key(pin.to_string().into())
    }

    /// Returns the names that the issuer of a certificate gave it.
    pub(super) fn issued(certificate: &X509Certificate<'_>) -> Vec<Self> {
        let mut common_names = certificate.subject().iter_common_name();
        let common_name = match (common_names.next(), common_names.next()) {
            // A second one would make it a matter of taste which one counts.
            (Some(name), None) => name.as_str().ok(),
            _ => None,
        };
        let mut names: Vec<_> = common_name
            .map(|name| Self::CommonName(name.into()))
            .into_iter()
            .collect();
        if let Ok(Some(alternative)) = certificate.subject_alternative_name() {
            let alternative = alternative.value.general_names.iter();
            names.extend(alternative.filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(Self::Dns(name.to_ascii_lowercase().into())),
                GeneralName::URI(uri) => Some(Self::Uri((*uri).into())),
                _ => None,
            }));
        }
        names
    }

    /// Whether it counts only where an authority issued the certificate. The key counts for itself.
    pub fn is_issued(&self) -> bool {
        !matches!(self, Self::Key(_))
    }
}

/// A text that is no name of a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotACertificateName;

impl FromStr for CertificateName {
    type Err = NotACertificateName;

    fn from_str(text: &str) -> Result<Self, NotACertificateName> {
        let is_plain = |name: &str| !name.is_empty() && !name.chars().any(char::is_control);
        let is_graphic =
            |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
        match text.split_once('=') {
            Some(("CN", name)) if is_plain(name) => Ok(Self::CommonName(name.into())),
            Some(("DNS", name)) if is_graphic(name) => {
                Ok(Self::Dns(name.to_ascii_lowercase().into()))
            }
            Some(("URI", uri)) if is_graphic(uri) && uri.contains(':') => Ok(Self::Uri(uri.into())),
            // The code of a pin ends in `=`.
            _ => match text.parse::<Pin>() {
                Ok(pin) => Ok(Self::of_pin(pin)),
                Err(_) => Err(NotACertificateName),
            },
        }
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommonName(name) => write!(f, "CN={name}"),
            Self::Dns(name) => write!(f, "DNS={name}"),
            Self::Uri(uri) => write!(f, "URI={uri}"),
            Self::Key(pin) => f.write_str(pin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_as_they_are_written() {
        let pin = "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        for text in [
            "CN=qa.example.com",
            "CN=Ä = ö",
            "DNS=qa.example.com",
            "URI=spiffe://a/b",
            pin,
        ] {
            let name: CertificateName = text.parse().unwrap();
            assert_eq!(name.to_string(), text);
        }
        let upper: CertificateName = "DNS=QA.Example.com".parse().unwrap();
        assert_eq!(upper.to_string(), "DNS=qa.example.com");
        for wrong in [
            "",
            "qa.example.com",
            "CN=",
            "CN",
            "cn=a",
            "O=a",
            "DNS=",
            "DNS=a b",
            "DNS=ä",
            "URI=a",
            "URI=",
            "URI=a: b",
            "CN=a\0b",
            "sha256/AAAA",
            "sha1/AAAA",
        ] {
            let parsed: Result<CertificateName, _> = wrong.parse();
            assert_eq!(parsed, Err(NotACertificateName), "{wrong}");
        }
    }
}
