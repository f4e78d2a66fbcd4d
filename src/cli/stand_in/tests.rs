use std::fs;
use std::os::unix::fs::PermissionsExt;

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    args: StandInArgs,
}

struct Started {
    stand_in: StandIn,
    /// The other nodes, with several `--bind`.
    others: Vec<StandIn>,
    out: String,
}

async fn start_with(arguments: &[&str]) -> anyhow::Result<Started> {
    let args = Program::try_parse_from([&["stand-in"], arguments].concat())?.args;
    let mut out = Vec::new();
    let mut others = start(&args, &mut out, &mut io::sink()).await?;
    let stand_in = others.remove(0);
    let out = String::from_utf8(out)?;
    Ok(Started {
        stand_in,
        others,
        out,
    })
}

#[test]
fn the_command_line_is_consistent() {
    <Program as clap::CommandFactory>::command().debug_assert();
}

#[tokio::test]
async fn the_address_is_printed_before_the_ca_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (sk, ca) = (path("sk"), path("ca.pem"));
    fs::write(&sk, "secret").unwrap();
    let started = start_with(&["--ak", "a", "--sk-file", &sk]).await.unwrap();
    let (first, rest) = started.out.split_once('\n').unwrap();
    assert_eq!(first.parse(), Ok(started.stand_in.address()));
    assert!(rest.starts_with("-----BEGIN CERTIFICATE"));
    let faulty = [
        "--ak",
        "a",
        "--sk-file",
        &sk,
        "--ca-out",
        &ca,
        "--delay",
        "1ms",
        "--fault",
        "hang=3",
    ];
    let started = start_with(&faulty).await.unwrap();
    assert_eq!(started.out.lines().count(), 1);
    assert!(fs::read_to_string(&ca).unwrap().contains("CERTIFICATE"));
}

#[tokio::test]
async fn a_certificate_needs_its_own_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("sk"), "secret").unwrap();
    let authority = CertificateAuthority::new().unwrap();
    for name in ["a", "b"] {
        let issued = authority.issue(&["localhost"]).unwrap();
        let (certificate, key) = (path(&format!("{name}.pem")), path(&format!("{name}.key")));
        issued.write(certificate.as_ref(), key.as_ref()).unwrap();
    }
    let (sk, certificate) = (path("sk"), path("a.pem"));
    let usual = [
        "--ak",
        "a",
        "--sk-file",
        &sk,
        "--certificate",
        &certificate,
        "--private-key",
    ];
    let right = start_with(&[&usual[..], &[&path("a.key")]].concat())
        .await
        .unwrap();
    assert_eq!(right.out.lines().count(), 1);
    assert!(
        start_with(&[&usual[..], &[&path("b.key")]].concat())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_file_of_keys_is_private_and_never_printed() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let mode = |mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for (text, fits) in [
        ("a = \"hidden\"\nb = \"hidden\"", true),
        ("{\"a\":\"hidden\"}", true),
        ("a = hidden", false),
        ("a = \"\"", false),
        ("{\"a\":\"hidden\"", false),
        ("", false),
    ] {
        fs::write(path, text).unwrap();
        mode(0o600);
        match start_with(&["--keys", path]).await {
            Ok(_) => assert!(fits, "{text}"),
            Err(error) => assert!(
                !fits && !format!("{error:?}").contains("hidden"),
                "{error:?}"
            ),
        }
        mode(0o640);
        assert!(start_with(&["--keys", path]).await.is_err());
    }
}

#[tokio::test]
async fn keys_come_in_pairs() {
    for wrong in [
        &[][..],
        &["--ak", "a"],
        &["--ak", "a", "--ak", "b", "--sk-file", "c"],
    ] {
        let error = start_with(wrong).await.err().unwrap();
        assert!(error.is::<clap::Error>(), "{error}");
    }
}

#[tokio::test]
async fn several_addresses_are_several_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let sk = dir.path().join("sk");
    fs::write(&sk, "secret").unwrap();
    let bind = ["--bind", "127.0.0.1:0"];
    let keys = ["--ak", "a", "--sk-file", sk.to_str().unwrap()];
    let started = start_with(&[bind, bind, [keys[0], keys[1]], [keys[2], keys[3]]].concat())
        .await
        .unwrap();
    let addresses: Vec<_> = started.others.iter().map(StandIn::address).collect();
    let printed: Vec<_> = started
        .out
        .lines()
        .take(2)
        .map(|it| it.parse::<SocketAddr>().unwrap())
        .collect();
    assert_eq!(printed, [started.stand_in.address(), addresses[0]]);
    assert_ne!(printed[0], printed[1]);
}
