//! Encryption of everything that the gateway writes to the shared store. A recording URL grants access
//! to the recording, and other systems can read the store. No IO; the only input besides the
//! arguments is randomness.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac};
use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use crate::config::StoreSecret;

/// Seals with the first of the operator's keys, opens with any of them, and derives the keys under
/// which values are stored, so that key names reveal nothing either.
#[derive(Debug)]
pub(super) struct Sealer {
    keys: Vec<DerivedKeys>,
}

/// The keys derived from one of the operator's keys.
#[derive(Debug)]
struct DerivedKeys {
    /// Derives one AEAD key per subject. Random 96-bit nonces are safe for the number of values that
    /// one subject ever gets, but not for all values of all subjects under one key (NIST SP 800-38D,
    /// section 8.3: at most 2³² random nonces per key).
    seal_key: hmac::Key,
    /// Derives the storage keys.
    name_key: hmac::Key,
}

impl Sealer {
    /// Derives all keys from the one or two keys of the operator.
    pub(super) fn new(keys: &[StoreSecret]) -> Self {
        let keys = keys.iter().filter_map(DerivedKeys::derive);
        Self {
            keys: keys.collect(),
        }
    }

    /// Whether there is a second key, under which older values may still be stored.
    pub(super) fn is_rotating(&self) -> bool {
        self.keys.len() > 1
    }

    /// Returns the storage key of a subject, derived from the first key or, if `older`, from the
    /// second.
    pub(super) fn storage_key(&self, kind: &str, subject: &[u8], older: bool) -> String {
        let Some(key) = self.keys.get(usize::from(older)) else {
            return String::new();
        };
        let tag = HEXLOWER.encode(hmac::sign(&key.name_key, subject).as_ref());
        // The braces are a Redis Cluster hash tag: all keys of a subject are in one slot.
        format!("{KEY_PREFIX}{kind}:{{{tag}}}")
    }

    /// Seals a text for a subject. Returns `None` only if the system provides no randomness.
    pub(super) fn seal(&self, subject: &[u8], text: &[u8]) -> Option<Vec<u8>> {
        let key = self.keys.first()?.subject_key(subject)?;
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).ok()?;
        let mut buffer = Zeroizing::new(Vec::with_capacity(text.len() + TAG_LEN));
        buffer.extend_from_slice(text);
        let tag = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(subject),
                &mut buffer,
            )
            .ok()?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + buffer.len() + TAG_LEN);
        sealed.push(FORMAT_VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&buffer);
        sealed.extend_from_slice(tag.as_ref());
        Some(sealed)
    }

    /// Returns the text if it was sealed for this subject with one of the keys, and `None` for anything
    /// else.
    pub(super) fn open(&self, subject: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (&FORMAT_VERSION, rest) = sealed.split_first()? else {
            return None;
        };
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>()?;
        self.keys.iter().find_map(|key| {
            let key = key.subject_key(subject)?;
            let mut buffer = Zeroizing::new(ciphertext.to_vec());
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let length = key
                .open_in_place(nonce, Aad::from(subject), &mut buffer)
                .ok()?
                .len();
            buffer.truncate(length);
            Some(buffer)
        })
    }
}

impl DerivedKeys {
    /// Derives the keys of both purposes by HKDF-SHA256 (RFC 5869). Returns `None` only if HKDF
    /// refuses the output length, which is 32 bytes here.
    fn derive(key: &StoreSecret) -> Option<Self> {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(key.expose());
        let expand = |purpose| {
            let info = [purpose];
            let key = root.expand(&info, hmac::HMAC_SHA256).ok()?;
            Some(hmac::Key::from(key))
        };
        Some(Self {
            seal_key: expand(b"seal".as_slice())?,
            name_key: expand(b"name".as_slice())?,
        })
    }

    /// Returns the AEAD key of one subject.
    fn subject_key(&self, subject: &[u8]) -> Option<LessSafeKey> {
        let key = hmac::sign(&self.seal_key, subject);
        let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).ok()?;
        Some(LessSafeKey::new(key))
    }
}

/// The prefix of every key that the gateway keeps in the store; the ACL of its user names it.
pub(super) const KEY_PREFIX: &str = "ccfs-gateway:";

/// The salt of HKDF-Extract. Public and constant: it separates these keys from other uses of the same
/// secret.
const SALT: &[u8] = b"ccfs-gateway shared store";

/// The first byte of each sealed value; then come nonce, ciphertext and tag.
const FORMAT_VERSION: u8 = 1;

/// AES-256-GCM (NIST SP 800-38D): 96-bit nonce, 128-bit tag.
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealer_of(keys: &[u8]) -> Sealer {
        let keys: Vec<_> = keys
            .iter()
            .map(|&byte| StoreSecret::new(vec![byte; 32]))
            .collect();
        Sealer::new(&keys)
    }

    /// Computed with Python's `hmac` and `cryptography`: replicas of different versions share a store.
    #[test]
    fn derived_keys_and_sealed_values_stay_the_same_over_versions() {
        let key: Vec<u8> = (0..32).collect();
        let sealer = Sealer::new(&[StoreSecret::new(key)]);
        assert_eq!(
            sealer.storage_key("answer", b"subject", false),
            "ccfs-gateway:answer:{12b57876b58cb4f42762e1aca07277aa90c310c2f0df3684433ca29a9cc96c48}"
        );
        let sealed = "01000000000000000000000000f7296af60f8e30e1cd7cc255002e65f99db3c005";
        let sealed = HEXLOWER.decode(sealed.as_bytes()).unwrap();
        assert_eq!(*sealer.open(b"subject", &sealed).unwrap(), b"text");
    }

    #[test]
    fn a_value_opens_only_for_its_subject() {
        let sealer = sealer_of(&[1]);
        let sealed = sealer.seal(b"one", b"text").unwrap();
        assert_eq!(*sealer.open(b"one", &sealed).unwrap(), b"text");
        assert!(sealer.open(b"two", &sealed).is_none());
    }

    #[test]
    fn sealed_values_reveal_nothing_and_differ_each_time() {
        let sealer = sealer_of(&[1]);
        let (one, two) = (sealer.seal(b"s", b"secret"), sealer.seal(b"s", b"secret"));
        assert_ne!(one, two);
        assert!(!one.unwrap().windows(6).any(|part| part == b"secret"));
    }

    #[test]
    fn the_first_key_seals_and_both_keys_open() {
        let (old, both, new) = (sealer_of(&[1]), sealer_of(&[2, 1]), sealer_of(&[2]));
        let by_old = old.seal(b"s", b"text").unwrap();
        let by_both = both.seal(b"s", b"text").unwrap();
        assert!(both.open(b"s", &by_old).is_some());
        assert!(new.open(b"s", &by_old).is_none());
        assert!(new.open(b"s", &by_both).is_some());
        assert!(old.open(b"s", &by_both).is_none());
        assert_eq!(
            both.storage_key("a", b"s", false),
            new.storage_key("a", b"s", false)
        );
        assert_eq!(
            both.storage_key("a", b"s", true),
            old.storage_key("a", b"s", false)
        );
        assert!(both.is_rotating() && !new.is_rotating());
    }

    #[test]
    fn storage_keys_differ_by_kind_subject_and_seal_key() {
        let names = [
            sealer_of(&[1]).storage_key("a", b"s", false),
            sealer_of(&[1]).storage_key("b", b"s", false),
            sealer_of(&[1]).storage_key("a", b"t", false),
            sealer_of(&[2]).storage_key("a", b"s", false),
        ];
        for (n, name) in names.iter().enumerate() {
            assert_eq!(name.len(), KEY_PREFIX.len() + 1 + 3 + 64, "{name}");
            assert!(!names[..n].contains(name));
        }
    }

    proptest! {
        #[test]
        fn a_modified_or_truncated_value_does_not_open(text: Vec<u8>, at: prop::sample::Index, bit in 0u8..8) {
            let sealer = sealer_of(&[1]);
            let sealed = sealer.seal(b"s", &text).unwrap();
            let mut changed = sealed.clone();
            changed[at.index(sealed.len())] ^= 1u8 << bit;
            prop_assert_eq!(sealer.open(b"s", &sealed).map(|it| it.to_vec()), Some(text));
            prop_assert!(sealer.open(b"s", &changed).is_none());
            prop_assert!(sealer.open(b"s", &sealed[..at.index(sealed.len())]).is_none());
        }

        #[test]
        fn arbitrary_bytes_do_not_open(bytes: Vec<u8>) {
            prop_assert!(sealer_of(&[1, 2]).open(b"s", &bytes).is_none());
        }
    }
}
