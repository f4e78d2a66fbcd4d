//! The access keys that a stand-in accepts: pairs on the command line, or a file of many.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use clap::error::ErrorKind;
use zeroize::Zeroizing;

use super::super::secret_key::{credential, read_secret_file};
use crate::auth::{Credential, Secret};
use crate::encoding;

/// Flags that name the sources of access keys.
#[derive(Args, Clone, Debug)]
pub(super) struct KeyArgs {
    /// Access key to accept; may be repeated, each with an --sk-file
    #[arg(long, required_unless_present = "keys", requires = "sk_file")]
    ak: Vec<String>,
    /// File with the secret key of the access key at the same position
    #[arg(long, value_name = "FILE", requires = "ak")]
    sk_file: Vec<PathBuf>,
    /// File of many keys, TOML `ak = "sk"` or JSON {"ak":"sk"}, readable by its owner only
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
}

impl KeyArgs {
    /// Reads the access keys of all sources; at least one.
    pub(super) fn read(&self) -> anyhow::Result<Vec<Arc<Credential>>> {
        if self.ak.len() != self.sk_file.len() {
            let text = "each --ak needs its --sk-file, and each --sk-file its --ak\n";
            bail!(clap::Error::raw(ErrorKind::WrongNumberOfValues, text));
        }
        let mut credentials = match &self.keys {
            Some(path) => read_keys(path)?,
            None => Vec::new(),
        };
        for (access_key, path) in self.ak.iter().zip(&self.sk_file) {
            credentials.push(credential(access_key, read_secret_file(path)?)?);
        }
        if credentials.is_empty() {
            bail!("no access key: the file is empty");
        }
        Ok(credentials)
    }
}

/// Reads a file of keys. No error quotes a line of the file: each line holds a secret.
fn read_keys(path: &Path) -> anyhow::Result<Vec<Arc<Credential>>> {
    let shown = path.display();
    let read_error = || format!("cannot read the keys {shown}");
    let mode = fs::metadata(path)
        .with_context(read_error)?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        bail!("the keys {shown} can be read by others than their owner: chmod 600 {shown}");
    }
    let bytes = Zeroizing::new(fs::read(path).with_context(read_error)?);
    let text =
        encoding::decode(&bytes).map_err(|wrong| anyhow::anyhow!("{}: {wrong}", read_error()))?;
    let keys: Option<BTreeMap<String, String>> = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).ok()
    } else {
        toml::from_str(text).ok()
    };
    let Some(keys) = keys else {
        bail!("the keys {shown} are neither TOML `ak = \"sk\"` nor JSON {{\"ak\":\"sk\"}}");
    };
    keys.into_iter()
        .map(|(access_key, secret)| {
            if secret.is_empty() {
                bail!("the keys {shown}: the secret of {access_key} is empty");
            }
            credential(&access_key, Secret::new(secret.into_bytes()))
        })
        .collect()
}
