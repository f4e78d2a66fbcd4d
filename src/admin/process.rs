//! Resource usage of the process.

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// Returns the number of open file descriptors and their limit; `None` where the system does not report it.
///
/// A process that has none left cannot open the directory that lists them: all are open then.
pub(super) fn descriptors() -> (Option<usize>, Option<u64>) {
    let most = getrlimit(Resource::Nofile).current;
    (open_descriptors(most), most)
}

fn open_descriptors(most: Option<u64>) -> Option<usize> {
    // Since Linux 6.2 the size of the directory is their number (proc_pid_fd(5)); before, it is 0.
    if let Ok(directory) = std::fs::metadata(DESCRIPTORS)
        && directory.len() > 0
    {
        return usize::try_from(directory.len()).ok();
    }
    match std::fs::read_dir(DESCRIPTORS) {
        // One of them is the directory being read.
        Ok(entries) => Some(entries.count() - 1),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::MFILE) => {
            most.and_then(|most| usize::try_from(most).ok())
        }
        Err(_) => None,
    }
}

/// Returns the resident memory in bytes (proc_pid_statm(5), second field).
pub(super) fn resident_memory() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = statm.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size())
}

const DESCRIPTORS: &str = "/proc/self/fd";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_and_memory_are_counted() {
        let (before, most) = descriptors();
        let more: Vec<_> = (0..50)
            .map(|_| std::fs::File::open("/dev/null").unwrap())
            .collect();
        let (open, _) = descriptors();
        // Other tests open and close files concurrently.
        assert!(open.unwrap() >= more.len(), "{before:?} {open:?}");
        assert!(most.is_none_or(|most| most >= open.unwrap() as u64));
        assert!(resident_memory().unwrap() > 1 << 20);
    }
}
