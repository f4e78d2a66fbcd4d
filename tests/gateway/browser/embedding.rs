//! A page of another site, in a browser whose connection has a client certificate. The certificate is presented by a
//! relay that ends the browser's TLS and passes every byte on: what the gateway sees are the fields of the browser.

use std::sync::Arc;

use ccfs_gateway::stand_in::certificates::CertificateAuthority;
use ccfs_gateway::tls::CertificateDetails;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::driver::Browser;
use super::serve;
use crate::callers::{Authority, Identity, Site, caller};
use crate::support::{TestEnv, eventually, read};

/// Starts the relay to the gateway; returns its origin and the pin of its key.
async fn relay(env: &TestEnv, identity: &Identity) -> (String, String) {
    let own = CertificateAuthority::new().unwrap();
    let leaf = own.issue(&["127.0.0.1"]).unwrap();
    let pin = CertificateDetails::read(&leaf.chain()[0])
        .pin
        .unwrap()
        .to_string();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(env.file("ca.pem")).unwrap();
    roots.add(authority).unwrap();
    let key = PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![identity.certificate.der().clone()], key)
        .unwrap();
    let (acceptor, connector) = (
        TlsAcceptor::from(leaf.server_config().unwrap()),
        TlsConnector::from(Arc::new(client)),
    );
    let gateway = env.bound.listeners.values().next().copied().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, connector) = (acceptor.clone(), connector.clone());
            tokio::spawn(async move {
                let mut browser = acceptor.accept(stream).await?;
                let stream = TcpStream::connect(gateway).await?;
                let name = ServerName::try_from("127.0.0.1").unwrap();
                let mut gateway = connector.connect(name, stream).await?;
                tokio::io::copy_bidirectional(&mut browser, &mut gateway).await
            });
        }
    });
    (origin, pin)
}

/// What a page can make a browser send without asking anybody.
const ATTACK: &str = r#"
<form id=form method=post action="GATEWAY/recordings/1-1/ticket?WINDOW" target=frame enctype="text/plain"><input name=a value=b></form>
<iframe name=frame></iframe><iframe src="GATEWAY/recordings/1-1?WINDOW"></iframe>
<audio id=audio src="GATEWAY/recordings/1-1?WINDOW" preload=auto></audio>
<img src="GATEWAY/recordings/1-1?WINDOW"><script src="GATEWAY/recordings/1-1?WINDOW"></script>
<script>
(async () => {
  let read = 0;
  const attempt = (path, options) => fetch("GATEWAY" + path, options).then((a) => { if (a.type !== "opaque") read += 1; }).catch(() => {});
  const api = "/CCFS/resource/ccfs/getRecordFileUrlFromObs";
  await attempt("/recordings/1-1?WINDOW", { mode: "no-cors", credentials: "include" });
  await attempt("/recordings/1-1?WINDOW", { credentials: "include" });
  await attempt(api, { method: "POST", mode: "no-cors", credentials: "include", body: "BODY" });
  await attempt(api, { method: "POST", headers: { "Content-Type": "application/json" }, credentials: "include", body: "BODY" });
  document.getElementById("form").submit();
  await new Promise((ended) => { if (audio.error) ended(); audio.onerror = ended; audio.onplaying = ended; });
  await new Promise((landed) => { document.querySelector("iframe").onload = landed; setTimeout(landed, 2000); });
  document.title = "done " + read + " " + audio.error?.code;
})();
</script>"#;

const WINDOW: &str = "begin=2021-11-24%2016:25:03&end=2021-11-24%2017:25:11";

#[tokio::test]
#[ignore = "needs Debian's chromium and chromium-driver"]
async fn a_page_of_another_site_plays_nothing_by_the_certificate_of_its_visitor() {
    let authority = Authority::new("clients");
    let tables = caller("qa", "client_certificate = [\"CN=qa\"]");
    let mut site = Site::new(&authority, &tables);
    site.setup.listener = "playback = true".to_owned();
    let env = site.start().await;
    let (gateway, pin) = relay(&env, &authority.issue(&["CN=qa"])).await;
    let browser = Browser::start_with_pins(&[pin]).await;
    let attack = ATTACK
        .replace("GATEWAY", &gateway)
        .replace("WINDOW", WINDOW);
    let hostile = serve(format!("<!doctype html><title>begun</title><body>{attack}")).await;
    for host in ["127.0.0.1", "evil.example"] {
        browser.open(&format!("http://{host}:{hostile}/")).await;
        let title = async || browser.run("return document.title").await;
        eventually("the attack has ended", async || {
            title().await.as_str().unwrap().starts_with("done")
        })
        .await;
        // 4: MEDIA_ERR_SRC_NOT_SUPPORTED, the error of a source that gave nothing.
        assert_eq!(title().await, "done 0 4", "from {host}");
    }
    env.assert_no_upstream_request();
    let refused = || {
        let log = read(&env.file("access.log"));
        let whole = log.rsplit_once('\n').map_or("", |(lines, _)| lines);
        let lines = whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        let refused = lines.filter(|line: &Value| line["gw.caller"] == "qa");
        let statuses = refused.map(|line| line["http.response.status_code"].clone());
        statuses.collect::<Vec<_>>()
    };
    eventually("the log has them", async || refused().len() >= 10).await;
    assert!(
        refused().iter().all(|status| *status == 403),
        "{:?}",
        refused()
    );

    // The certificate itself is good: a page of the own site is led to the recording. Of what the gateway shows only
    // the answer to an illegal path is such a page; an answer to the certificate is of no site, and asks for nothing.
    let own = format!(
        "return fetch('{gateway}/recordings/1-1?{WINDOW}', {{ redirect: 'manual' }}).then((answer) => answer.type, () => 'forbidden')"
    );
    browser.open(&format!("{gateway}/")).await;
    assert_eq!(browser.run("return self.origin").await, "null");
    assert_eq!(browser.run(&own).await, "forbidden");
    env.assert_no_upstream_request();
    browser.open(&format!("{gateway}/a%2Fb")).await;
    assert_eq!(browser.run(&own).await, "opaqueredirect");
    env.sole_upstream_request();
}
