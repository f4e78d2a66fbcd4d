//! Reads secret keys from a file or the environment. The command line is not an option: every process
//! on the machine can read it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use clap::error::ErrorKind;

use crate::auth::{AccessKey, Credential, Secret};

/// Flags that name the source of a secret key.
#[derive(Args, Clone, Debug)]
#[group(multiple = false)]
pub(super) struct SecretKey {
    /// File that holds the secret key; one trailing line end is ignored
    #[arg(long, value_name = "FILE")]
    sk_file: Option<PathBuf>,
    /// Environment variable that holds the secret key
    #[arg(long, value_name = "NAME")]
    sk_env: Option<String>,
}

impl SecretKey {
    /// Reads the key; a usage error if no flag was given.
    pub(super) fn read(&self) -> anyhow::Result<Secret> {
        let text = "no secret key: give --sk-file FILE or --sk-env NAME\n";
        let missing = || clap::Error::raw(ErrorKind::MissingRequiredArgument, text);
        Ok(self.read_optional()?.ok_or_else(missing)?)
    }

    /// Reads the key; `None` if no flag was given.
    pub(super) fn read_optional(&self) -> anyhow::Result<Option<Secret>> {
        match (&self.sk_file, &self.sk_env) {
            (Some(path), _) => read_secret_file(path).map(Some),
            (None, Some(name)) => read_environment(name).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Reads the key and returns the credential of `access_key`.
    pub(super) fn credential(&self, access_key: &str) -> anyhow::Result<Arc<Credential>> {
        credential(access_key, self.read()?)
    }
}

/// Returns the credential of `access_key` with one secret.
pub(super) fn credential(access_key: &str, secret: Secret) -> anyhow::Result<Arc<Credential>> {
    if !AccessKey::is_well_formed(access_key) {
        bail!("{access_key:?} is not an access key");
    }
    Ok(Arc::new(Credential::new(
        AccessKey::from(access_key),
        vec![secret],
        true,
    )))
}

/// Reads a secret from a file, without one trailing line end.
pub(super) fn read_secret_file(path: &Path) -> anyhow::Result<Secret> {
    let mut bytes = std::fs::read(path)
        .with_context(|| format!("cannot read the secret key file {}", path.display()))?;
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    if bytes.is_empty() {
        bail!("the secret key file {} is empty", path.display());
    }
    Ok(Secret::new(bytes))
}

#[expect(
    clippy::disallowed_methods,
    reason = "an edge: the variable is named on the command line"
)]
fn read_environment(name: &str) -> anyhow::Result<Secret> {
    match std::env::var(name) {
        Ok(secret) if !secret.is_empty() => Ok(Secret::new(secret.into_bytes())),
        // The error for a variable that is not UTF-8 would print its value.
        _ => bail!("the environment variable {name} holds no secret key"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_trailing_line_end_is_ignored() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (content, secret) in [
            ("a b", "a b"),
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
        ] {
            std::fs::write(file.path(), content).unwrap();
            assert!(read_secret_file(file.path()).unwrap() == Secret::new(secret.into()));
        }
        std::fs::write(file.path(), "\n").unwrap();
        assert!(read_secret_file(file.path()).is_err());
    }
}
