use std::net::Ipv4Addr;
use std::time::Duration;

use super::*;
use crate::metrics::Metrics;

#[test]
fn connections_go_by_age_also_between_searches() {
    let cap = 2 * QUEUE_CAPACITY;
    let limits = ConnectionLimitSettings {
        connections: 10 * QUEUE_CAPACITY,
        per_address: cap,
        handshakes: 1,
    };
    let caps = ConnectionLimits::new(limits, Metrics::default().add_shard());
    let (here, there) = (Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2));
    let other = caps.admit(Some(there.into())).unwrap();
    let at = |millis| caps.epoch + Duration::from_millis(millis);
    other.activity().set_idle(at(0));
    let mut permits = Vec::new();
    for count in 0..2 * cap {
        let permit = caps.admit(Some(here.into())).unwrap();
        permit.activity().set_idle(at(count as u64));
        permits.push(permit);
        let gone = (count + 1).saturating_sub(cap);
        // Connection 7 is asked something, so that it is no longer the oldest when its turn comes.
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
