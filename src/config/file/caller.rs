//! `[callers.NAME]`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ByName, OneOrMany, Rate, Setting};
use crate::config::spanned::Spanned;
use crate::config::units::ConfigTime;

/// A client without a secret key, for which the gateway signs.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Caller {
    /// The access key that its requests are signed as. The caller sees every recording of it.
    pub(in crate::config) access_key: Setting<String>,
    /// The client certificates that identify it: "CN=…", "DNS=…" or "URI=…" of a certificate that an authority
    /// of `client_ca` issued, or "sha256/…", the pin of the key of any certificate that the listener accepts.
    /// Compared whole.
    #[schemars(length(min = 1, max = 64))]
    pub(in crate::config) client_certificate: Option<Vec<Spanned<String>>>,
    /// Files that contain its API key, at least 32 characters: `Authorization: Bearer KEY`, or `X-Api-Key: KEY`. Up to
    /// two for rotation.
    pub(in crate::config) api_key_file: Option<Spanned<OneOrMany>>,
    /// The JSON Web Tokens that identify it: `Authorization: Bearer TOKEN`.
    pub(in crate::config) jwt: Option<Spanned<Jwt>>,
    /// The app whose SDK-HMAC-SHA256 signatures identify it, as the signers of Huawei's API gateway (APIG) make them.
    pub(in crate::config) sdk_hmac: Option<Spanned<SdkHmac>>,
    /// The listeners on which it may ask; by default all. Required with `client_certificate` where the
    /// `client_ca` of listeners differ.
    #[schemars(length(min = 1, max = 1_000))]
    pub(in crate::config) listeners: Option<Vec<Spanned<String>>>,
    /// The CC-FS interfaces that it may use.
    #[schemars(length(min = 1, max = 64))]
    pub(in crate::config) interfaces: Option<Vec<Spanned<String>>>,
    /// Rate of its requests that reach a node, besides the access key's; unlimited by default.
    pub(in crate::config) rate_limit: Option<Spanned<Rate>>,
    /// Rate of all its requests, besides the access key's; by default 20 times `rate_limit`, at least 1,000
    /// per second.
    pub(in crate::config) ceiling: Option<Spanned<Rate>>,
    /// Its concurrent requests, besides the access key's; by default a quarter of these.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) in_flight: Setting<usize>,
    /// False: its requests are rejected with 401.
    pub(in crate::config) enabled: Setting<bool>,
    /// Before this time it is treated as with `enabled = false`.
    pub(in crate::config) not_before: Setting<ConfigTime>,
    /// From this time on it is treated as with `enabled = false`.
    pub(in crate::config) not_after: Setting<ConfigTime>,
}

/// Which JSON Web Tokens identify a caller.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Jwt {
    /// A file with the public keys of the issuer as a JWK Set, at most 32: RSA of 2,048 to 4,096 bits (RS256), EC with
    /// P-256 (ES256), OKP with Ed25519 (EdDSA). Followed by its content; nothing is fetched.
    pub(in crate::config) jwks_file: Setting<String>,
    /// The `iss` of its tokens, compared exactly.
    pub(in crate::config) issuer: Setting<String>,
    /// The `aud` of its tokens, compared exactly; a token may list several.
    pub(in crate::config) audience: Setting<String>,
    /// Further claims that its tokens have: each equal to the text, or a list that holds it.
    pub(in crate::config) claims: Option<ByName<Spanned<String>>>,
}

/// An app with a secret of its own, which is no access key.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct SdkHmac {
    /// The name of the app: letters, digits and - . _, at most 128.
    pub(in crate::config) app_key: Setting<String>,
    /// A file that contains the secret of the app, at least 8 characters (one line end at its end is not part of it).
    pub(in crate::config) app_secret_file: Setting<String>,
}
