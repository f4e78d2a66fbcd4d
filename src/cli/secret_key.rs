//! Reads secret keys from a file or the environment. The command line is not an option: every process
//! on the machine can read it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use clap::error::ErrorKind;

use crate::auth::{AccessKey, Credential, Secret};
use crate::config::secret_text;

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

/// Reads a secret from a file, without a byte-order mark and one trailing line end.
pub(super) fn read_secret_file(path: &Path) -> anyhow::Result<Secret> {
    let shown = path.display();
    let bytes =
        std::fs::read(path).with_context(|| format!("cannot read the secret key file {shown}"))?;
    match secret_text::parse(bytes) {
        Ok(secret) => Ok(Secret::new(secret.bytes)),
        Err((message, help)) => bail!("the secret key file {shown}: {message}; {help}"),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "an edge: the variable is named on the command line"
)]
fn read_environment(name: &str) -> anyhow::Result<Secret> {
    match std::env::var(name) {
        Ok(secret) => match secret_text::parse(secret.into_bytes()) {
            Ok(secret) => Ok(Secret::new(secret.bytes)),
            Err((message, help)) => bail!("the environment variable {name}: {message}; {help}"),
        },
        // The error for a variable that is not UTF-8 would print its value.
        Err(_) => bail!("the environment variable {name} holds no secret key"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_and_one_line_end_are_ignored() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (content, secret) in [
            ("a b", "a b"),
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
            ("\u{feff}a\n", "a"),
        ] {
            std::fs::write(file.path(), content).unwrap();
            assert!(read_secret_file(file.path()).unwrap() == Secret::new(secret.into()));
        }
        for content in ["\n", " \n", "a\0b", "\u{feff}", "s\0k\0"] {
            std::fs::write(file.path(), content).unwrap();
            assert!(read_secret_file(file.path()).is_err(), "{content:?}");
        }
    }
}
