//! TLS sessions that are resumed at any gateway and after a restart (`ticket_key_file`).

use std::net::SocketAddr;
use std::sync::Arc;

use ccfs_gateway::app::App;
use ccfs_gateway::client::Trust;
use ccfs_gateway::config::Config;
use ccfs_gateway::stand_in::certificates::write_private_file;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{TestEnv, read};

/// One of several gateways behind one name.
struct Replica {
    address: SocketAddr,
    task: tokio::task::JoinHandle<ccfs_gateway::app::ShutdownReport>,
}

impl Replica {
    fn start(env: &TestEnv) -> Self {
        let (config, _) =
            Config::load(&env.file("tickets.toml")).unwrap_or_else(|wrong| panic!("{wrong}"));
        let app = App::bind(config, None).unwrap();
        let address = app.bound_addresses().listeners["ccfs"];
        Self {
            address,
            task: tokio::spawn(app.run()),
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Writes a configuration with ticket keys, and a certificate with an RSA key of 2,048 bits.
fn prepare(env: &TestEnv, keys: &str) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(env.file("rsa.pem"), certificate.pem()).unwrap();
    write_private_file(&env.file("rsa.key"), key.serialize_pem().as_bytes()).unwrap();
    for name in ["ticket", "older"] {
        let bytes: [u8; 32] = rand::random();
        write_private_file(&env.file(name), &bytes).unwrap();
    }
    write_configuration(env, keys);
}

fn write_configuration(env: &TestEnv, keys: &str) {
    let text = read(&env.file("gateway.toml"));
    let mut lines = Vec::new();
    for line in text.lines() {
        match line {
            "[listeners.ccfs]" => lines.extend([line.to_owned(), keys.to_owned()]),
            tls if tls.starts_with("tls = { certificate") => lines
                .push("tls = { certificate = \"rsa.pem\", private_key = \"rsa.key\" }".to_owned()),
            other => lines.push(other.to_owned()),
        }
    }
    std::fs::write(env.file("tickets.toml"), lines.join("\n")).unwrap();
}

/// A client with sessions of its own.
fn client(version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let any = Trust::AnyCertificate.client_config().unwrap();
    if version == &rustls::version::TLS13 {
        return any;
    }
    let mut config = ClientConfig::builder_with_provider(any.crypto_provider().clone())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config
        .dangerous()
        .set_certificate_verifier(Arc::new(Unverified(any.crypto_provider().clone())));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Sends one request over a new connection; returns whether its session was resumed.
async fn connect(client: &Arc<ClientConfig>, replica: &Replica) -> bool {
    let tcp = TcpStream::connect(replica.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = TlsConnector::from(client.clone())
        .connect(name, tcp)
        .await
        .unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    tls.write_all(request).await.unwrap();
    // The tickets arrive with the response.
    let _ = tls.read_to_end(&mut Vec::new()).await;
    tls.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
}

#[tokio::test]
async fn sessions_are_resumed_over_a_rolling_restart() {
    const CLIENTS: usize = 10;
    let env = TestEnv::start().await;
    prepare(&env, "ticket_key_file = [\"ticket\", \"older\"]");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut replicas = [Replica::start(&env), Replica::start(&env)];
        let clients: Vec<_> = (0..CLIENTS).map(|_| client(version)).collect();
        for client in &clients {
            assert!(
                !connect(client, &replicas[0]).await,
                "the first one is a full handshake"
            );
        }
        let (mut resumed, mut all) = (0, 0);
        for restarted in [None, Some(0), Some(1)] {
            if let Some(index) = restarted {
                replicas[index] = Replica::start(&env);
                // Rotation: what the other key issued is opened still.
                write_configuration(&env, "ticket_key_file = [\"older\", \"ticket\"]");
            }
            for (number, client) in clients.iter().enumerate() {
                for replica in [number % 2, 1 - number % 2] {
                    resumed += usize::from(connect(client, &replicas[replica]).await);
                    all += 1;
                }
            }
        }
        println!("{version:?}: {resumed} of {all} connections resumed");
        assert!(resumed * 100 >= all * 95, "{version:?}: {resumed} of {all}");
        write_configuration(&env, "ticket_key_file = [\"ticket\", \"older\"]");
    }
}

#[tokio::test]
async fn without_shared_keys_a_restart_ends_the_sessions() {
    let env = TestEnv::start().await;
    prepare(&env, "");
    let client = client(&rustls::version::TLS13);
    let first = Replica::start(&env);
    assert!(!connect(&client, &first).await);
    assert!(connect(&client, &first).await);
    assert!(!connect(&client, &Replica::start(&env)).await);
}

#[tokio::test]
async fn a_ticket_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let env = TestEnv::start().await;
    prepare(&env, "ticket_key_file = \"ticket\"");
    let load = || Config::load(&env.file("tickets.toml")).map_err(|wrong| wrong.to_string());
    load().unwrap();
    std::fs::set_permissions(env.file("ticket"), PermissionsExt::from_mode(0o644)).unwrap();
    let wrong = load().unwrap_err();
    assert!(
        wrong.contains("can be read by others") && wrong.contains("chmod 600"),
        "{wrong}"
    );
    write_private_file(&env.file("ticket"), b"short").unwrap();
    let wrong = load().unwrap_err();
    assert!(wrong.contains("the ticket key has 5 bytes"), "{wrong}");
}

/// Accepts any certificate: resumption is what is tested.
#[derive(Debug)]
struct Unverified(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &rustls::pki_types::CertificateDer<'_>,
        _intermediates: &[rustls::pki_types::CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &rustls::pki_types::CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &rustls::pki_types::CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
