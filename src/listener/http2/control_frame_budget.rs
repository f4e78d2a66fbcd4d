//! How many frames a client may send that carry nothing: PING, SETTINGS, WINDOW_UPDATE, PRIORITY,
//! RST_STREAM, empty DATA, unknown ones. Each costs us work and the client almost nothing, so they are
//! paid for by what the connection does besides. Pure.

use tokio::time::{Duration, Instant};

/// What a connection has done so far, each a running sum.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WorkDone {
    /// Streams opened.
    pub(super) streams: u64,
    /// Frames of answers; a client may confirm each of them.
    pub(super) response_frames: u64,
    /// Bytes in both directions.
    pub(super) bytes: u64,
}

/// The frames that one connection may still send.
#[derive(Debug)]
pub(super) struct ControlFrameBudget {
    remaining: u64,
    refilled_at: Instant,
    /// Already paid out for this.
    credited: WorkDone,
}

/// There were more than any honest client sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct ControlFrameFlood;

impl ControlFrameBudget {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            remaining: BURST,
            refilled_at: now,
            credited: WorkDone::default(),
        }
    }

    /// `frames` have come that carry nothing; `work` is the sum of all that was done so far.
    pub(super) fn charge(
        &mut self,
        now: Instant,
        frames: u64,
        work: WorkDone,
    ) -> Result<(), ControlFrameFlood> {
        self.refill_by_time(now);
        self.refill_by_work(work);
        self.remaining = self
            .remaining
            .checked_sub(frames)
            .ok_or(ControlFrameFlood)?;
        Ok(())
    }

    fn refill_by_time(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled_at).as_millis()
            / REFILL_INTERVAL.as_millis();
        let earned = u32::try_from(passed).unwrap_or(u32::MAX);
        // What is less than a whole frame is earned the next time.
        self.refilled_at += REFILL_INTERVAL * earned;
        if self.remaining < BURST {
            self.remaining = BURST.min(self.remaining + u64::from(earned));
        }
    }

    fn refill_by_work(&mut self, work: WorkDone) {
        let streams = work.streams - self.credited.streams;
        let pieces = work.response_frames - self.credited.response_frames;
        let bytes = (work.bytes - self.credited.bytes) / BYTES_PER_FRAME;
        let earned = streams * FRAMES_PER_STREAM + pieces * FRAMES_PER_RESPONSE_FRAME + bytes;
        self.remaining = MAX_CREDIT.min(self.remaining + earned);
        self.credited = WorkDone {
            bytes: self.credited.bytes + bytes * BYTES_PER_FRAME,
            ..work
        };
    }
}

/// At once, without any work.
const BURST: u64 = 1000;

/// One more each time, up to the burst.
const REFILL_INTERVAL: Duration = Duration::from_millis(10);

/// PRIORITY, WINDOW_UPDATE, RST_STREAM, an empty DATA, with room to spare.
const FRAMES_PER_STREAM: u64 = 8;

/// Two windows to open, a PING to measure by, and one to spare.
const FRAMES_PER_RESPONSE_FRAME: u64 = 4;

/// One frame for as many bytes: honest windows are opened by several KiB at a time.
const BYTES_PER_FRAME: u64 = 512;

/// What work has earned stays that long: the windows for the last megabytes of a download are opened
/// when nothing more is sent.
const MAX_CREDIT: u64 = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_without_work_are_few() {
        let start = Instant::now();
        let mut allowance = ControlFrameBudget::new(start);
        let idle = WorkDone::default();
        assert_eq!(allowance.charge(start, BURST, idle), Ok(()));
        assert_eq!(allowance.charge(start, 1, idle), Err(ControlFrameFlood));
        let later = start + REFILL_INTERVAL * 10;
        assert_eq!(allowance.charge(later, 10, idle), Ok(()));
        assert_eq!(allowance.charge(later, 1, idle), Err(ControlFrameFlood));
        let much_later = start + Duration::from_secs(3600);
        assert_eq!(allowance.charge(much_later, BURST, idle), Ok(()));
        assert_eq!(
            allowance.charge(much_later, 1, idle),
            Err(ControlFrameFlood)
        );
    }

    #[test]
    fn a_long_download_may_open_its_windows() {
        let start = Instant::now();
        let mut allowance = ControlFrameBudget::new(start);
        let mut work = WorkDone {
            streams: 1,
            ..WorkDone::default()
        };
        // Two windows for each 4 KiB, of an instant download of 400 MB.
        for _ in 0..100_000 {
            work.bytes += 4096;
            assert_eq!(allowance.charge(start, 2, work), Ok(()));
        }
        // In small frames too, each of them confirmed twice.
        for _ in 0..100_000 {
            work.response_frames += 1;
            work.bytes += 10;
            assert_eq!(allowance.charge(start, 2, work), Ok(()));
        }
        assert_eq!(
            allowance.charge(start, MAX_CREDIT + 1, work),
            Err(ControlFrameFlood)
        );
    }

    #[test]
    fn bytes_and_time_that_come_in_parts_earn_the_same() {
        let start = Instant::now();
        let mut allowance = ControlFrameBudget::new(start);
        let mut work = WorkDone::default();
        assert_eq!(allowance.charge(start, BURST, work), Ok(()));
        for part in 1..=100 {
            work.bytes += BYTES_PER_FRAME / 4;
            let now = start + REFILL_INTERVAL / 4 * part;
            assert_eq!(allowance.charge(now, 0, work), Ok(()));
        }
        let end = start + REFILL_INTERVAL * 25;
        assert_eq!(allowance.charge(end, 51, work), Err(ControlFrameFlood));
        assert_eq!(allowance.charge(end, 50, work), Ok(()));
    }
}
