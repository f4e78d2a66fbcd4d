//! Certificates of real nodes, made by openssl and keytool and presented by openssl: which ones are
//! trusted, and what `check --connect` says about each.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::process::PROGRAM;

/// A node: a server of openssl with one certificate.
struct Node {
    server: Child,
    port: u16,
}

impl Node {
    /// Presents `NAME.pem` with `NAME.key` of the folder.
    fn present(folder: &Path, name: &str, version: &str) -> Self {
        let mut command = Command::new("openssl");
        command
            .current_dir(folder)
            .args(["s_server", "-accept", "127.0.0.1:0", "-www", version])
            .args([
                "-cert",
                &format!("{name}.pem"),
                "-key",
                &format!("{name}.key"),
            ])
            // What old nodes have: RSA of 1,024 bits, MD5, SHA-1.
            .args(["-cipher", "DEFAULT@SECLEVEL=0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut server = command.spawn().unwrap();
        let lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let accept = lines
            .map_while(Result::ok)
            .find_map(|line| Some(line.strip_prefix("ACCEPT ")?.rsplit_once(':')?.1.to_owned()));
        let port = accept.expect("openssl listens").parse().unwrap();
        Self { server, port }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn run(folder: &Path, program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program)
        .current_dir(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    output
}

/// Makes a self-signed `NAME.pem` with `NAME.key`; `more` are arguments of `openssl req -x509`.
fn self_signed(folder: &Path, name: &str, more: &[&str]) {
    let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
    let mut arguments = vec!["req", "-x509", "-nodes", "-days", "90", "-subj", "/CN=CCFS"];
    arguments.extend(["-keyout", &key, "-out", &certificate]);
    if !more.contains(&"-newkey") && !more.contains(&"-key") {
        arguments.extend(["-newkey", "rsa:2048"]);
    }
    arguments.extend(more);
    run(folder, "openssl", &arguments);
}

/// Makes `NAME.pem` of an existing key, signed by `issuer`; of X.509 version 1 without `extensions`.
fn signed_by(folder: &Path, name: &str, issuer: &str, extensions: Option<&str>) {
    let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
    let request = format!("{name}.csr");
    let subject = if issuer == name {
        "/CN=CCFS"
    } else {
        "/CN=CCFS node"
    };
    let make = [
        "req", "-new", "-key", &key, "-subj", subject, "-out", &request,
    ];
    run(folder, "openssl", &make);
    let (ca, ca_key) = (format!("{issuer}.pem"), format!("{issuer}.key"));
    let mut sign = vec![
        "x509",
        "-req",
        "-in",
        &request,
        "-out",
        &certificate,
        "-days",
        "90",
    ];
    if issuer == name {
        sign.extend(["-signkey", &key]);
    } else {
        sign.extend(["-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial"]);
    }
    let file = format!("{name}.ext");
    if let Some(extensions) = extensions {
        std::fs::write(folder.join(&file), extensions).unwrap();
        sign.extend(["-extfile", &file]);
    }
    run(folder, "openssl", &sign);
}

/// Makes `NAME.pem` and `NAME.key` as Java tools do: without basic constraints.
fn by_keytool(folder: &Path, name: &str, more: &[&str]) {
    let (store, both) = (format!("{name}.p12"), format!("{name}.pem"));
    let mut make = vec![
        "-genkeypair",
        "-alias",
        "node",
        "-dname",
        "CN=CCFS",
        "-keyalg",
        "RSA",
    ];
    make.extend([
        "-ext",
        "SAN=ip:127.0.0.1",
        "-storetype",
        "PKCS12",
        "-keystore",
        &store,
    ]);
    make.extend(["-storepass", "changeit"]);
    make.extend(more);
    run(folder, "keytool", &make);
    let take = [
        "pkcs12",
        "-in",
        &store,
        "-nodes",
        "-passin",
        "pass:changeit",
        "-out",
        &both,
    ];
    run(folder, "openssl", &take);
    std::fs::copy(folder.join(&both), folder.join(format!("{name}.key"))).unwrap();
}

/// Returns the pin as the documentation of curl tells to make it.
fn pin_by_openssl(folder: &Path, name: &str) -> String {
    let script = format!(
        "openssl x509 -in {name}.pem -noout -pubkey | openssl pkey -pubin -outform DER \
         | openssl dgst -sha256 -binary | openssl base64"
    );
    let code = run(folder, "sh", &["-c", &script]).stdout;
    format!("sha256/{}", String::from_utf8(code).unwrap().trim())
}

/// Makes all certificates.
fn make_all(folder: &Path) {
    let san = ["-addext", "subjectAltName=IP:127.0.0.1"];
    let with_san = |name, more: &[&str]| self_signed(folder, name, &[&san, more].concat());
    with_san("ca_true", &[]);
    with_san(
        "ca_false",
        &["-addext", "basicConstraints=critical,CA:FALSE"],
    );
    with_san("other", &[]);
    self_signed(
        folder,
        "misnamed",
        &["-addext", "subjectAltName=DNS:other.test"],
    );
    self_signed(folder, "unnamed", &[]);
    self_signed(
        folder,
        "broken_san",
        &["-addext", "subjectAltName=DER:0500"],
    );
    with_san("critical", &["-addext", "1.2.3.4=critical,DER:0500"]);
    with_san("rsa_1024", &["-newkey", "rsa:1024"]);
    with_san("md5", &["-md5"]);
    with_san("sha1", &["-sha1"]);
    with_san(
        "rsa_pss",
        &["-newkey", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048"],
    );
    with_san(
        "p521",
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"],
    );
    with_san("ed25519", &["-newkey", "ed25519"]);
    by_keytool(folder, "java", &["-keysize", "2048"]);
    by_keytool(folder, "expired", &["-startdate", "-9d", "-validity", "3"]);
    // Renewed with the same key, and of version 1.
    for (name, from) in [
        ("renewed", "ca_false"),
        ("version_1", "rsa_1024"),
        ("issued", "other"),
    ] {
        let copy = |to: &str| std::fs::copy(folder.join(format!("{from}.key")), folder.join(to));
        copy(&format!("{name}.key")).unwrap();
    }
    let extensions = "subjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE";
    signed_by(folder, "renewed", "renewed", Some(extensions));
    signed_by(folder, "version_1", "version_1", None);
    signed_by(folder, "issued", "ca_true", Some(extensions));
    let authority = "subjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:TRUE";
    std::fs::copy(folder.join("other.key"), folder.join("sub_ca.key")).unwrap();
    signed_by(folder, "sub_ca", "ca_true", Some(authority));
}

/// One row: what is presented, how it is trusted, and the reason of the refusal, or `""`.
type Row = (&'static str, &'static str, &'static str);

/// `PIN:NAME` stands for the pin of a certificate.
const ROWS: &[Row] = &[
    ("ca_true", "ca = \"ca_true.pem\"", ""),
    ("ca_false", "ca = \"ca_false.pem\"", ""),
    ("java", "ca = \"java.pem\"", ""),
    ("issued", "ca = \"ca_true.pem\"", ""),
    ("p521", "ca = \"p521.pem\"", ""),
    ("ed25519", "ca = \"ed25519.pem\"", ""),
    ("md5", "ca = \"md5.pem\"", ""),
    ("sha1", "ca = \"sha1.pem\"", ""),
    (
        "issued",
        "ca = \"java.pem\"",
        "signed by no authority in ca",
    ),
    (
        "issued",
        "ca = \"other.pem\"",
        "signed by no authority in ca, though one has the name",
    ),
    (
        "sub_ca",
        "ca = \"ca_true.pem\"",
        "it is an authority's own, and is not itself in ca",
    ),
    (
        "renewed",
        "ca = \"ca_false.pem\"",
        "it is not in ca, though an older one with its key is",
    ),
    (
        "misnamed",
        "ca = \"misnamed.pem\"",
        "it is for other.test, not for 127.0.0.1",
    ),
    (
        "misnamed",
        "ca = \"misnamed.pem\", server_name = \"other.test\"",
        "",
    ),
    (
        "unnamed",
        "ca = \"unnamed.pem\"",
        "it is for no alternative name, not for 127.0.0.1",
    ),
    (
        "broken_san",
        "ca = \"broken_san.pem\"",
        "it is no readable X.509 certificate",
    ),
    ("expired", "ca = \"expired.pem\"", "expired"),
    ("rsa_1024", "ca = \"rsa_1024.pem\"", "its key is RSA 1024"),
    ("rsa_pss", "ca = \"rsa_pss.pem\"", "its key is RSA-PSS 2048"),
    ("version_1", "ca = \"version_1.pem\"", "its key is RSA 1024"),
    (
        "critical",
        "ca = \"critical.pem\"",
        "it has an unknown critical extension",
    ),
    ("ca_true", "pins = [\"PIN:ca_true\"]", ""),
    (
        "ca_true",
        "pins = [\"PIN:other\"]",
        "its key is not one of pins",
    ),
    ("renewed", "pins = [\"PIN:ca_false\"]", ""),
    (
        "other",
        "pins = [\"PIN:ca_false\"]",
        "its key is not one of pins",
    ),
    (
        "misnamed",
        "pins = [\"PIN:misnamed\"], ca = \"misnamed.pem\"",
        "",
    ),
    (
        "expired",
        "pins = [\"PIN:expired\"], ca = \"expired.pem\"",
        "expired",
    ),
    ("expired", "pins = [\"PIN:expired\"]", ""),
    ("unnamed", "pins = [\"PIN:unnamed\"]", ""),
    ("broken_san", "pins = [\"PIN:broken_san\"]", ""),
    ("critical", "pins = [\"PIN:critical\"]", ""),
    ("rsa_1024", "pins = [\"PIN:rsa_1024\"]", ""),
    ("version_1", "pins = [\"PIN:version_1\"]", ""),
    ("rsa_pss", "pins = [\"PIN:rsa_pss\"]", ""),
    ("p521", "pins = [\"PIN:p521\"]", ""),
    ("ed25519", "pins = [\"PIN:ed25519\"]", ""),
    ("md5", "pins = [\"PIN:md5\"]", ""),
    ("version_1", "insecure_skip_verify = true", ""),
    ("rsa_1024", "insecure_skip_verify = true", ""),
    ("critical", "insecure_skip_verify = true", ""),
    ("md5", "insecure_skip_verify = true", ""),
    ("sha1", "insecure_skip_verify = true", ""),
    ("unnamed", "insecure_skip_verify = true", ""),
    ("broken_san", "insecure_skip_verify = true", ""),
    ("p521", "insecure_skip_verify = true", ""),
    ("rsa_pss", "insecure_skip_verify = true", ""),
    ("ed25519", "insecure_skip_verify = true", ""),
];

/// In TLS 1.2 rustls has neither the signature schemes of RSA-PSS keys nor the curve P-521, without which
/// openssl does not present such a key.
#[test]
#[ignore = "needs openssl and keytool"]
fn check_connect_says_what_each_node_presents() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    make_all(folder);
    std::fs::write(folder.join("sk"), "secret").unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let rows = ROWS
            .iter()
            .filter(|row| version != "-tls1_2" || !["rsa_pss", "p521"].contains(&row.0));
        let rows: Vec<_> = rows.collect();
        let mut nodes = std::collections::BTreeMap::new();
        for (presented, _, _) in &rows {
            let start = || Node::present(folder, presented, version);
            nodes.entry(*presented).or_insert_with(start);
        }
        let mut clusters = String::new();
        for (index, (presented, tls, _)) in rows.iter().enumerate() {
            let port = nodes[presented].port;
            let tls = match tls.split_once("PIN:") {
                None => (*tls).to_owned(),
                Some((before, rest)) => {
                    let (name, after) = rest.split_once('"').unwrap();
                    format!("{before}{}\"{after}", pin_by_openssl(folder, name))
                }
            };
            // Many handshakes at once on a busy machine take their time.
            clusters += &format!(
                "[clusters.c{index}]\nnodes = [\"https://127.0.0.1:{port}\"]\ntls = {{ {tls} }}\n\
                 timeouts = {{ connect = \"5s\" }}\n"
            );
        }
        let routes = (0..rows.len()).map(|index| format!("\"/{index}/\" = \"c{index}\""));
        let routes: Vec<_> = routes.collect();
        let text = format!(
            "[listeners.l]\nbind = \"127.0.0.1:0\"\nroutes = {{ {} }}\n\
             tls = {{ certificate = \"ca_true.pem\", private_key = \"ca_true.key\" }}\n{clusters}\
             [access_keys.a]\nsecret_key_file = \"sk\"\ntime_zone = \"Asia/Shanghai\"\n",
            routes.join(", ")
        );
        std::fs::write(folder.join("gateway.toml"), text).unwrap();
        let output = Command::new(PROGRAM)
            .current_dir(folder)
            .args(["check", "--connect", "--json", "gateway.toml"])
            .output()
            .unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["valid"], true, "{report:#}");
        assert_eq!(output.status.code(), Some(1), "some are refused");
        let reported = report["nodes"].as_array().unwrap();
        assert_eq!(reported.len(), rows.len());
        for (index, row) in rows.iter().enumerate() {
            let cluster = format!("c{index}");
            let node = reported.iter().find(|node| node["cluster"] == *cluster);
            check_row(row, node.unwrap(), folder);
        }
    }
}

fn check_row((presented, tls, refusal): &Row, node: &Value, folder: &Path) {
    let row = format!("{presented} with {tls}: {node:#}");
    assert_eq!(node["trusted"], refusal.is_empty(), "{row}");
    assert!(
        node["subject"].as_str().unwrap().contains("CN=CCFS"),
        "{row}"
    );
    assert_eq!(node["pin"], *pin_by_openssl(folder, presented), "{row}");
    let days = node["days_left"].as_i64().unwrap();
    assert_eq!(days < 0, *presented == "expired", "{row}");
    let cause = node["cause"].as_str().unwrap_or_default();
    if refusal.is_empty() {
        assert!(
            node["latency_ms"].as_f64().is_some() && node["tls"].is_string(),
            "{row}"
        );
        let vouches = ["ca_true", "java", "p521", "ed25519", "md5", "sha1"];
        let notes = (tls.contains("ca =") && !tls.contains("pins") && vouches.contains(presented))
            .then_some("vouches for others")
            .or(tls.contains("insecure").then_some("NOT VERIFIED"));
        if let Some(note) = notes {
            assert!(cause.contains(note) && cause.contains("pins = ["), "{row}");
        }
    } else {
        let expected = format!("certificate not trusted: {refusal}");
        assert!(cause.starts_with(&expected), "{row}");
        assert!(cause.contains("; right would be: "), "{row}");
    }
    for debug in ["Other(", "OtherError", "CaUsedAsEndEntity", "TrustError"] {
        assert!(!cause.contains(debug), "{row}");
    }
}
