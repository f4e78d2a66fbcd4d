//! How many frames a client may send that carry nothing: PING, SETTINGS, WINDOW_UPDATE, PRIORITY,
//! RST_STREAM, empty DATA, unknown ones. Each costs us work and the client almost nothing, so they are
//! paid for by what the connection does besides. Pure.

use tokio::time::{Duration, Instant};

/// What a connection has done so far, each a running sum.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Work {
    /// Streams opened.
    pub(super) streams: u64,
    /// Frames of answers; a client may confirm each of them.
    pub(super) pieces: u64,
    /// Bytes in both directions.
    pub(super) bytes: u64,
}

/// The frames that one connection may still send.
#[derive(Debug)]
pub(super) struct Allowance {
    left: u64,
    refilled: Instant,
    /// Already paid out for this.
    work: Work,
}

/// There were more than any honest client sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Flood;

impl Allowance {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            left: BURST,
            refilled: now,
            work: Work::default(),
        }
    }

    /// `frames` have come that carry nothing; `work` is the sum of all that was done so far.
    pub(super) fn charge(&mut self, now: Instant, frames: u64, work: Work) -> Result<(), Flood> {
        self.earn_by_time(now);
        self.earn_by_work(work);
        self.left = self.left.checked_sub(frames).ok_or(Flood)?;
        Ok(())
    }

    fn earn_by_time(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled).as_millis() / EVERY.as_millis();
        let earned = u32::try_from(passed).unwrap_or(u32::MAX);
        // What is less than a whole frame is earned the next time.
        self.refilled += EVERY * earned;
        if self.left < BURST {
            self.left = BURST.min(self.left + u64::from(earned));
        }
    }

    fn earn_by_work(&mut self, work: Work) {
        let streams = work.streams - self.work.streams;
        let pieces = work.pieces - self.work.pieces;
        let bytes = (work.bytes - self.work.bytes) / BYTES;
        let earned = streams * PER_STREAM + pieces * PER_PIECE + bytes;
        self.left = STORE.min(self.left + earned);
        self.work = Work {
            bytes: self.work.bytes + bytes * BYTES,
            ..work
        };
    }
}

/// At once, without any work.
const BURST: u64 = 1000;

/// One more each time, up to the burst.
const EVERY: Duration = Duration::from_millis(10);

/// PRIORITY, WINDOW_UPDATE, RST_STREAM, an empty DATA, with room to spare.
const PER_STREAM: u64 = 8;

/// Two windows to open, a PING to measure by, and one to spare.
const PER_PIECE: u64 = 4;

/// One frame for as many bytes: honest windows are opened by several KiB at a time.
const BYTES: u64 = 512;

/// What work has earned stays that long: the windows for the last megabytes of a download are opened
/// when nothing more is sent.
const STORE: u64 = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_without_work_are_few() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let idle = Work::default();
        assert_eq!(allowance.charge(start, BURST, idle), Ok(()));
        assert_eq!(allowance.charge(start, 1, idle), Err(Flood));
        let later = start + EVERY * 10;
        assert_eq!(allowance.charge(later, 10, idle), Ok(()));
        assert_eq!(allowance.charge(later, 1, idle), Err(Flood));
        let much_later = start + Duration::from_secs(3600);
        assert_eq!(allowance.charge(much_later, BURST, idle), Ok(()));
        assert_eq!(allowance.charge(much_later, 1, idle), Err(Flood));
    }

    #[test]
    fn a_long_download_may_open_its_windows() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let mut work = Work {
            streams: 1,
            ..Work::default()
        };
        // Two windows for each 4 KiB, of an instant download of 400 MB.
        for _ in 0..100_000 {
            work.bytes += 4096;
            assert_eq!(allowance.charge(start, 2, work), Ok(()));
        }
        // In small frames too, each of them confirmed twice.
        for _ in 0..100_000 {
            work.pieces += 1;
            work.bytes += 10;
            assert_eq!(allowance.charge(start, 2, work), Ok(()));
        }
        assert_eq!(allowance.charge(start, STORE + 1, work), Err(Flood));
    }

    #[test]
    fn bytes_and_time_that_come_in_parts_earn_the_same() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let mut work = Work::default();
        assert_eq!(allowance.charge(start, BURST, work), Ok(()));
        for part in 1..=100 {
            work.bytes += BYTES / 4;
            let now = start + EVERY / 4 * part;
            assert_eq!(allowance.charge(now, 0, work), Ok(()));
        }
        let end = start + EVERY * 25;
        assert_eq!(allowance.charge(end, 51, work), Err(Flood));
        assert_eq!(allowance.charge(end, 50, work), Ok(()));
    }
}
