//! Temporary certificates and secrets for the demo and for `config/gateway.toml`.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, bail};

use crate::stand_in::certificates::{CertificateAuthority, SERVER_NAMES, write_private_file};

/// Access keys of the demo and of `config/gateway.toml`: the first of a tenant in Asia/Shanghai, the
/// second of a tenant in Europe/Berlin.
pub(super) const ACCESS_KEYS: [&str; 2] = ["279a08bbd8d949a0", "5c1f0f7d2a6e4b3c"];

/// File name of the CA certificate, in the folder `tls`.
pub(super) const CA_FILE: &str = "ccfs-ca.pem";

/// Writes certificates of gateway and nodes, their CA certificate, and a secret per access key.
pub(super) fn write_files(directory: &Path) -> anyhow::Result<()> {
    let (tls, secrets) = (directory.join("tls"), directory.join("secrets"));
    for folder in [&tls, &secrets] {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    fs::set_permissions(&secrets, Permissions::from_mode(0o700))
        .with_context(|| format!("cannot close the folder {}", secrets.display()))?;
    let authority = CertificateAuthority::new()?;
    authority.write_certificate(&tls.join(CA_FILE))?;
    for name in ["gateway", "node"] {
        let certificate = tls.join(format!("{name}.pem"));
        authority
            .issue(&SERVER_NAMES)?
            .write(&certificate, &certificate.with_extension("key"))?;
    }
    for access_key in ACCESS_KEYS {
        let secret = format!(
            "{:032x}{:032x}",
            rand::random::<u128>(),
            rand::random::<u128>()
        );
        write_private_file(&secrets.join(access_key), secret.as_bytes())?;
    }
    Ok(())
}

/// Returns the names of all files that [`write_files`] creates.
fn file_names() -> impl Iterator<Item = String> {
    let tls = [
        CA_FILE,
        "gateway.pem",
        "gateway.key",
        "node.pem",
        "node.key",
    ];
    let tls = tls.into_iter().map(|name| format!("tls/{name}"));
    tls.chain(ACCESS_KEYS.map(|ak| format!("secrets/{ak}")))
}

/// Runs `demo --make-files`: writes the files where `config/gateway.toml` expects them, and prints the
/// next commands.
pub(super) fn make_files(
    directory: &Path,
    force: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let existing: Vec<_> = file_names()
        .map(|name| directory.join(name))
        .filter(|path| path.exists())
        .map(|path| path.display().to_string())
        .collect();
    if !existing.is_empty() && !force {
        bail!(
            "nothing was written: these files exist: {}; --force overwrites them",
            existing.join(", ")
        );
    }
    write_files(directory)?;
    let dir = directory.display();
    let ak = ACCESS_KEYS[0];
    writeln!(
        out,
        "created {dir}/tls and {dir}/secrets; now start three nodes, the gateway, and send a request:\n"
    )?;
    let [one, two] = ACCESS_KEYS.map(|ak| format!("--ak {ak} --sk-file {dir}/secrets/{ak}"));
    writeln!(
        out,
        "for port in 18443 18444 18445; do ccfs-gateway stand-in --bind 127.0.0.1:$port \\\n  \
         {one} \\\n  {two} \\\n  \
         --certificate {dir}/tls/node.pem --private-key {dir}/tls/node.key & done"
    )?;
    if directory.join("gateway.toml").exists() {
        writeln!(out, "ccfs-gateway run --config {dir}/gateway.toml &")?;
    } else {
        writeln!(
            out,
            "# there is no {dir}/gateway.toml: put the project's config/gateway.toml there,\n\
             # and start the gateway with it"
        )?;
    }
    writeln!(
        out,
        "ccfs-gateway call https://127.0.0.1:28443 --ca {dir}/tls/{CA_FILE} \\\n  \
         --ak {ak} --sk-file {dir}/secrets/{ak} \\\n  --call-id 1637742300-27 \
         --begin '2021-11-24 16:25:03' --end '2021-11-24 17:25:11'"
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn existing_files_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secrets").join(ACCESS_KEYS[0]);
        let mut out = Vec::new();
        make_files(folder.path(), false, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            !text.contains("run --config") && text.contains("there is no"),
            "{text}"
        );
        assert!(file_names().all(|name| folder.path().join(name).exists()));
        let mode = fs::metadata(folder.path().join("secrets"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);

        let before = fs::read(&secret).unwrap();
        let error = make_files(folder.path(), false, &mut Vec::new())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("tls/gateway.key") && error.contains(ACCESS_KEYS[1]),
            "{error}"
        );
        assert_eq!(fs::read(&secret).unwrap(), before);

        fs::write(folder.path().join("gateway.toml"), "").unwrap();
        let mut out = Vec::new();
        make_files(folder.path(), true, &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("run --config"));
        assert_ne!(fs::read(&secret).unwrap(), before);
    }
}
