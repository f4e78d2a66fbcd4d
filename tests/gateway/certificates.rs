//! Certificates, keys and secret files that change while the gateway runs.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use ccfs_gateway::admin::AdminCommand;
use ccfs_gateway::app::App;
use ccfs_gateway::auth::{AccessKey, Credential, Secret};
use ccfs_gateway::client::{Client, ClientRequest, DEFAULT_SIGNED_FIELDS, RecordingQuery, Trust};
use ccfs_gateway::config::Config;
use ccfs_gateway::stand_in::certificates::{
    CertificateAuthority, SERVER_NAMES as HOSTS, write_private_file,
};
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::support::{BEGIN, BERLIN, END, SHANGHAI, TestEnv, eventually, read, secret};

/// A second gateway in the directory of a `TestEnv`, with its own configuration file and a short
/// polling interval for watched files.
pub(crate) struct WatchedGateway {
    pub(crate) env: TestEnv,
    pub(crate) url: String,
    orders: mpsc::Sender<AdminCommand>,
    gateway: tokio::task::JoinHandle<ccfs_gateway::app::ShutdownReport>,
}

impl Drop for WatchedGateway {
    fn drop(&mut self) {
        self.gateway.abort();
    }
}

impl WatchedGateway {
    /// Starts from the environment's configuration after `prepare` has edited it.
    pub(crate) async fn start(prepare: impl FnOnce(&TestEnv, String) -> String) -> Self {
        let env = TestEnv::start().await;
        let text = prepare(&env, read(&env.file("gateway.toml")));
        let file = env.file("followed.toml");
        std::fs::write(&file, text).unwrap();
        let (config, _) = Config::load(&file).unwrap_or_else(|wrong| panic!("{wrong}"));
        let app = App::bind(config, Some(file)).unwrap();
        let app = app.with_watch_interval(Duration::from_millis(20));
        let url = format!("https://{}", app.bound_addresses().listeners["ccfs"]);
        let orders = app.commands();
        let gateway = tokio::spawn(app.run());
        let followed = Self {
            env,
            url,
            orders,
            gateway,
        };
        // The first poll has completed once a change of an otherwise unused file is seen.
        followed.wait_until_applied().await;
        followed
    }

    /// Waits until a change made now is applied, and with it every earlier one.
    pub(crate) async fn wait_until_applied(&self) {
        let berlin = self.env.file(BERLIN);
        // Repeated, since the first write may be what the first poll already reads.
        for attempt in 0..20 {
            let text = format!("secret-{attempt}-{}", Timestamp::now().as_nanosecond());
            write_private_file(&berlin.with_extension("new"), text.as_bytes()).unwrap();
            std::fs::rename(berlin.with_extension("new"), &berlin).unwrap();
            for _ in 0..50 {
                if self.status(BERLIN, &text, "ca.pem").await == Some(200) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        panic!("no change is ever applied");
    }

    /// Sends a request signed with `secret`, trusting the authority `ca`; returns the status, or
    /// `None` if no connection can be established.
    pub(crate) async fn status(&self, ak: &str, secret: &str, ca: &str) -> Option<u16> {
        let client = Client::new(&Trust::from_pem_file(&self.env.file(ca)).unwrap()).unwrap();
        let secret = Secret::new(secret.as_bytes().to_vec());
        let credential = Credential::new(AccessKey::from(ak), vec![secret], true);
        let query = RecordingQuery {
            call_id: "1637742300-1",
            begin: BEGIN,
            end: END,
            // A node would reject the changed secret, so the request is one that the gateway
            // answers itself.
            version: Some("1.0"),
        };
        let request = ClientRequest::recording(&self.url, &query).unwrap();
        let request = request
            .sign(&credential, DEFAULT_SIGNED_FIELDS, Timestamp::now())
            .unwrap();
        Some(client.send(&request).await.ok()?.status.as_u16())
    }

    /// Whether the gateway's certificate is signed by that authority.
    async fn shows(&self, ca: &str) -> bool {
        self.status(SHANGHAI, &secret(SHANGHAI), ca).await.is_some()
    }
}

/// Writes another authority and a leaf certificate signed by it.
fn issue(folder: &Path, ca: &Path) {
    let authority = CertificateAuthority::new().unwrap();
    authority.write_certificate(ca).unwrap();
    let leaf = authority.issue(&HOSTS).unwrap();
    leaf.write(&folder.join("tls.crt"), &folder.join("tls.key"))
        .unwrap();
}

#[tokio::test]
async fn an_atomically_swapped_secret_volume_is_followed() {
    // The layout of a Kubernetes volume: tls.crt -> ..data/tls.crt, ..data -> ..version.
    let followed = WatchedGateway::start(|env, text| {
        let mount = env.file("mount");
        std::fs::create_dir_all(mount.join("..one")).unwrap();
        for (from, to) in [("leaf.pem", "tls.crt"), ("leaf.key", "tls.key")] {
            std::fs::copy(env.file(from), mount.join("..one").join(to)).unwrap();
            symlink(Path::new("..data").join(to), mount.join(to)).unwrap();
        }
        symlink("..one", mount.join("..data")).unwrap();
        text.replace("\"leaf.pem\"", "\"mount/tls.crt\"")
            .replace("\"leaf.key\"", "\"mount/tls.key\"")
    })
    .await;
    assert!(followed.shows("ca.pem").await);
    let mount = followed.env.file("mount");
    std::fs::create_dir(mount.join("..two")).unwrap();
    issue(&mount.join("..two"), &followed.env.file("second.pem"));
    symlink("..two", mount.join("..data_tmp")).unwrap();
    std::fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    eventually("the new certificate is served", async || {
        followed.shows("second.pem").await
    })
    .await;
    assert!(!followed.shows("ca.pem").await);
}

#[tokio::test]
async fn an_invalid_certificate_keeps_the_last_valid_one() {
    let followed = WatchedGateway::start(|env, text| {
        for (from, to) in [("leaf.pem", "tls.crt"), ("leaf.key", "tls.key")] {
            std::fs::copy(env.file(from), env.file(to)).unwrap();
        }
        text.replace("\"leaf.pem\"", "\"tls.crt\"")
            .replace("\"leaf.key\"", "\"tls.key\"")
    })
    .await;
    let certificate = followed.env.file("tls.crt");
    let good = read(&certificate);
    for bad in ["", "no certificate", &read(&followed.env.file("ca.pem"))] {
        std::fs::write(&certificate, bad).unwrap();
        // Long enough for more than one poll; the change must have no effect.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(followed.shows("ca.pem").await, "{bad:?}");
    }
    std::fs::remove_file(&certificate).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(followed.shows("ca.pem").await);
    std::fs::write(&certificate, good).unwrap();
    followed.wait_until_applied().await;
    issue(&followed.env.file(""), &followed.env.file("second.pem"));
    eventually("a valid one is applied", async || {
        followed.shows("second.pem").await
    })
    .await;
}

#[tokio::test]
async fn a_secret_is_followed_and_an_edited_configuration_is_not() {
    let followed = WatchedGateway::start(|_, text| text).await;
    let file = followed.env.file("followed.toml");
    std::fs::write(&file, "half a line, since an editor is still wri").unwrap();
    let old = secret(SHANGHAI);
    assert_eq!(
        followed.status(SHANGHAI, &old, "ca.pem").await,
        Some(200),
        "no reload was requested"
    );
    write_private_file(&followed.env.file(SHANGHAI), b"another one").unwrap();
    eventually("the new secret is applied", async || {
        followed.status(SHANGHAI, "another one", "ca.pem").await == Some(200)
    })
    .await;
    assert_eq!(followed.status(SHANGHAI, &old, "ca.pem").await, Some(401));
    let (response, result) = tokio::sync::oneshot::channel();
    followed
        .orders
        .send(AdminCommand::Reload(response))
        .await
        .unwrap();
    assert!(result.await.unwrap().is_err(), "now it is applied");
}

#[tokio::test]
async fn the_admin_token_is_followed() {
    let followed = WatchedGateway::start(|env, text| {
        write_private_file(&env.file("token"), b"the-first-token").unwrap();
        text.replace(
            "[admin]\nbind = \"127.0.0.1:0\"",
            "[admin]\nbind = \"127.0.0.1:ADMIN\"\ntoken_file = \"token\"",
        )
        .replace("ADMIN", &free_port().to_string())
    })
    .await;
    let text = read(&followed.env.file("followed.toml"));
    let port = text.split("[admin]\nbind = \"127.0.0.1:").nth(1).unwrap();
    let port = port.split('"').next().unwrap().to_owned();
    let status = async |token: &str| admin_status(&port, token).await;
    assert_eq!(status("the-first-token").await, 200);
    write_private_file(&followed.env.file("token"), b"the-second-token").unwrap();
    eventually("the new token is applied", async || {
        status("the-second-token").await == 200
    })
    .await;
    assert_eq!(status("the-first-token").await, 401);
}

fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

async fn admin_status(port: &str, token: &str) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(format!("127.0.0.1:{port}"))
        .await
        .unwrap();
    let request = format!(
        "GET /status HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response.split(' ').nth(1).unwrap().parse().unwrap()
}
