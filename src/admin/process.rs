//! What the process takes from the system.

use rustix::process::{Resource, getrlimit};

/// Open descriptors, and how many there may be. `None` where the system does not say.
pub(super) fn descriptors() -> (Option<usize>, Option<u64>) {
    // One of them is the folder that is being read.
    let open = std::fs::read_dir("/proc/self/fd").map(|entries| entries.count() - 1);
    (open.ok(), getrlimit(Resource::Nofile).current)
}

/// Memory in use, in bytes.
pub(super) fn resident_memory() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = statm.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size())
}

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
        // Other tests open and close files meanwhile.
        assert!(open.unwrap() >= more.len(), "{before:?} {open:?}");
        assert!(most.is_none_or(|most| most >= open.unwrap() as u64));
        assert!(resident_memory().unwrap() > 1 << 20);
    }
}
