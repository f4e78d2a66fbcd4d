//! A rate limit per client address in a table of fixed size, so that a million spoofed addresses cost
//! no more memory than one.
//!
//! An address has a limiter in each of two rows, selected by two independent hashes, and is refused
//! only if both are exhausted (a count-min sketch). A client that shares one limiter with a flooder is
//! still served; one that shares both (one in four billion pairs) is refused for a moment. The hashes
//! are seeded at start, so that clients cannot choose colliding addresses.

use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use foldhash::fast::RandomState;
use governor::clock::{Clock, MonotonicClock};
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};

use super::refundable::give_back;
use super::{RateLimited, quota};
use crate::config::Rate;

/// The rate limits of all client addresses.
#[derive(Debug)]
pub struct AddressRateLimiter {
    rows: [HashRow; 2],
}

#[derive(Debug)]
struct HashRow {
    hasher: RandomState,
    rate: Rate,
    limiter: governor::RateLimiter<usize, States, MonotonicClock>,
    states: States,
}

/// The states of a row by their index. All have the rate of the row.
#[derive(Clone, Debug)]
struct States(Arc<[InMemoryState]>);

impl StateStore for States {
    type Key = usize;

    fn measure_and_replace<T, F, E>(&self, index: &usize, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0[*index].measure_and_replace(&NotKeyed::NonKey, decide)
    }
}

/// A token that an address paid, which can be given back.
#[derive(Debug)]
pub struct AddressCharge {
    network: u64,
    /// The rows that had a token.
    paid: [bool; 2],
}

impl AddressRateLimiter {
    /// Creates the table with the full burst available to every address.
    pub fn new(rate: Rate) -> Self {
        Self {
            rows: [HashRow::new(rate), HashRow::new(rate)],
        }
    }

    /// Takes one token of the limit of `address`.
    ///
    /// # Errors
    /// No token is available; of both limiters, the error has the shorter wait.
    pub fn try_acquire(&self, address: IpAddr) -> Result<(), RateLimited> {
        self.charge(address).map(drop)
    }

    /// As [`AddressRateLimiter::try_acquire`], for what can be given back.
    ///
    /// # Errors
    /// As there.
    pub fn charge(&self, address: IpAddr) -> Result<AddressCharge, RateLimited> {
        let network = client_network(address);
        let [first, second] = self.rows.each_ref().map(|row| row.try_acquire(network));
        match (first, second) {
            (Err(first), Err(second)) => Err(if first.wait < second.wait {
                first
            } else {
                second
            }),
            (first, second) => Ok(AddressCharge {
                network,
                paid: [first.is_ok(), second.is_ok()],
            }),
        }
    }

    /// Gives a token back.
    pub fn refund(&self, charge: &AddressCharge) {
        for (row, paid) in self.rows.iter().zip(charge.paid) {
            if paid {
                row.refund(charge.network);
            }
        }
    }
}

impl HashRow {
    fn new(rate: Rate) -> Self {
        let states = (0..STATES_PER_ROW).map(|_| InMemoryState::default());
        let states = States(states.collect());
        Self {
            hasher: RandomState::default(),
            rate,
            limiter: governor::RateLimiter::new(quota(rate), states.clone(), MonotonicClock),
            states,
        }
    }

    fn try_acquire(&self, network: u64) -> Result<(), RateLimited> {
        let allowed = self.limiter.check_key(&self.index(network));
        allowed.map_err(|not_until| RateLimited {
            rate: self.rate,
            wait: not_until.wait_time_from(MonotonicClock.now()),
        })
    }

    fn refund(&self, network: u64) {
        give_back(&self.states, &self.index(network), self.rate);
    }

    fn index(&self, network: u64) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "any bits of a hash will do"
        )]
        let hash = self.hasher.hash_one(network) as usize;
        hash % STATES_PER_ROW
    }
}

/// Returns the network that counts as one client: an IPv4 address or an IPv6 /64. IPv4-mapped
/// addresses count as IPv4.
fn client_network(address: IpAddr) -> u64 {
    match address.to_canonical() {
        // Bit 63 separates IPv4 from IPv6: no global unicast /64 has it set (RFC 4291: 2000::/3).
        IpAddr::V4(v4) => (1 << 63) | u64::from(v4.to_bits()),
        IpAddr::V6(v6) => prefix64(v6),
    }
}

fn prefix64(v6: Ipv6Addr) -> u64 {
    (v6.to_bits() >> 64) as u64
}

/// Two rows of 32,768 states take 512 KiB; product limit: 64 MiB for any number of addresses.
const STATES_PER_ROW: usize = 1 << 15;

#[cfg(test)]
mod tests {
    use super::*;

    fn is_limited(addresses: &AddressRateLimiter, address: &str) -> bool {
        addresses.try_acquire(address.parse().unwrap()).is_err()
    }

    #[test]
    fn addresses_have_separate_limits() {
        let addresses = AddressRateLimiter::new(Rate::per_second(1, 2));
        assert!(!is_limited(&addresses, "10.0.0.1"));
        assert!(!is_limited(&addresses, "::ffff:10.0.0.1"));
        assert!(is_limited(&addresses, "10.0.0.1"));
        assert!(!is_limited(&addresses, "10.0.0.2"));
    }

    #[test]
    fn a_charge_that_is_given_back_costs_nothing() {
        let addresses = AddressRateLimiter::new(Rate::per_second(1, 2));
        let address = "10.0.0.1".parse().unwrap();
        for _ in 0..5 {
            let charge = addresses.charge(address).unwrap();
            addresses.refund(&charge);
        }
        assert!(!is_limited(&addresses, "10.0.0.1"));
        let last = addresses.charge(address).unwrap();
        assert!(addresses.charge(address).is_err());
        addresses.refund(&last);
        assert!(!is_limited(&addresses, "10.0.0.1"));
        assert!(is_limited(&addresses, "10.0.0.1"));
    }

    #[test]
    fn one_ipv6_network_is_one_client() {
        let addresses = AddressRateLimiter::new(Rate::per_second(1, 2));
        assert!(!is_limited(&addresses, "2001:db8::1"));
        assert!(!is_limited(&addresses, "2001:db8::2"));
        assert!(is_limited(&addresses, "2001:db8::3"));
        assert!(!is_limited(&addresses, "2001:db8:0:1::1"));
    }

    #[test]
    fn the_table_is_smaller_than_16_mib() {
        assert!(2 * STATES_PER_ROW * size_of::<InMemoryState>() < 16 << 20);
    }
}
