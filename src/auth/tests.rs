use std::collections::BTreeMap;

use http::HeaderName;
use serde::Deserialize;

use super::*;

mod claims;
mod properties;

/// A whole request that can be signed, sent and tampered with.
#[derive(Clone, Debug)]
struct Request {
    method: String,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Request {
    fn post(path: &str, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let mut request = Self {
            method: "POST".into(),
            path: path.into(),
            query: None,
            headers: HeaderMap::new(),
            body: body.to_vec(),
        };
        for (name, value) in headers {
            request.add(name, value);
        }
        request
    }

    fn add(&mut self, name: &str, value: &str) {
        let name: HeaderName = name.parse().unwrap();
        self.headers
            .append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }

    fn signable(&self) -> Signable<'_> {
        Signable {
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            body: &self.body,
        }
    }

    fn signed(mut self, credential: &Credential, names: &str, at: Timestamp) -> Self {
        let value = sign(credential, names, at, &self.signable()).unwrap();
        self.headers.insert(AUTHORIZATION, value);
        self
    }

    fn verify(&self, credential: Option<&Arc<Credential>>) -> Result<Signer, AuthError> {
        Claim::parse(&self.headers, Timestamp::UNIX_EPOCH, None)?
            .verify(credential, &self.signable())
    }
}

fn credential(access_key: &str, secrets: &[&str]) -> Arc<Credential> {
    let secrets = secrets
        .iter()
        .map(|secret| Secret::new(secret.as_bytes().to_vec()))
        .collect();
    Arc::new(Credential::new(access_key.into(), secrets, true))
}

/// Output of the two Java clients in the wild, byte for byte the same. `query` and `signed_headers`
/// are what their interface takes: decoded, and not yet lower-case.
#[derive(Deserialize)]
struct Vector {
    name: String,
    method: String,
    uri: String,
    query: Option<BTreeMap<String, String>>,
    signed_headers: BTreeMap<String, String>,
    body: Option<String>,
    ak: String,
    sk: String,
    timestamp: String,
    authorization: String,
}

impl Vector {
    fn all() -> Vec<Self> {
        serde_json::from_str(include_str!("../../tests/vectors/auth-v2.json")).unwrap()
    }

    /// As it could stand on the wire.
    fn request(&self) -> Request {
        let escape =
            |text: &str| -> String { percent::encode(text.as_bytes()).map(char::from).collect() };
        let headers: Vec<(&str, &str)> = self
            .signed_headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let body = self.body.as_deref().unwrap_or_default();
        let mut request = Request::post(&self.uri, &headers, body.as_bytes());
        request.method.clone_from(&self.method);
        request.query = self.query.as_ref().map(|query| {
            // Backwards, because the order on the wire must not matter.
            let pairs = query.iter().rev();
            let pairs: Vec<_> = pairs
                .map(|(key, value)| format!("{}={}", escape(key), escape(value)))
                .collect();
            pairs.join("&")
        });
        request
    }

    fn names(&self) -> &str {
        self.authorization.split('/').nth(3).unwrap()
    }
}

#[test]
fn every_vector_is_signed_exactly() {
    for vector in Vector::all() {
        let credential = credential(&vector.ak, &[&vector.sk]);
        let request = vector.request();
        let value = sign(
            &credential,
            vector.names(),
            vector.timestamp.parse().unwrap(),
            &request.signable(),
        );
        let value = value.unwrap();
        assert_eq!(
            value.to_str().unwrap(),
            vector.authorization,
            "{}",
            vector.name
        );
        assert!(value.is_sensitive());
    }
}

#[test]
fn every_vector_verifies() {
    let vectors = Vector::all();
    assert_eq!(vectors.len(), 12);
    for vector in vectors {
        let mut request = vector.request();
        request.add("authorization", &vector.authorization);
        let credential = credential(&vector.ak, &[&vector.sk]);
        // The second time with the derived key of the first.
        for _ in 0..2 {
            let caller = request.verify(Some(&credential));
            let caller = caller.unwrap_or_else(|error| panic!("{}: {error}", vector.name));
            assert_eq!(caller.access_key().as_str(), vector.ak);
        }
    }
}
