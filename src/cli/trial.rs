//! Files to try the gateway with, and the commands that use them: temporary certificates of the gateway and
//! of stand-in nodes, their CA certificate, and a random secret per access key.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::stand_in::certificates::{CertificateAuthority, SERVER_NAMES, write_private_file};

/// Access keys of the demo and of `config/gateway.toml`: the first of a tenant in Asia/Shanghai, the
/// second of a tenant in Europe/Berlin. `init` uses the first.
pub(super) const ACCESS_KEYS: [&str; 2] = ["279a08bbd8d949a0", "5c1f0f7d2a6e4b3c"];

/// The files of one directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct TrialFiles<'a> {
    directory: &'a Path,
    access_keys: &'a [&'a str],
}

impl<'a> TrialFiles<'a> {
    /// Names the files for `access_keys` in `directory`; writes nothing.
    pub(super) fn new(directory: &'a Path, access_keys: &'a [&'a str]) -> Self {
        Self {
            directory,
            access_keys,
        }
    }

    /// Returns the CA certificate that clients and gateway trust.
    pub(super) fn ca(&self) -> PathBuf {
        self.directory.join("tls/ccfs-ca.pem")
    }

    /// Returns the certificate and the private key of the nodes.
    pub(super) fn node(&self) -> (PathBuf, PathBuf) {
        let tls = self.directory.join("tls");
        (tls.join("node.pem"), tls.join("node.key"))
    }

    /// Returns the file with the secret of an access key.
    pub(super) fn secret(&self, access_key: &str) -> PathBuf {
        self.directory.join("secrets").join(access_key)
    }

    /// Returns the paths of all files.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        let tls = [
            "ccfs-ca.pem",
            "gateway.pem",
            "gateway.key",
            "node.pem",
            "node.key",
        ];
        let tls = tls
            .into_iter()
            .map(|name| self.directory.join("tls").join(name));
        let secrets = self.access_keys.iter().map(|ak| self.secret(ak));
        tls.chain(secrets).collect()
    }

    /// Writes all files, replacing existing ones. Creates the directory, but not its parent.
    pub(super) fn write(&self) -> anyhow::Result<()> {
        let (tls, secrets) = (self.directory.join("tls"), self.directory.join("secrets"));
        for folder in [self.directory, &tls, &secrets] {
            create_directory(folder)?;
        }
        fs::set_permissions(&secrets, Permissions::from_mode(0o700))
            .with_context(|| format!("cannot close the directory {}", secrets.display()))?;
        let authority = CertificateAuthority::new()?;
        let problem = || format!("cannot write to {}", tls.display());
        authority
            .write_certificate(&self.ca())
            .with_context(problem)?;
        for name in ["gateway", "node"] {
            let certificate = tls.join(format!("{name}.pem"));
            authority
                .issue(&SERVER_NAMES)?
                .write(&certificate, &certificate.with_extension("key"))
                .with_context(problem)?;
        }
        for access_key in self.access_keys {
            let (one, two) = (rand::random::<u128>(), rand::random::<u128>());
            let path = self.secret(access_key);
            write_private_file(&path, format!("{one:032x}{two:032x}").as_bytes())
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// Returns the command that starts a stand-in node at each of `addresses`, as lines for a shell.
    pub(super) fn stand_in_command(&self, addresses: &[&str]) -> String {
        let (certificate, key) = self.node();
        let mut lines = vec![format!("{} stand-in", program())];
        lines.extend(addresses.iter().map(|it| format!("--bind {it}")));
        for access_key in self.access_keys {
            let secret = quote(self.secret(access_key));
            lines.push(format!("--ak {access_key} --sk-file {secret}"));
        }
        lines.push(format!("--certificate {}", quote(certificate)));
        lines.push(format!("--private-key {}", quote(key)));
        shell_lines(&lines)
    }

    /// Returns the command that asks the gateway at `url` for a recording, as lines for a shell.
    pub(super) fn call_command(&self, url: &str, call_id: &str) -> String {
        let ak = self.access_keys.first().copied().unwrap_or_default();
        shell_lines(&[
            format!("{} call {url} --ca {}", program(), quote(self.ca())),
            format!("--ak {ak} --sk-file {}", quote(self.secret(ak))),
            format!("--call-id {call_id}"),
            "--begin '2021-11-24 16:25:03' --end '2021-11-24 17:25:11'".to_owned(),
        ])
    }
}

/// Returns how this program was called: as a user can call it again from the same directory.
pub(super) fn program() -> String {
    let name = std::env::args_os().next();
    quote(name.unwrap_or_else(|| "ccfs-gateway".into()))
}

/// Returns a word for a POSIX shell, quoted if it has to be.
pub(super) fn quote(word: impl AsRef<OsStr>) -> String {
    let word = word.as_ref().to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Joins the parts of a command to lines of at most 76 columns where they allow it.
fn shell_lines(parts: &[String]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if line.len() + part.len() < LINE => {
                line.push(' ');
                line.push_str(part);
            }
            Some(_) => lines.push(format!("  {part}")),
            None => lines.push(part.clone()),
        }
    }
    lines.join(" \\\n")
}

/// Creates a directory unless it exists. Its parent must exist, so that a mistyped path creates nothing.
fn create_directory(path: &Path) -> anyhow::Result<()> {
    match fs::create_dir(path) {
        Err(_) if path.is_dir() => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let parent = path.parent().unwrap_or(path).display();
            bail!("there is no directory {parent}: create it first, or name another one")
        }
        created => {
            created.with_context(|| format!("cannot create the directory {}", path.display()))
        }
    }
}

/// Columns of a printed command, without its indentation.
const LINE: usize = 76;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quote("/tmp/a-b_c.d"), "/tmp/a-b_c.d");
        assert_eq!(quote(""), "''");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), r"'it'\''s'");
    }

    #[test]
    fn a_command_is_broken_between_its_parts() {
        let parts = ["a".repeat(40), "b".repeat(30), "c".repeat(30)];
        let lines = shell_lines(&parts);
        let expected = format!("{} {} \\\n  {}", parts[0], parts[1], parts[2]);
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_directory_is_created_but_not_its_parent() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("a/b");
        let error = TrialFiles::new(&directory, &ACCESS_KEYS)
            .write()
            .unwrap_err();
        assert!(
            error.to_string().starts_with("there is no directory"),
            "{error:#}"
        );
        assert!(!folder.path().join("a").exists());

        let directory = folder.path().join("b");
        let files = TrialFiles::new(&directory, &ACCESS_KEYS);
        files.write().unwrap();
        assert!(files.paths().iter().all(|path| path.is_file()));
        let mode = |path: &str| {
            let found = fs::metadata(directory.join(path)).unwrap();
            found.permissions().mode() & 0o777
        };
        assert_eq!((mode("secrets"), mode("tls/gateway.key")), (0o700, 0o600));
    }
}
