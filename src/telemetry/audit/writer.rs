//! The thread that writes an audit log: it alone knows the hash of the last line that arrived.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::super::loss_report::LossReport;
use super::super::output::LineOutput;
use super::super::writer_thread::now as instant;
use super::entry::{self, Position};
use super::{AuditQueue, AuditSettings, Reopen, chain, file, now};
use crate::metrics::{AuditLines, Shard};

/// The state of the writer thread.
pub(super) struct Writer {
    settings: AuditSettings,
    queue: Arc<AuditQueue>,
    metrics: Arc<Shard>,
    output: LineOutput,
    /// Of the last line that arrived.
    hash: String,
    seq: u64,
    /// Lines that did not arrive since then.
    lost: u64,
    is_torn: bool,
    losses: LossReport,
    next_head_report: Instant,
}

impl Writer {
    /// Opens the file and begins a chain, after the last whole line of the file.
    pub(super) fn begin(
        settings: AuditSettings,
        queue: Arc<AuditQueue>,
        metrics: Arc<Shard>,
    ) -> io::Result<Self> {
        let (previous, is_torn) = file::last_line(&settings.path)?;
        let output = file::open(&settings.path)?;
        let mut writer = Self {
            settings,
            queue,
            metrics,
            output,
            hash: previous,
            seq: 0,
            lost: 0,
            is_torn: false,
            losses: LossReport::default(),
            next_head_report: instant() + HEAD_REPORT_INTERVAL,
        };
        let position = writer.position(1, now());
        let mut line = entry::start_line(position, is_torn);
        let hash = writer.seal(&mut line);
        if is_torn {
            tracing::warn!(
                "the audit log ended within a line: it was torn, and the next chain begins after it"
            );
        }
        let outcome = writer.output.write(&line);
        if let Some(error) = outcome.error {
            return Err(error);
        }
        writer.metrics.count(AuditLines::Written);
        (writer.hash, writer.seq) = (hash, 1);
        writer.publish_head();
        Ok(writer)
    }

    pub(super) fn run(mut self, inbox: &Receiver<Reopen>) {
        loop {
            let command = inbox.recv_timeout(FLUSH_INTERVAL);
            self.write_waiting();
            if instant() >= self.next_head_report {
                self.next_head_report = instant() + HEAD_REPORT_INTERVAL;
                self.report_head();
            }
            match command {
                Ok(Reopen) => match file::open(&self.settings.path) {
                    Ok(opened) => (self.output, self.is_torn) = (opened, false),
                    Err(error) => tracing::error!(%error, "the audit log cannot be reopened"),
                },
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.report_head();
                    return;
                }
            }
        }
    }

    /// Writes what waits, one line at a time: the hash of a line that does not arrive must not be in the next.
    fn write_waiting(&mut self) {
        let (entries, last_seq) = self.queue.take();
        for (seq, time, entry) in entries {
            self.lose(seq.saturating_sub(self.seq + self.lost + 1));
            if self.write_lost(time) {
                let mut line = entry::line(self.position(seq, time), &entry);
                self.write(&mut line, seq);
            } else {
                self.lose(1);
            }
        }
        self.lose(last_seq.saturating_sub(self.seq + self.lost));
        self.write_lost(now());
        self.publish_head();
    }

    fn lose(&mut self, count: u64) {
        self.lost += count;
        self.metrics.count_many(AuditLines::Lost, count);
    }

    /// Writes the line about lost ones, if there are any. Returns whether none is missing now.
    fn write_lost(&mut self, time: Timestamp) -> bool {
        if self.lost == 0 {
            return true;
        }
        let (lost, seq) = (self.lost, self.seq + self.lost);
        let mut line = entry::lost_line(self.position(seq, time), lost, self.is_torn);
        let hash = self.seal(&mut line);
        let outcome = self.output.write(&line);
        let is_written = outcome.written == 1;
        if is_written {
            (self.hash, self.seq, self.lost, self.is_torn) = (hash, seq, 0, false);
            self.metrics.count(AuditLines::Written);
            if let Some(lines) = self.losses.add(lost, instant()) {
                tracing::error!(lines, "lines of the audit log were lost");
            }
        } else {
            self.failed(outcome.error.as_ref(), lost);
        }
        is_written
    }

    fn write(&mut self, line: &mut Vec<u8>, seq: u64) {
        let hash = self.seal(line);
        let outcome = self.output.write(line);
        if outcome.written == 1 {
            (self.hash, self.seq) = (hash, seq);
            self.metrics.count(AuditLines::Written);
        } else {
            self.lose(1);
            self.failed(outcome.error.as_ref(), 1);
        }
    }

    fn failed(&mut self, error: Option<&io::Error>, lines: u64) {
        if let LineOutput::File { is_torn, .. } = &self.output {
            self.is_torn |= *is_torn;
        }
        if let Some(lines) = self.losses.add(lines, instant()) {
            let error = error.map(tracing::field::display);
            tracing::error!(
                error,
                lines,
                "the audit log cannot be written: lines are lost"
            );
        }
    }

    fn seal(&self, line: &mut Vec<u8>) -> String {
        chain::seal(line, &self.hash, self.settings.key.as_ref())
    }

    fn position(&self, seq: u64, time: Timestamp) -> Position<'_> {
        Position {
            seq,
            time,
            instance: &self.settings.instance,
        }
    }

    fn publish_head(&self) {
        *self.queue.head.lock() = (self.seq, self.hash.clone());
    }

    fn report_head(&self) {
        tracing::info!(
            seq = self.seq,
            hash = self.hash,
            "the head of the audit log"
        );
    }
}

/// How often waiting entries are written: the largest delay of a line. Our choice, as for the access log.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// How often the log of diagnostics has the head of the chain.
const HEAD_REPORT_INTERVAL: Duration = Duration::from_secs(3600);
