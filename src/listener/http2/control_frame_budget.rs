//! Limits the frames of a client that carry no payload: PING, SETTINGS, WINDOW_UPDATE, PRIORITY,
//! RST_STREAM, empty DATA, unknown types (CVE-2019-9512 to 9518, CVE-2023-44487; RFC 9113, 10.5). Each
//! costs the gateway work and the client almost nothing, so the budget grows with time and with what the
//! connection does besides. Pure.

use tokio::time::{Duration, Instant};

/// What a connection has done so far, as running totals.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WorkDone {
    /// Streams opened.
    pub(super) streams: u64,
    /// Response frames; a client may acknowledge each of them.
    pub(super) response_frames: u64,
    /// Bytes in both directions.
    pub(super) bytes: u64,
}

/// The control frames that one connection may still send.
#[derive(Debug)]
pub(super) struct ControlFrameBudget {
    remaining: u64,
    refilled_at: Instant,
    /// The work for which the budget has been credited already.
    credited: WorkDone,
}

/// The budget is exceeded: no well-behaved client sends that many.
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

    /// Charges for `frames`, after crediting `work`, the running totals.
    ///
    /// # Errors
    ///
    /// [`ControlFrameFlood`] if the budget is exceeded.
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
        let credited = u32::try_from(passed).unwrap_or(u32::MAX);
        // A fraction of a frame is carried over to the next call.
        self.refilled_at += REFILL_INTERVAL * credited;
        if self.remaining < BURST {
            self.remaining = BURST.min(self.remaining + u64::from(credited));
        }
    }

    fn refill_by_work(&mut self, work: WorkDone) {
        let streams = work.streams - self.credited.streams;
        let pieces = work.response_frames - self.credited.response_frames;
        let bytes = (work.bytes - self.credited.bytes) / BYTES_PER_FRAME;
        let credited = streams * FRAMES_PER_STREAM + pieces * FRAMES_PER_RESPONSE_FRAME + bytes;
        self.remaining = MAX_CREDIT.min(self.remaining + credited);
        self.credited = WorkDone {
            bytes: self.credited.bytes + bytes * BYTES_PER_FRAME,
            ..work
        };
    }
}

/// Frames allowed without any work. Our choice: well above the SETTINGS, PINGs and PRIORITY frames of a
/// new connection.
const BURST: u64 = 1000;

/// One more frame per interval, up to the burst.
const REFILL_INTERVAL: Duration = Duration::from_millis(10);

/// PRIORITY, WINDOW_UPDATE, RST_STREAM and an empty DATA, with reserve.
const FRAMES_PER_STREAM: u64 = 8;

/// WINDOW_UPDATE of stream and connection, a PING for bandwidth estimation, and one in reserve.
const FRAMES_PER_RESPONSE_FRAME: u64 = 4;

/// One frame per this many bytes: clients open their windows by several KiB at a time.
const BYTES_PER_FRAME: u64 = 512;

/// Upper bound of the credit from work: the WINDOW_UPDATEs for the last megabytes of a download arrive
/// after everything has been sent.
const MAX_CREDIT: u64 = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_without_work_are_limited() {
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
        // In small frames too, each acknowledged twice.
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
    fn fractions_of_bytes_and_time_are_carried_over() {
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
