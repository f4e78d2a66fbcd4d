//! Writes whole lines to a file or standard error, and counts those that were written whole.
//!
//! Writes block. Only the writer threads of the access log and the diagnostics call them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use parking_lot::Mutex;

/// Where lines go.
#[derive(Debug)]
pub(super) enum LineOutput {
    /// A file of our own.
    File {
        /// The open file.
        file: File,
        /// Whether the last write ended within a line.
        is_torn: bool,
    },
    /// Standard error, shared by all of the process.
    Stderr,
}

/// Whether the last write to standard error ended within a line. Held while writing, so that lines of two
/// threads do not mix.
static STDERR_IS_TORN: Mutex<bool> = Mutex::new(false);

/// What a write achieved.
#[derive(Debug)]
pub(super) struct WriteOutcome {
    /// Lines that arrived completely.
    pub(super) written: u64,
    /// Lines that did not.
    pub(super) lost: u64,
    /// Why some did not.
    pub(super) error: Option<io::Error>,
}

impl LineOutput {
    /// Opens a file to append to, and creates it if it is missing. A file that ends within a line, as a full
    /// disk leaves it, is continued on a new line.
    pub(super) fn append_to(path: &Path) -> io::Result<Self> {
        Self::append_with(OpenOptions::new().create(true).append(true), path)
    }

    /// Like [`LineOutput::append_to`], with other options to open the file.
    pub(super) fn append_with(options: &OpenOptions, path: &Path) -> io::Result<Self> {
        let file = options.open(path)?;
        let is_torn = file.metadata()?.is_file() && ends_within_line(path).unwrap_or(false);
        Ok(Self::File { file, is_torn })
    }

    /// Writes lines that each end with a line feed. What the output refuses is lost, not retried.
    pub(super) fn write(&mut self, lines: &[u8]) -> WriteOutcome {
        match self {
            Self::File { file, is_torn } => write_lines(file, is_torn, lines),
            Self::Stderr => write_lines(&mut io::stderr(), &mut STDERR_IS_TORN.lock(), lines),
        }
    }
}

/// Writes text to standard error and waits for it, but not longer than `STDERR_TIMEOUT`: the last
/// output of a process must not delay its end.
pub fn write_stderr(text: &str) {
    let (done, finished) = sync_channel::<()>(1);
    let text = text.as_bytes().to_owned();
    let writer = std::thread::Builder::new()
        .name("stderr".to_owned())
        .spawn(move || {
            let _done = done;
            write_lines(&mut io::stderr(), &mut STDERR_IS_TORN.lock(), &text);
        });
    if writer.is_ok() {
        // Ends with an error: by the end of the thread, or by the timeout.
        let ended = finished.recv_timeout(STDERR_TIMEOUT);
        let _ = ended;
    }
}

fn ends_within_line(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// Ends a torn line first, so that no line continues another.
fn write_lines(output: &mut impl Write, is_torn: &mut bool, lines: &[u8]) -> WriteOutcome {
    let total = count_lines(lines);
    if *is_torn {
        let (_, error) = write_bytes(output, b"\n");
        if error.is_some() {
            return WriteOutcome {
                written: 0,
                lost: total,
                error,
            };
        }
        *is_torn = false;
    }
    let (length, error) = write_bytes(output, lines);
    let arrived = lines.get(..length).unwrap_or(lines);
    *is_torn = arrived.last().is_some_and(|&last| last != b'\n');
    let written = count_lines(arrived);
    WriteOutcome {
        written,
        lost: total - written,
        error,
    }
}

/// Returns how many bytes were written, and the error that kept the remainder from being written.
fn write_bytes(output: &mut impl Write, bytes: &[u8]) -> (usize, Option<io::Error>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match output.write(rest) {
            Ok(0) => return (written, Some(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Standard error may be shared with a process that made it non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(NON_BLOCKING_RETRY);
            }
            Err(error) => return (written, Some(error)),
        }
    }
    (written, None)
}

/// Returns the number of line feeds.
pub(super) fn count_lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// How long a process waits at its end for standard error. Our choice: a reader that is alive takes the
/// text within milliseconds.
const STDERR_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a write to a full non-blocking pipe is repeated.
const NON_BLOCKING_RETRY: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    /// Accepts `room` bytes, then fails.
    struct Disk {
        content: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room - self.content.len());
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.content.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_torn_line_is_never_continued_and_counts_as_lost() {
        let mut disk = Disk {
            content: Vec::new(),
            room: 7,
        };
        let mut is_torn = false;
        let outcome = write_lines(&mut disk, &mut is_torn, b"one\ntwo-\nthree\n");
        assert_eq!((outcome.written, outcome.lost), (1, 2));
        assert!(outcome.error.is_some() && is_torn);
        let outcome = write_lines(&mut disk, &mut is_torn, b"four\n");
        assert_eq!((outcome.written, outcome.lost, is_torn), (0, 1, true));
        disk.room = 100;
        let outcome = write_lines(&mut disk, &mut is_torn, b"five\n");
        assert_eq!((outcome.written, outcome.lost, is_torn), (1, 0, false));
        assert_eq!(disk.content, b"one\ntwo\nfive\n");
    }

    #[test]
    fn a_file_that_ends_within_a_line_is_continued_on_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        for (before, after) in [
            ("", "new\n"),
            ("old\n", "old\nnew\n"),
            ("torn", "torn\nnew\n"),
        ] {
            std::fs::write(&path, before).unwrap();
            let outcome = LineOutput::append_to(&path).unwrap().write(b"new\n");
            assert_eq!((outcome.written, outcome.lost), (1, 0));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
        }
    }
}
