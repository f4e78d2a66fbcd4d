//! A budget per client address in a table of fixed size, so that a million invented addresses cost
//! no more than one.
//!
//! Each address has a cell in each of two rows, by two independent hashes, and is refused only when
//! both its cells are used up. A stranger who shares one cell with a flooder is so still served; who
//! shares both (one in four billion pairs) waits a moment. The hashes are seeded at start: nobody can
//! choose addresses that collide.

use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};

use foldhash::fast::RandomState;

use super::{RateLimited, RateLimiter};
use crate::config::Rate;

/// Budgets of all client addresses.
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
    /// Full budgets for everybody.
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

    /// Takes one from the budget of `address`.
    ///
    /// # Errors
    /// The budget is used up.
    pub fn try_acquire(&self, address: IpAddr) -> Result<(), RateLimited> {
        let network = client_network(address);
        let [first, second] = self.rows.each_ref().map(|row| row.try_acquire(network));
        match (first, second) {
            (Err(one), Err(other)) => Err(if one.wait < other.wait { one } else { other }),
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
        self.limiters
            .get(index)
            .map_or(Ok(()), RateLimiter::try_acquire)
    }
}

/// What counts as one client: an IPv4 address, or a /64 of IPv6; mapped IPv4 is IPv4.
fn client_network(address: IpAddr) -> u64 {
    match address.to_canonical() {
        // 2^63 keeps IPv4 apart from every /64 in use: 8000::/1 above fe80 is not routed space.
        IpAddr::V4(v4) => (1 << 63) | u64::from(v4.to_bits()),
        IpAddr::V6(v6) => prefix64(v6),
    }
}

fn prefix64(v6: Ipv6Addr) -> u64 {
    (v6.to_bits() >> 64) as u64
}

/// Per row. Two rows of 32,768 budgets are about 6 MiB; the bound of the contract is 64 MiB.
const LIMITERS_PER_ROW: usize = 1 << 15;

#[cfg(test)]
mod tests {
    use super::*;

    fn is_limited(addresses: &AddressRateLimiter, address: &str) -> bool {
        addresses.try_acquire(address.parse().unwrap()).is_err()
    }

    #[test]
    fn addresses_have_budgets_of_their_own() {
        let addresses = AddressRateLimiter::new(Rate {
            per_second: 1,
            burst: 2,
        });
        assert!(!is_limited(&addresses, "10.0.0.1"));
        assert!(!is_limited(&addresses, "::ffff:10.0.0.1"));
        assert!(is_limited(&addresses, "10.0.0.1"));
        assert!(!is_limited(&addresses, "10.0.0.2"));
    }

    #[test]
    fn one_ipv6_network_is_one_client() {
        let addresses = AddressRateLimiter::new(Rate {
            per_second: 1,
            burst: 2,
        });
        assert!(!is_limited(&addresses, "2001:db8::1"));
        assert!(!is_limited(&addresses, "2001:db8::2"));
        assert!(is_limited(&addresses, "2001:db8::3"));
        assert!(!is_limited(&addresses, "2001:db8:0:1::1"));
    }

    #[test]
    fn the_table_costs_less_than_16_mib_whatever_comes() {
        assert!(2 * LIMITERS_PER_ROW * size_of::<RateLimiter>() < 16 << 20);
    }
}
