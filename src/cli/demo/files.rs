//! The files that a configuration names, thrown away afterwards: certificates and secrets.

use std::io::Write;
use std::path::Path;

use anyhow::Context;

use crate::stand_in::certificates::{Authority, NAMES, write_secret};

/// Access keys of the demo and of `config/gateway.toml`: the first in China, the second in Berlin.
pub(super) const ACCESS_KEYS: [&str; 2] = ["279a08bbd8d949a0", "5c1f0f7d2a6e4b3c"];

/// The authority of all certificates, in the folder `tls`.
pub(super) const AUTHORITY: &str = "ccfs-ca.pem";

/// Writes certificates of gateway and nodes, their authority, and a secret for each access key.
pub(super) fn write(directory: &Path) -> anyhow::Result<()> {
    let (tls, secrets) = (directory.join("tls"), directory.join("secrets"));
    for folder in [&tls, &secrets] {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let authority = Authority::new()?;
    authority.write(&tls.join(AUTHORITY))?;
    for name in ["gateway", "node"] {
        let certificate = tls.join(format!("{name}.pem"));
        authority
            .issue(&NAMES)?
            .write(&certificate, &certificate.with_extension("key"))?;
    }
    for access_key in ACCESS_KEYS {
        let secret = format!(
            "{:032x}{:032x}",
            rand::random::<u128>(),
            rand::random::<u128>()
        );
        write_secret(&secrets.join(access_key), secret.as_bytes())?;
    }
    Ok(())
}

/// `demo --make-files`: writes them where `config/gateway.toml` looks for them, and says how to go on.
pub(super) fn make(directory: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    write(directory)?;
    let dir = directory.display();
    let ak = ACCESS_KEYS[0];
    writeln!(
        out,
        "made {dir}/tls and {dir}/secrets; now start three nodes, the gateway, and ask:\n"
    )?;
    let [one, two] = ACCESS_KEYS.map(|ak| format!("--ak {ak} --sk-file {dir}/secrets/{ak}"));
    writeln!(
        out,
        "for port in 18443 18444 18445; do ccfs-gateway stand-in --bind 127.0.0.1:$port \\\n  \
         {one} \\\n  {two} \\\n  \
         --certificate {dir}/tls/node.pem --private-key {dir}/tls/node.key & done"
    )?;
    writeln!(out, "ccfs-gateway run --config {dir}/gateway.toml &")?;
    writeln!(
        out,
        "ccfs-gateway call https://127.0.0.1:28443 --ca {dir}/tls/{AUTHORITY} \\\n  \
         --ak {ak} --sk-file {dir}/secrets/{ak} \\\n  --call-id 1637742300-27 \
         --begin '2021-11-24 16:25:03' --end '2021-11-24 17:25:11'"
    )?;
    Ok(())
}
