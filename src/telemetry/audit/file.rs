//! The file of an audit log: how it is opened, and where the chain in it ends.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::super::output::LineOutput;
use super::chain::{self, NO_PREVIOUS};

/// Opens the file to append to.
pub(super) fn open(path: &Path) -> io::Result<LineOutput> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    LineOutput::append_with(&options, path)
}

/// Returns the hash of the last whole line of a file, and whether the file ends within a line.
pub(super) fn last_line(path: &Path) -> io::Result<(String, bool)> {
    let none = || NO_PREVIOUS.to_owned();
    let mut file = match File::open(path) {
        Ok(file) if file.metadata()?.is_file() => file,
        Ok(_) => return Ok((none(), false)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((none(), false)),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let is_torn = tail.last().is_some_and(|last| *last != b'\n');
    let whole = tail.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
    let lines = tail.get(..whole).unwrap_or_default();
    let hash = lines
        .rsplit(|byte| *byte == b'\n')
        .find_map(|line| chain::split(line).map(|(_, hash)| hash.to_owned()));
    Ok((hash.unwrap_or_else(none), is_torn))
}

/// Bytes at the end of a file in which its last line is looked for. The longest line has some 3 KiB.
const TAIL: u64 = 64 << 10;
