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

use super::{Budget, Exceeded};
use crate::config::Rate;

/// Budgets of all client addresses.
#[derive(Debug)]
pub struct Addresses {
    rows: [Row; 2],
}

#[derive(Debug)]
struct Row {
    hash: RandomState,
    cells: Box<[Budget]>,
}

impl Addresses {
    /// Full budgets for everybody.
    pub fn new(rate: Rate) -> Self {
        let row = || Row {
            hash: RandomState::default(),
            cells: (0..CELLS).map(|_| Budget::new(rate)).collect(),
        };
        Self {
            rows: [row(), row()],
        }
    }

    /// Takes one from the budget of `address`.
    ///
    /// # Errors
    /// The budget is used up.
    pub fn charge(&self, address: IpAddr) -> Result<(), Exceeded> {
        let network = network(address);
        let [first, second] = self.rows.each_ref().map(|row| row.charge(network));
        match (first, second) {
            (Err(one), Err(other)) => Err(if one.wait < other.wait { one } else { other }),
            _ => Ok(()),
        }
    }
}

impl Row {
    fn charge(&self, network: u64) -> Result<(), Exceeded> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "any bits of a hash will do"
        )]
        let index = self.hash.hash_one(network) as usize % CELLS;
        self.cells.get(index).map_or(Ok(()), Budget::charge)
    }
}

/// What counts as one client: an IPv4 address, or a /64 of IPv6; mapped IPv4 is IPv4.
fn network(address: IpAddr) -> u64 {
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
const CELLS: usize = 1 << 15;

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(addresses: &Addresses, address: &str) -> bool {
        addresses.charge(address.parse().unwrap()).is_err()
    }

    #[test]
    fn addresses_have_budgets_of_their_own() {
        let addresses = Addresses::new(Rate {
            per_second: 1,
            burst: 2,
        });
        assert!(!spent(&addresses, "10.0.0.1"));
        assert!(!spent(&addresses, "::ffff:10.0.0.1"));
        assert!(spent(&addresses, "10.0.0.1"));
        assert!(!spent(&addresses, "10.0.0.2"));
    }

    #[test]
    fn one_ipv6_network_is_one_client() {
        let addresses = Addresses::new(Rate {
            per_second: 1,
            burst: 2,
        });
        assert!(!spent(&addresses, "2001:db8::1"));
        assert!(!spent(&addresses, "2001:db8::2"));
        assert!(spent(&addresses, "2001:db8::3"));
        assert!(!spent(&addresses, "2001:db8:0:1::1"));
    }

    #[test]
    fn the_table_costs_less_than_16_mib_whatever_comes() {
        assert!(2 * CELLS * size_of::<Budget>() < 16 << 20);
    }
}
