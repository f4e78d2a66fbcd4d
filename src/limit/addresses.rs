//! A budget per client address in a table of fixed size, so that a million invented addresses cost
//! no more than one.
//!
//! Each address has a cell in each of two rows, by two independent hashes, and is refused only when
//! both its cells are used up. A stranger who shares one cell with a flooder is so still served; who
//! shares both (one in four billion pairs) waits a moment. The hashes are seeded at start: nobody can
//! choose addresses that collide.

use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use governor::clock::{Clock, DefaultClock};

use super::Exceeded;
use crate::config::Rate;

/// Budgets of all client addresses.
#[derive(Debug)]
pub struct Addresses {
    rate: Rate,
    clock: DefaultClock,
    start: <DefaultClock as Clock>::Instant,
    rows: [Row; 2],
}

impl Addresses {
    /// Full budgets for everybody.
    pub fn new(rate: Rate) -> Self {
        let clock = DefaultClock::default();
        Self {
            rate,
            start: clock.now(),
            clock,
            rows: [Row::new(), Row::new()],
        }
    }

    /// Takes one from the budget of `address`.
    ///
    /// # Errors
    /// The budget is used up.
    pub fn charge(&self, address: IpAddr) -> Result<(), Exceeded> {
        let network = network(address);
        let now = self.clock.now().duration_since(self.start).as_nanos() as u64;
        let charge = |row: &Row| {
            row.cell(network)
                .map_or(Ok(()), |it| it.charge(self.rate, now))
        };
        match self.rows.each_ref().map(charge) {
            [Err(one), Err(other)] => Err(Exceeded {
                rate: self.rate,
                wait: Duration::from_nanos(one.min(other)),
            }),
            _ => Ok(()),
        }
    }
}

#[derive(Debug)]
struct Row {
    hash: RandomState,
    cells: Box<[Cell]>,
}

impl Row {
    fn new() -> Self {
        Self {
            hash: RandomState::default(),
            cells: (0..CELLS).map(|_| Cell::default()).collect(),
        }
    }

    fn cell(&self, network: u64) -> Option<&Cell> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "any bits of a hash will do"
        )]
        let index = self.hash.hash_one(network) as usize % CELLS;
        self.cells.get(index)
    }
}

/// A budget in eight bytes: GCRA's theoretical arrival time, in nanoseconds since the start. Made in
/// no time, unlike 65,536 limiters with a clock each.
#[derive(Debug, Default)]
struct Cell(AtomicU64);

impl Cell {
    /// Takes one, or says in how many nanoseconds there is one.
    fn charge(&self, rate: Rate, now: u64) -> Result<(), u64> {
        let interval = SECOND / u64::from(rate.per_second.max(1));
        let ahead = interval.saturating_mul(u64::from(rate.burst.max(1) - 1));
        let charged = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |arrival| {
                let arrival = arrival.max(now);
                (arrival - now <= ahead).then(|| arrival.saturating_add(interval))
            });
        // The earliest time at which it would have passed, as GCRA counts.
        charged.map(drop).map_err(|arrival| arrival - now - ahead)
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

/// Per row. Two rows are 512 KiB; the bound of the contract is 64 MiB.
const CELLS: usize = 1 << 15;

const SECOND: u64 = 1_000_000_000;

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
    fn what_is_used_up_comes_back_at_its_rate() {
        let rate = Rate {
            per_second: 10,
            burst: 2,
        };
        let cell = Cell::default();
        let tenth = SECOND / 10;
        assert_eq!([1, 1].map(|now| cell.charge(rate, now)), [Ok(()), Ok(())]);
        assert_eq!(cell.charge(rate, 1), Err(tenth));
        assert_eq!(cell.charge(rate, tenth), Err(1));
        assert_eq!(cell.charge(rate, tenth + 1), Ok(()));
        assert_eq!(cell.charge(rate, tenth + 1), Err(tenth));
        let much_later = [100, 100, 100].map(|now| cell.charge(rate, now * SECOND));
        assert_eq!(much_later, [Ok(()), Ok(()), Err(tenth)]);
    }

    #[test]
    fn the_table_costs_less_than_16_mib_whatever_comes() {
        assert!(2 * CELLS * size_of::<Cell>() < 16 << 20);
    }
}
