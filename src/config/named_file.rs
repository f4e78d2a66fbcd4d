//! Reads files that the configuration names. They are read whole: only regular files of a limited size,
//! since a pipe can block and a device can be endless.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use aws_lc_rs::digest::{self, SHA256};
use zeroize::Zeroizing;

/// The SHA-256 of the content of a file. Not shown in `Debug`: a short secret can be guessed from it.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct FileDigest([u8; 32]);

impl fmt::Debug for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileDigest(..)")
    }
}

impl FileDigest {
    /// Computes the digest of a content.
    pub(super) fn of(content: &[u8]) -> Self {
        let digest = digest::digest(&SHA256, content);
        // The length of SHA-256 is 32; `Self` of zeros would only mean one more read.
        Self(digest.as_ref().try_into().unwrap_or_default())
    }
}

/// Reads a regular file and returns its digest; `None` if it cannot be read.
pub fn digest_named_file(path: &Path) -> Option<FileDigest> {
    let content = Zeroizing::new(read_named_file(path).ok()?);
    Some(FileDigest::of(&content))
}

/// Reads a regular file; symbolic links are followed.
///
/// # Errors
/// The file cannot be read, is not a regular file (reading a pipe or a device can block), or is too
/// large to be a key, a certificate or a list of them.
pub fn read_named_file(path: &Path) -> io::Result<Vec<u8>> {
    let refused = |reason: &str| io::Error::new(io::ErrorKind::InvalidInput, reason);
    // Checked before `open`, which blocks on a pipe until its other end is opened.
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Err(refused("it is no regular file"));
    }
    read_at_most(path, metadata.len())
}

/// Reads the configuration file. It can be a pipe (`--config <(…)`), which can be read only once.
///
/// # Errors
/// The file cannot be read or is too large.
pub(super) fn read_once(path: &Path) -> io::Result<Vec<u8>> {
    read_at_most(path, 0)
}

fn read_at_most(path: &Path, expected: u64) -> io::Result<Vec<u8>> {
    // Allocated once: a growing buffer leaves copies of a secret in freed memory.
    let expected = expected.min(MAX_FILE_SIZE) + 1;
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or_default());
    // One byte more than allowed detects a file that grew since its length was read.
    File::open(path)?
        .take(MAX_FILE_SIZE + 1)
        .read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_FILE_SIZE) {
        let message = "it is larger than 64 MiB";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(bytes)
}

/// Our choice, documented at `access_keys_file`: a hundred thousand access keys take 20 MiB.
const MAX_FILE_SIZE: u64 = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_of_a_limited_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("plain"), "text").unwrap();
        std::os::unix::fs::symlink("plain", path("link")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", path("endless")).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(path("pipe"))
            .status();
        assert!(made.unwrap().success());
        let large = File::create(path("large")).unwrap();
        large.set_len(MAX_FILE_SIZE + 1).unwrap();
        assert_eq!(read_named_file(&path("link")).unwrap(), b"text");
        for (name, message) in [
            ("pipe", "no regular file"),
            ("endless", "no regular file"),
            ("large", "larger than 64 MiB"),
            (".", "directory"),
            ("nothing", "No such file"),
        ] {
            let error = read_named_file(&path(name)).unwrap_err().to_string();
            assert!(error.contains(message), "{name}: {error}");
        }
        large.set_len(MAX_FILE_SIZE).unwrap();
        assert!(read_named_file(&path("large")).is_ok());
    }
}
