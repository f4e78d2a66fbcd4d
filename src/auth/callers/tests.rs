use http::HeaderValue;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::auth::Secret;

#[derive(Debug)]
struct Account(AccessKey);

impl Principal for Account {
    fn name(&self) -> &str {
        self.0.as_str()
    }

    fn access_key(&self) -> &AccessKey {
        &self.0
    }
}

fn credential(access_key: &str, enabled: bool) -> Arc<Credential> {
    let secrets = vec![Secret::new(b"secret".to_vec())];
    Arc::new(Credential::new(access_key.into(), secrets, enabled))
}

fn name(number: u8) -> CertificateName {
    CertificateName::CommonName(format!("name-{number}").into())
}

#[test]
fn a_head_presents_at_most_one_credential() {
    let found = |fields: &[(HeaderName, &'static str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, HeaderValue::from_static(value));
        }
        presented(&headers, false).map(|presented| presented == Presented::Nothing)
    };
    let several = Err(AuthError::SeveralCredentials);
    assert_eq!(found(&[]), Ok(true));
    assert_eq!(found(&[(AUTHORIZATION, "")]), Ok(false));
    assert_eq!(found(&[(X_API_KEY, "x")]), Ok(false));
    for first in [AUTHORIZATION, X_API_KEY] {
        for second in [AUTHORIZATION, X_API_KEY] {
            assert_eq!(found(&[(first.clone(), "a"), (second, "a")]), several);
        }
    }
}

#[test]
fn an_api_key_is_a_bearer_token_or_a_field_of_its_own() {
    let found = |name: HeaderName, value: &'static str, takes_api_keys: bool| {
        let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
        match presented(&headers, takes_api_keys) {
            Ok(Presented::ApiKey(key)) => Some(String::from_utf8(key.to_vec()).unwrap()),
            Ok(Presented::Token(token)) => {
                Some(format!("token {}", String::from_utf8_lossy(token)))
            }
            _ => None,
        }
    };
    for (value, key) in [
        ("Bearer abc", Some("abc")),
        ("bEARER  abc", Some("abc")),
        ("Bearer\tabc", Some("abc")),
        ("Bearer", Some("")),
        ("Bearer a.b.c", Some("token a.b.c")),
        ("Bearer ..", Some("token ..")),
        ("Bearer a.b.c.d.e", Some("a.b.c.d.e")),
        ("Bearer abc, Bearer abc", Some("abc, Bearer abc")),
        ("Bearerabc", None),
        ("Basic abc", None),
        ("auth-v2/a/b/c/d", None),
        ("", None),
    ] {
        assert_eq!(found(AUTHORIZATION, value, true).as_deref(), key, "{value}");
        assert_eq!(found(AUTHORIZATION, value, false), None, "{value}");
    }
    assert_eq!(found(X_API_KEY, "a, b", true).as_deref(), Some("a, b"));
    assert_eq!(found(X_API_KEY, "abc", false), None);
}

proptest! {
    /// An API key identifies the one caller that has it, whole, and no part of it anybody.
    #[test]
    fn no_api_key_reaches_another_caller(
        callers in vec(vec("[a-z0-9]{32,40}", 0..3), 1..5),
        other in "[a-z0-9]{0,40}",
    ) {
        let accounts: Vec<_> = (0..callers.len())
            .map(|number| Arc::new(Account(format!("ak-{number}").as_str().into())))
            .collect();
        let secrets: Vec<Vec<_>> = callers
            .iter()
            .map(|keys| keys.iter().map(|key| Secret::new(key.clone().into())).collect())
            .collect();
        let credentials = secrets.iter().map(|api_keys| CallerCredentials {
            certificates: &[],
            api_keys,
            tokens: None,
            app: None,
        });
        let index = CallerIndex::new(accounts.iter().zip(credentials));
        let all: Vec<&String> = callers.iter().flatten().collect();
        for (number, keys) in callers.iter().enumerate() {
            for key in keys {
                let is_contested = callers
                    .iter()
                    .enumerate()
                    .any(|(at, keys)| at != number && keys.contains(key));
                match index.of_api_key(key.as_bytes()) {
                    Ok(proven) => {
                        prop_assert!(!is_contested);
                        prop_assert!(Arc::ptr_eq(proven.caller(), &accounts[number]));
                    }
                    Err(_) => prop_assert!(is_contested),
                }
                prop_assert!(index.of_api_key(&key.as_bytes()[1..]).is_err());
                let upper = key.to_uppercase();
                prop_assert!(upper == *key || index.of_api_key(upper.as_bytes()).is_err());
            }
        }
        prop_assert!(all.contains(&&other) || index.of_api_key(other.as_bytes()).is_err());
    }

    /// A certificate identifies a caller only if the caller is the only one with any of its names, and the
    /// caller signs as its own access key only.
    #[test]
    fn no_certificate_reaches_another_caller(
        callers in vec(vec(0..12u8, 0..4), 1..6),
        presented in vec(0..14u8, 0..4),
    ) {
        let accounts: Vec<_> = (0..callers.len())
            .map(|number| Arc::new(Account(format!("ak-{number}").as_str().into())))
            .collect();
        let names: Vec<Vec<_>> =
            callers.iter().map(|names| names.iter().copied().map(name).collect()).collect();
        let credentials = names.iter().map(|certificates| CallerCredentials {
            certificates,
            api_keys: &[],
            tokens: None,
            app: None,
        });
        let index = CallerIndex::new(accounts.iter().zip(credentials));
        // The rule by itself: a name counts if one caller has it.
        let holders = |number: &u8| -> Vec<usize> {
            (0..callers.len()).filter(|at| callers[*at].contains(number)).collect()
        };
        let mut identified: Vec<_> = presented
            .iter()
            .map(holders)
            .filter(|holders| holders.len() == 1)
            .map(|holders| holders[0])
            .collect();
        identified.sort_unstable();
        identified.dedup();
        let presented: Vec<_> = presented.iter().copied().map(name).collect();
        match (index.of_certificate(&presented), identified.as_slice()) {
            (Ok(None), []) => {}
            (Ok(Some(proven)), [only]) => {
                prop_assert!(Arc::ptr_eq(proven.caller(), &accounts[*only]));
                for number in 0..callers.len() {
                    let key = format!("ak-{number}");
                    let signer = proven.signer(&credential(&key, true));
                    prop_assert_eq!(signer.is_ok(), number == *only);
                    if let Ok(signer) = signer {
                        prop_assert_eq!(signer.access_key().as_str(), key.as_str());
                        prop_assert!(signer.is_on_behalf());
                    }
                    prop_assert!(proven.signer(&credential(&key, false)).is_err());
                }
            }
            (Err(AuthError::AmbiguousCertificate), [_, _, ..]) => {}
            (found, expected) => prop_assert!(false, "{found:?}, not {expected:?}"),
        }
    }
}
