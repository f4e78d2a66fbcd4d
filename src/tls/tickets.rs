//! TLS session tickets under keys that several gateways share (`ticket_key_file`), so that sessions are
//! resumed at any of them and after a restart.
//!
//! ```text
//! ticket = key id (4) | epoch (4) | random (16) | ciphertext | tag (16)
//! ```

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{constant_time, digest, hkdf};
use rustls::pki_types::UnixTime;
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

/// A key of 32 random bytes from a file: redacted in `Debug`, wiped when dropped.
#[derive(Clone)]
pub struct TicketKey(Zeroizing<[u8; KEY_LENGTH]>);

impl TicketKey {
    /// Takes exactly [`KEY_LENGTH`] bytes; `None` for any other number.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        Some(Self(Zeroizing::new(bytes.try_into().ok()?)))
    }

    /// Returns the public name of the key.
    fn id(&self) -> [u8; ID_LENGTH] {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"ccfs-gateway ticket key id");
        context.update(&*self.0);
        let mut id = [0; ID_LENGTH];
        if let Some(start) = context.finish().as_ref().first_chunk() {
            id = *start;
        }
        id
    }

    /// Derives the key of one ticket (RFC 5869). Each ticket has its own, so that a nonce never repeats.
    fn derive(&self, epoch: u32, random: &[u8; RANDOM_LENGTH]) -> Option<LessSafeKey> {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, random).extract(&*self.0);
        let epoch = epoch.to_be_bytes();
        let info = [PURPOSE, epoch.as_slice()];
        let key = root.expand(&info, &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(key)))
    }
}

impl PartialEq for TicketKey {
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&*self.0, &*other.0).is_ok()
    }
}

impl Eq for TicketKey {}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKey(..)")
    }
}

/// Issues tickets under the first key, and opens those of all keys.
#[derive(Debug)]
pub(crate) struct SharedTickets {
    keys: Vec<([u8; ID_LENGTH], TicketKey)>,
    now: fn() -> u64,
}

impl SharedTickets {
    /// Takes the keys of a listener, at least one.
    pub(crate) fn new(keys: &[TicketKey]) -> Self {
        Self {
            keys: keys.iter().map(|key| (key.id(), key.clone())).collect(),
            now: || UnixTime::now().as_secs(),
        }
    }

    fn epoch(&self) -> u32 {
        u32::try_from((self.now)() / EPOCH_SECONDS).unwrap_or(u32::MAX)
    }
}

impl ProducesTickets for SharedTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_SECONDS
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let (id, key) = self.keys.first()?;
        let epoch = self.epoch();
        let mut random = [0; RANDOM_LENGTH];
        aws_lc_rs::rand::fill(&mut random).ok()?;
        let mut ticket = Vec::with_capacity(HEAD_LENGTH + plain.len() + TAG_LENGTH);
        ticket.extend_from_slice(id);
        ticket.extend_from_slice(&epoch.to_be_bytes());
        ticket.extend_from_slice(&random);
        let mut buffer = Zeroizing::new(plain.to_vec());
        let tag = key
            .derive(epoch, &random)?
            .seal_in_place_separate_tag(nonce(), Aad::from(&ticket), &mut buffer)
            .ok()?;
        ticket.extend_from_slice(&buffer);
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (head, sealed) = ticket.split_at_checked(HEAD_LENGTH)?;
        let (id, rest) = head.split_first_chunk::<ID_LENGTH>()?;
        let (epoch, random) = rest.split_first_chunk::<4>()?;
        let epoch = u32::from_be_bytes(*epoch);
        let random = random.first_chunk::<RANDOM_LENGTH>()?;
        let age = self.epoch().checked_sub(epoch)?;
        if age >= EPOCHS {
            return None;
        }
        let (_, key) = self.keys.iter().find(|(known, _)| known == id)?;
        let mut buffer = sealed.to_vec();
        let length = key
            .derive(epoch, random)?
            .open_in_place(nonce(), Aad::from(head), &mut buffer)
            .ok()?
            .len();
        buffer.truncate(length);
        Some(buffer)
    }
}

/// The nonce of the only message under a key.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// The length of a ticket key in bytes.
pub const KEY_LENGTH: usize = 32;

/// Separates these keys from other uses of the same secret.
const PURPOSE: &[u8] = b"ccfs-gateway tls ticket 1";

const ID_LENGTH: usize = 4;
const RANDOM_LENGTH: usize = 16;
const TAG_LENGTH: usize = 16;
const HEAD_LENGTH: usize = ID_LENGTH + 4 + RANDOM_LENGTH;

/// A ticket is opened in its epoch and the two after it.
const EPOCHS: u32 = 3;
const EPOCH_SECONDS: u64 = 6 * 3_600;
const LIFETIME_SECONDS: u32 = 12 * 3_600;

#[cfg(test)]
mod tests {
    use super::*;

    fn tickets(keys: &[u8], now: fn() -> u64) -> SharedTickets {
        let keys: Vec<_> = keys
            .iter()
            .map(|&byte| TicketKey::new(&[byte; 32]).unwrap())
            .collect();
        SharedTickets {
            now,
            ..SharedTickets::new(&keys)
        }
    }

    #[test]
    fn a_ticket_opens_at_every_holder_of_its_key() {
        let issuer = tickets(&[1, 2], || 0);
        let ticket = issuer.encrypt(b"session").unwrap();
        for holder in [&[1_u8][..], &[2, 1], &[3, 2, 1]] {
            let opened = tickets(holder, || 0).decrypt(&ticket);
            assert_eq!(opened.as_deref(), Some(&b"session"[..]));
        }
        assert_eq!(
            tickets(&[2], || 0).decrypt(&ticket),
            None,
            "the first key issues"
        );
        assert_ne!(issuer.encrypt(b"session").unwrap(), ticket);
    }

    #[test]
    fn a_ticket_is_opened_in_three_epochs() {
        let ticket = tickets(&[1], || 10 * EPOCH_SECONDS).encrypt(b"x").unwrap();
        let opens = |now| tickets(&[1], now).decrypt(&ticket).is_some();
        assert!(!opens(|| 10 * EPOCH_SECONDS - 1));
        assert!(opens(|| 11 * EPOCH_SECONDS) && opens(|| 13 * EPOCH_SECONDS - 1));
        assert!(!opens(|| 13 * EPOCH_SECONDS));
    }

    #[test]
    fn a_changed_ticket_is_no_ticket() {
        let issuer = tickets(&[1], || 0);
        let ticket = issuer.encrypt(b"session").unwrap();
        for bit in 0..8 * ticket.len() {
            let mut changed = ticket.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(issuer.decrypt(&changed), None, "bit {bit}");
        }
        for length in 0..ticket.len() {
            assert_eq!(issuer.decrypt(&ticket[..length]), None);
        }
    }
}
