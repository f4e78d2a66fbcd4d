//! Which access keys asked a cluster of late: all of them, as long as they are few.

use std::sync::atomic::{AtomicU64, Ordering};

/// The last few access keys by hash, each with the second in which it last asked. While each place holds
/// a key that asked within [`WINDOW_SECONDS`], further keys are not recorded: then it is known that they
/// are not few.
#[derive(Debug, Default)]
pub(super) struct RecentKeys([AtomicU64; PLACES]);

impl RecentKeys {
    /// Records that an access key asked. Most calls only read.
    pub(super) fn record(&self, key_hash: u32, second: u32) {
        let seen = u64::from(key_hash) << 32 | u64::from(second);
        let mut free = None;
        for place in &self.0 {
            let held = place.load(Ordering::Relaxed);
            if held >> 32 == u64::from(key_hash) && held != 0 {
                if held != seen {
                    place.store(seen, Ordering::Relaxed);
                }
                return;
            }
            if free.is_none() && !is_recent(held, second) {
                free = Some(place);
            }
        }
        if let Some(place) = free {
            place.store(seen, Ordering::Relaxed);
        }
    }

    /// Returns the hashes of all access keys that asked within the window; `None` if they may be more than
    /// [`PLACES`] less one.
    pub(super) fn all_if_few(&self, second: u32) -> Option<Vec<u32>> {
        let held = self.0.each_ref().map(|place| place.load(Ordering::Relaxed));
        let recent = held.iter().filter(|held| is_recent(**held, second));
        let hashes: Vec<u32> = recent.map(|held| (held >> 32) as u32).collect();
        (hashes.len() < PLACES).then_some(hashes)
    }
}

fn is_recent(held: u64, second: u32) -> bool {
    held != 0 && second.saturating_sub(held as u32) <= WINDOW_SECONDS
}

/// As many as are needed to tell two keys from more.
const PLACES: usize = 3;

/// The time in which a node that refuses signatures is judged.
pub(super) const WINDOW_SECONDS: u32 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_keys_are_all_known_and_three_are_many() {
        let recent = RecentKeys::default();
        assert_eq!(recent.all_if_few(100), Some(vec![]));
        recent.record(7, 100);
        recent.record(8, 110);
        recent.record(7, 120);
        assert_eq!(recent.all_if_few(125), Some(vec![7, 8]));
        recent.record(9, 125);
        assert_eq!(recent.all_if_few(126), None);
        assert_eq!(recent.all_if_few(152), Some(vec![9]), "7 and 8 are old");
        recent.record(10, 152);
        assert_eq!(recent.all_if_few(152), Some(vec![10, 9]));
    }
}
