//! The bounded queue between the threads that log and the thread that writes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::super::output::{LineOutput, count_lines};

/// Lines that wait for the writer thread.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Notified when lines arrive.
    filled: Condvar,
    /// Notified when a write has ended.
    drained: Condvar,
    written: AtomicU64,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    is_writing: bool,
    /// Lost lines that are not reported yet.
    unreported: u64,
}

impl Queue {
    /// Appends a line, or drops it if the queue is full. Never waits for the writer.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.state.lock();
        if state.lines.len() + line.len() > QUEUE_LIMIT {
            let lines = count_lines(line);
            state.unreported += lines;
            self.lost.fetch_add(lines, Ordering::Relaxed);
            return;
        }
        state.lines.extend_from_slice(line);
        drop(state);
        self.filled.notify_one();
    }

    /// Writes what is queued; waits for lines, but not longer than `until`.
    pub(super) fn write_next(&self, until: Option<Instant>) {
        let mut state = self.state.lock();
        while state.lines.is_empty() {
            match until {
                Some(until) if self.filled.wait_until(&mut state, until).timed_out() => break,
                Some(_) => {}
                None => self.filled.wait(&mut state),
            }
        }
        let lines = std::mem::take(&mut state.lines);
        state.is_writing = true;
        drop(state);
        let outcome = LineOutput::Stderr.write(&lines);
        self.written.fetch_add(outcome.written, Ordering::Relaxed);
        self.lost.fetch_add(outcome.lost, Ordering::Relaxed);
        let mut state = self.state.lock();
        state.is_writing = false;
        state.unreported += outcome.lost;
        drop(state);
        self.drained.notify_all();
    }

    /// Waits until everything queued so far has been written or lost, but not longer than `timeout`.
    pub(super) fn flush(&self, timeout: Duration) {
        let mut state = self.state.lock();
        let busy = |state: &mut State| state.is_writing || !state.lines.is_empty();
        self.drained.wait_while_for(&mut state, busy, timeout);
    }

    /// Returns how many lines were written and how many were lost.
    pub(super) fn counts(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.written), count(&self.lost))
    }

    /// Returns and resets the number of lost lines that were not reported.
    pub(super) fn take_lost(&self) -> u64 {
        std::mem::take(&mut self.state.lock().unreported)
    }
}

/// Bytes of waiting lines: some thousand lines of a burst. Our choice.
const QUEUE_LIMIT: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_counts_and_does_not_wait() {
        let queue = Queue::default();
        let mut line = [b'x'; 1 << 10];
        line[1023] = b'\n';
        for _ in 0..2 * QUEUE_LIMIT / line.len() {
            queue.push(&line);
        }
        assert_eq!(queue.counts(), (0, QUEUE_LIMIT as u64 / 1024));
        assert_eq!(queue.take_lost(), QUEUE_LIMIT as u64 / 1024);
        assert_eq!(queue.take_lost(), 0);
        queue.flush(Duration::from_millis(1));
    }
}
