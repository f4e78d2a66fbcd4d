//! Tickets: links that a caller can hand to a player which sends no credential. A ticket opens one link for a short
//! time; it proves which caller got it, and nothing else.

use aws_lc_rs::constant_time;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac as _;
use jiff::Timestamp;

use super::super::mac::{Mac, new_mac};
use super::{CallerIndex, Principal, Proven};
use crate::auth::AuthError;

/// The keys of tickets: the first one issues, all verify.
#[derive(Clone)]
pub struct TicketMacKeys(Vec<Mac>);

impl TicketMacKeys {
    /// Creates a key that no other process has.
    pub fn random() -> Self {
        Self(vec![new_mac(
            &zeroize::Zeroizing::new(rand::random::<[u8; 32]>())[..],
        )])
    }

    /// Derives the keys from those that all replicas have; `None` without any.
    pub fn derived<'a>(shared: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let derive = |key: &[u8]| {
            let mut mac = new_mac(key);
            mac.update(PURPOSE);
            let derived = zeroize::Zeroizing::new(<[u8; 32]>::from(mac.finalize().into_bytes()));
            new_mac(&derived[..])
        };
        let keys: Vec<_> = shared.map(derive).collect();
        (!keys.is_empty()).then_some(Self(keys))
    }
}

impl std::fmt::Debug for TicketMacKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TicketMacKeys({})", self.0.len())
    }
}

/// What a ticket opens: one recording of one listener.
#[derive(Clone, Copy, Debug)]
pub struct TicketScope<'a> {
    /// The listener.
    pub listener: &'a str,
    /// The call.
    pub call_id: &'a str,
    /// The begin of the window, as the link writes it; empty if it does not.
    pub begin: &'a str,
    /// The end of the window.
    pub end: &'a str,
    /// Which of several recordings, from 1.
    pub number: u32,
}

impl TicketScope<'_> {
    /// Issues a ticket to a caller until `end`. It is text for a URL.
    pub fn issue(&self, keys: &TicketMacKeys, caller: &impl Principal, end: Timestamp) -> String {
        let of_caller = (caller.name(), caller.access_key().as_str());
        let second = end.as_second().to_be_bytes();
        let tag = keys.0.first().map(|key| self.tag(key, of_caller, second));
        let mut ticket = second.to_vec();
        ticket.extend_from_slice(&tag.unwrap_or_default());
        ticket.extend_from_slice(caller.name().as_bytes());
        URL_SAFE_NO_PAD.encode(ticket)
    }

    /// Returns the HMAC of the ticket for a caller, by its name, of an access key.
    fn tag(&self, key: &Mac, (caller, access_key): (&str, &str), end: [u8; 8]) -> [u8; TAG_LENGTH] {
        let mut mac = key.clone();
        let number = self.number.to_be_bytes();
        for part in [
            self.listener.as_bytes(),
            caller.as_bytes(),
            // A caller that gets another access key has other recordings.
            access_key.as_bytes(),
            self.call_id.as_bytes(),
            self.begin.as_bytes(),
            self.end.as_bytes(),
            &number,
            &end,
        ] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl<T: Principal> CallerIndex<T> {
    /// Finds the caller that a ticket was issued to.
    ///
    /// # Errors
    /// It is none, was issued for something else, or its time is over.
    pub fn of_ticket(
        &self,
        ticket: &str,
        scope: &TicketScope<'_>,
        (keys, now): (&TicketMacKeys, Timestamp),
    ) -> Result<Proven<T>, AuthError> {
        let bytes = (ticket.len() <= MAX_TICKET_LENGTH)
            .then(|| URL_SAFE_NO_PAD.decode(ticket).ok())
            .flatten()
            .ok_or(AuthError::WrongTicket)?;
        let (end, rest) = bytes.split_first_chunk().ok_or(AuthError::WrongTicket)?;
        let (tag, name) = rest
            .split_first_chunk::<TAG_LENGTH>()
            .ok_or(AuthError::WrongTicket)?;
        let name = std::str::from_utf8(name).map_err(|_| AuthError::WrongTicket)?;
        // An unknown caller costs the same, so that its time does not tell the names there are.
        let caller = self.by_name.get(name);
        let access_key = caller.map_or("", |caller| caller.access_key().as_str());
        let is_right = |key: &Mac| {
            let expected = scope.tag(key, (name, access_key), *end);
            constant_time::verify_slices_are_equal(&expected, tag).is_ok()
        };
        let is_right = keys.0.iter().any(is_right) && now.as_second() < i64::from_be_bytes(*end);
        match caller.filter(|_| is_right) {
            Some(caller) => Ok(Proven {
                caller: caller.clone(),
            }),
            None => Err(AuthError::WrongTicket),
        }
    }
}

/// Separates these keys from others that are derived from the same one.
const PURPOSE: &[u8] = b"ccfs-gateway tickets of links that play 1";

/// HMAC-SHA256.
const TAG_LENGTH: usize = 32;

/// The longest name of a caller with everything else, in base64.
const MAX_TICKET_LENGTH: usize = 256;
