//! What leaves the process is sealed: a recording URL opens a recording to whoever reads it, and the
//! store is read by others. Pure but for randomness; knows no connection.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::config::StoreSecret;

/// Seals with the first of the operator's keys, opens with any of them, and makes the names under
/// which things stand in the store, so that these tell nothing either.
#[derive(Debug)]
pub(super) struct Sealer {
    keys: Vec<DerivedKeys>,
}

/// What is derived from one of the operator's keys.
#[derive(Debug)]
struct DerivedKeys {
    /// Makes the key of each subject: one random nonce in 2⁹⁶ is seldom enough under a key that
    /// seals one subject again and again, not under one that seals all there is.
    seal_key: hmac::Key,
    name_key: hmac::Key,
}

impl Sealer {
    /// From one or two keys.
    pub(super) fn new(keys: &[StoreSecret]) -> Self {
        let derive = |key: &StoreSecret| {
            let root = mac(SALT, &[key.expose()]);
            DerivedKeys {
                seal_key: expand(root.as_ref(), b"seal"),
                name_key: expand(root.as_ref(), b"name"),
            }
        };
        Self {
            keys: keys.iter().map(derive).collect(),
        }
    }

    /// Is there a second key, under whose names older things stand?
    pub(super) fn is_rotating(&self) -> bool {
        self.keys.len() > 1
    }

    /// The name of a subject in the store, under the first key or, if `older`, under the second.
    pub(super) fn storage_key(&self, kind: &str, subject: &[u8], older: bool) -> String {
        let Some(key) = self.keys.get(usize::from(older)) else {
            return String::new();
        };
        let mut context = hmac::Context::with_key(&key.name_key);
        context.update(subject);
        let tag = context.sign();
        let mut name =
            String::with_capacity(KEY_PREFIX.len() + kind.len() + 3 + 2 * tag.as_ref().len());
        name.push_str(KEY_PREFIX);
        name.push_str(kind);
        // In a cluster, what is in braces decides where it stands: with all else of its subject.
        name.push_str(":{");
        for byte in tag.as_ref() {
            for half in [byte >> 4, byte & 15] {
                name.push(char::from_digit(half.into(), 16).unwrap_or('0'));
            }
        }
        name.push('}');
        name
    }

    /// Seals a text for this subject; `None` only if there is no randomness.
    pub(super) fn seal(&self, subject: &[u8], text: &[u8]) -> Option<Vec<u8>> {
        let key = self.keys.first()?.subject_key(subject)?;
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).ok()?;
        let mut inside = Zeroizing::new(Vec::with_capacity(text.len() + TAG_LEN));
        inside.extend_from_slice(text);
        let tag = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(subject),
                &mut inside,
            )
            .ok()?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + inside.len() + TAG_LEN);
        sealed.push(FORMAT_VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&inside);
        sealed.extend_from_slice(tag.as_ref());
        Some(sealed)
    }

    /// The text that was sealed for this very subject with one of the keys; `None` for anything else.
    pub(super) fn open(&self, subject: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (&FORMAT_VERSION, rest) = sealed.split_first()? else {
            return None;
        };
        let (nonce, inside) = rest.split_first_chunk::<NONCE_LEN>()?;
        self.keys.iter().find_map(|key| {
            let key = key.subject_key(subject)?;
            let mut inside = Zeroizing::new(inside.to_vec());
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let length = key
                .open_in_place(nonce, Aad::from(subject), &mut inside)
                .ok()?
                .len();
            inside.truncate(length);
            Some(inside)
        })
    }
}

impl DerivedKeys {
    /// The key of one subject.
    fn subject_key(&self, subject: &[u8]) -> Option<LessSafeKey> {
        let key = hmac::sign(&self.seal_key, subject);
        let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).ok()?;
        Some(LessSafeKey::new(key))
    }
}

/// HKDF-SHA256 (RFC 5869): the extracted root to a key for one purpose. One block is a key.
fn expand(root: &[u8], purpose: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, mac(root, &[purpose, &[1]]).as_ref())
}

fn mac(key: &[u8], parts: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    parts.iter().for_each(|part| context.update(part));
    context.sign()
}

/// Before the name of everything that the gateway keeps in the store.
pub(super) const KEY_PREFIX: &str = "ccfs-gateway:";

const SALT: &[u8] = b"ccfs-gateway shared store";

/// The form of what is sealed.
const FORMAT_VERSION: u8 = 1;

const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealer(keys: &[u8]) -> Sealer {
        let keys: Vec<_> = keys
            .iter()
            .map(|&byte| StoreSecret::new(vec![byte; 32]))
            .collect();
        Sealer::new(&keys)
    }

    #[test]
    fn the_subject_is_part_of_the_seal() {
        let seals = sealer(&[1]);
        let sealed = seals.seal(b"one", b"text").unwrap();
        assert_eq!(*seals.open(b"one", &sealed).unwrap(), b"text");
        assert!(seals.open(b"two", &sealed).is_none());
    }

    #[test]
    fn nothing_of_the_text_is_seen_and_no_two_are_alike() {
        let seals = sealer(&[1]);
        let (one, two) = (seals.seal(b"s", b"secret"), seals.seal(b"s", b"secret"));
        assert_ne!(one, two);
        assert!(!one.unwrap().windows(6).any(|part| part == b"secret"));
    }

    #[test]
    fn the_first_key_seals_and_both_open() {
        let (old, both, new) = (sealer(&[1]), sealer(&[2, 1]), sealer(&[2]));
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
    fn names_differ_by_kind_subject_and_key() {
        let names = [
            sealer(&[1]).storage_key("a", b"s", false),
            sealer(&[1]).storage_key("b", b"s", false),
            sealer(&[1]).storage_key("a", b"t", false),
            sealer(&[2]).storage_key("a", b"s", false),
        ];
        for (n, name) in names.iter().enumerate() {
            assert_eq!(name.len(), KEY_PREFIX.len() + 1 + 3 + 64, "{name}");
            assert!(!names[..n].contains(name));
        }
    }

    proptest! {
        #[test]
        fn any_change_closes_it(text: Vec<u8>, at: prop::sample::Index, bit in 0u8..8) {
            let seals = sealer(&[1]);
            let sealed = seals.seal(b"s", &text).unwrap();
            let mut changed = sealed.clone();
            changed[at.index(sealed.len())] ^= 1u8 << bit;
            prop_assert_eq!(seals.open(b"s", &sealed).map(|it| it.to_vec()), Some(text));
            prop_assert!(seals.open(b"s", &changed).is_none());
            prop_assert!(seals.open(b"s", &sealed[..at.index(sealed.len())]).is_none());
        }

        #[test]
        fn garbage_is_none(garbage: Vec<u8>) {
            prop_assert!(sealer(&[1, 2]).open(b"s", &garbage).is_none());
        }
    }
}
