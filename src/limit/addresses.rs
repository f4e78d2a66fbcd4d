//! A rate limit per client address in a table of fixed size, so that a million spoofed addresses cost
//! no more memory than one.
//!
//! An address has a limiter in each of two rows, selected by two independent hashes, and is refused
//! only if both are exhausted (a count-min sketch). A client that shares one limiter with a flooder is
//! still served; one that shares both (one in four billion pairs) is refused for a moment. The hashes
//! are seeded at start, so that clients cannot choose colliding addresses.

use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};

use foldhash::fast::RandomState;

use super::{RateLimited, RateLimiter};
use crate::config::Rate;

/// The rate limits of all client addresses.
#[derive(Debug)]
pub struct AddressRateLimiter {
    rows: [HashRow; 2],
}

#[derive(Debug)]
struct HashRow {
    hasher: RandomState,
    limiters: Box<[RateLimiter]>,
}

impl AddressRateLimiter {
    /// Creates the table with the full burst available to every address.
    pub fn new(rate: Rate) -> Self {
        let row = || HashRow {
            hasher: RandomState::default(),
            limiters: (0..LIMITERS_PER_ROW)
                .map(|_| RateLimiter::new(rate))
                .collect(),
        };
        Self {
            rows: [row(), row()],
        }
    }

    /// Takes one token of the limit of `address`.
    ///
    /// # Errors
    /// No token is available; of both limiters, the error has the shorter wait.
    pub fn try_acquire(&self, address: IpAddr) -> Result<(), RateLimited> {
        let network = client_network(address);
        let [first, second] = self.rows.each_ref().map(|row| row.try_acquire(network));
        match (first, second) {
            (Err(first), Err(second)) => Err(if first.wait < second.wait {
                first
            } else {
                second
            }),
            _ => Ok(()),
        }
    }
}

impl HashRow {
    fn try_acquire(&self, network: u64) -> Result<(), RateLimited> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "any bits of a hash will do"
        )]
        let index = self.hasher.hash_one(network) as usize % LIMITERS_PER_ROW;
        let limiter = self.limiters.get(index);
        limiter.map_or(Ok(()), RateLimiter::try_acquire)
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

/// Two rows of 32,768 limiters take about 6 MiB; product limit: 64 MiB for any number of addresses.
const LIMITERS_PER_ROW: usize = 1 << 15;

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
    fn one_ipv6_network_is_one_client() {
        let addresses = AddressRateLimiter::new(Rate::per_second(1, 2));
        assert!(!is_limited(&addresses, "2001:db8::1"));
        assert!(!is_limited(&addresses, "2001:db8::2"));
        assert!(is_limited(&addresses, "2001:db8::3"));
        assert!(!is_limited(&addresses, "2001:db8:0:1::1"));
    }

    #[test]
    fn the_table_is_smaller_than_16_mib() {
        assert!(2 * LIMITERS_PER_ROW * size_of::<RateLimiter>() < 16 << 20);
    }
}
