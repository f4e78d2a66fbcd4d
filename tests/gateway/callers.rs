//! Callers without a secret key (§13): who they are, what they may ask for, and what a node sees of them.

mod answers;
mod api_keys;
mod browsers;
mod certificates;
mod forwarding;
mod jwt;
mod limits;
mod links;
mod requests;
mod sdk_hmac;
mod tickets;
mod token_memory;
mod validity;

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ccfs_gateway::client::{Client, ClientCertificate, ClientRequest, ClientResponse};
use ccfs_gateway::stand_in::certificates::write_private_file;
use http::HeaderName;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::support::{SHANGHAI, Setup, TestEnv, read};

/// An authority of client certificates.
pub(crate) struct Authority(pub(crate) CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self::with(name, IsCa::Ca(BasicConstraints::Unconstrained), usages)
    }

    /// One with these extensions, which may say that it is none.
    pub(crate) fn with(name: &str, is_ca: IsCa, usages: Vec<KeyUsagePurpose>) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = is_ca;
        params.key_usages = usages;
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Issues a certificate with these names, in the form of the configuration.
    pub(crate) fn issue(&self, names: &[&str]) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params(names).signed_by(&key, &self.0).unwrap();
        Identity { certificate, key }
    }
}

/// The certificate of a client with its key.
pub(crate) struct Identity {
    pub(crate) certificate: Certificate,
    pub(crate) key: KeyPair,
}

impl Identity {
    /// Makes a self-signed certificate, of an authority or not.
    pub(crate) fn self_made(names: &[&str], is_ca: IsCa) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = params(names);
        params.is_ca = is_ca;
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, key }
    }

    /// Its pin, as curl and the configuration write it.
    pub(crate) fn pin(&self) -> String {
        let details = ccfs_gateway::tls::CertificateDetails::read(self.certificate.der());
        details.pin.unwrap().to_string()
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    for name in names {
        let (kind, value) = name.split_once('=').unwrap();
        let ia5 = || Ia5String::try_from(value).unwrap();
        match kind {
            "CN" => params.distinguished_name.push(DnType::CommonName, value),
            // The builder has one name of each kind: this one is written as a kind of its own.
            "CN2" => params
                .distinguished_name
                .push(DnType::CustomDnType(vec![2, 5, 4, 3]), value),
            "O" => params
                .distinguished_name
                .push(DnType::OrganizationName, value),
            "DNS" => params.subject_alt_names.push(SanType::DnsName(ia5())),
            "URI" => params.subject_alt_names.push(SanType::URI(ia5())),
            _ => panic!("{name}"),
        }
    }
    params
}

/// A gateway with callers, whose listener asks for certificates of `client_ca`.
pub(crate) struct Site {
    pub(crate) setup: Setup,
    pub(crate) client_ca: String,
    /// Further keys of the listener's `tls`.
    pub(crate) tls: &'static str,
}

impl Site {
    /// A site with these tables, where certificates of `authority` are asked for and not required.
    pub(crate) fn new(authority: &Authority, tables: &str) -> Self {
        Self {
            setup: Setup {
                tables: tables.to_owned(),
                ..Setup::default()
            },
            client_ca: authority.0.pem(),
            tls: "client_auth = \"optional\"",
        }
    }

    pub(crate) async fn start(&self) -> TestEnv {
        self.start_after(|_| ()).await
    }

    /// Starts it when `prepare` has written more files to its directory.
    pub(crate) async fn start_after(&self, prepare: impl FnOnce(&Path)) -> TestEnv {
        let site = self.setup.prepare().await;
        let folder = site.folder.path();
        std::fs::write(folder.join("clients.pem"), &self.client_ca).unwrap();
        with_client_ca(&site.file, self.tls);
        prepare(folder);
        TestEnv::with_site(site)
    }
}

/// Makes the listener of a configuration ask for client certificates.
fn with_client_ca(file: &Path, tls: &str) {
    let text = read(file).replacen(
        "tls = { certificate = \"leaf.pem\"",
        &format!("tls = {{ client_ca = \"clients.pem\", {tls}, certificate = \"leaf.pem\""),
        1,
    );
    std::fs::write(file, text).unwrap();
}

impl TestEnv {
    /// A client that presents a certificate.
    pub(crate) fn client_of(&self, identity: &Identity) -> Client {
        let (chain, key) = (self.file("client.pem"), self.file("client.key"));
        std::fs::write(&chain, identity.certificate.pem()).unwrap();
        write_private_file(&key, identity.key.serialize_pem().as_bytes()).unwrap();
        let certificate = ClientCertificate::from_pem_files(&chain, &key).unwrap();
        self.new_client().with_certificate(&certificate)
    }

    /// Sends an unsigned recording-URL request with a certificate.
    pub(crate) async fn recording_of(&self, identity: &Identity, call_id: &str) -> ClientResponse {
        let client = self.client_of(identity);
        client.send(&self.recording(call_id)).await.unwrap()
    }

    /// Reloads the configuration, which must be valid.
    pub(crate) async fn reload(&self) {
        let response = crate::page::post(self.bound.admin.unwrap(), "/reload").await;
        assert_eq!(response.status, 200, "{}", response.body);
    }

    /// The line of the access log about the request with this response.
    pub(crate) async fn log_line(&self, response: &ClientResponse) -> serde_json::Value {
        let file = self.file("access.log");
        let id = format!(
            "\"request_id\":{:?}",
            response.header("x-request-id").unwrap()
        );
        let line = || {
            let text = if file.exists() {
                read(&file)
            } else {
                String::new()
            };
            let whole = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
            let line = whole.lines().find(|line| line.contains(&id));
            line.map(|line| serde_json::from_str(line).unwrap())
        };
        crate::support::eventually("the line of the access log", async || line().is_some()).await;
        line().unwrap()
    }
}

/// The table of a caller that acts as [`SHANGHAI`].
pub(crate) fn caller(name: &str, keys: &str) -> String {
    format!("[callers.{name}]\naccess_key = \"{SHANGHAI}\"\n{keys}\n")
}

/// The field of an API key.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Adds a field to a request, also beside one of the same name.
fn with(mut request: ClientRequest, name: HeaderName, value: &str) -> ClientRequest {
    request.headers.append(name, value.parse().unwrap());
    request
}

/// The value of the scheme `Basic` for a name and a password.
fn basic(text: &str) -> String {
    format!("Basic {}", STANDARD.encode(text))
}
