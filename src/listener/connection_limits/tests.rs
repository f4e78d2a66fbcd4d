use std::net::Ipv4Addr;
use std::time::Duration;

use super::*;
use crate::metrics::Metrics;

#[test]
fn the_longest_idle_is_evicted_first_across_searches() {
    let cap = 2 * QUEUE_CAPACITY;
    let settings = ConnectionLimitSettings {
        connections: 10 * QUEUE_CAPACITY,
        per_address: cap,
        handshakes: 1,
    };
    let limits = ConnectionLimits::new(settings, Metrics::default().add_shard());
    let (here, there) = (Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2));
    let other = limits.admit(Some(there.into())).unwrap();
    let at = |millis| limits.epoch + Duration::from_millis(millis);
    other.activity().set_idle(at(0));
    let mut permits = Vec::new();
    for count in 0..2 * cap {
        let permit = limits.admit(Some(here.into())).unwrap();
        permit.activity().set_idle(at(count as u64));
        permits.push(permit);
        let gone = (count + 1).saturating_sub(cap);
        // Connection 7 receives a request, so that it is no longer the oldest when it would be evicted.
        if count == cap {
            permits[7].activity().set_busy();
        }
        let evicted = |index: usize| permits[index].activity().is_evicted();
        assert!(count < 7 || !evicted(7));
        let others = (0..=count).filter(|&index| index != 7);
        assert!(
            others
                .enumerate()
                .all(|(nth, index)| evicted(index) == (nth < gone))
        );
    }
    assert!(!other.activity().is_evicted());
}
