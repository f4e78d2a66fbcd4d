//! The settings of callers without a secret key.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::{Rate, Validity};
use crate::auth::{AccessKey, AppCredential, Secret, TokenRules};
use crate::tls::CertificateName;

/// A client without a secret key, for which the gateway signs.
#[derive(Clone, Debug, PartialEq)]
pub struct CallerSettings {
    /// Its name, for people.
    pub name: Arc<str>,
    /// The access key that its requests are signed as. It may have been removed from a file of
    /// `access_keys_dir`: then the caller gets 401.
    pub access_key: AccessKey,
    /// The client certificates that identify it.
    pub client_certificate: Vec<CertificateName>,
    /// Its API keys.
    pub api_keys: Vec<Secret>,
    /// What its JSON Web Tokens must be.
    pub jwt: Option<Arc<TokenRules>>,
    /// The app whose signatures are its own.
    pub sdk_hmac: Option<AppCredential>,
    /// The listeners on which it may ask.
    pub listeners: BTreeSet<Arc<str>>,
    /// The names of the interfaces that it may use.
    pub interfaces: Vec<&'static str>,
    /// Rate of its requests that reach a node; `None` is unlimited.
    pub rate_limit: Option<Rate>,
    /// Rate of all its requests, cache hits included; `None` is unlimited.
    pub ceiling: Option<Rate>,
    /// Its concurrent requests, at least 1; `None` is a quarter of the access key's.
    pub in_flight: Option<usize>,
    /// Whether it is served at all.
    pub enabled: bool,
    /// When it is served.
    pub validity: Validity,
}

impl CallerSettings {
    /// Returns its secrets.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let app = self.sdk_hmac.iter().map(|app| &app.app_secret);
        self.api_keys.iter().chain(app)
    }

    /// Whether it may use the interface of this name.
    pub fn may_use(&self, interface: &str) -> bool {
        self.interfaces.contains(&interface)
    }
}

/// Returns the keys by which client certificates identify these callers.
pub fn pinned_keys<'a>(
    callers: impl Iterator<Item = &'a Arc<CallerSettings>>,
) -> HashSet<CertificateName> {
    let names = callers.flat_map(|caller| &caller.client_certificate);
    names.filter(|name| !name.is_issued()).cloned().collect()
}
