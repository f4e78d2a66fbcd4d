//! Files that change, on a clock of their own.

use std::path::Path;

use super::*;

/// Files in a directory of their own, and scans at chosen times.
struct Fixture {
    folder: tempfile::TempDir,
    start: Instant,
}

impl Fixture {
    #[expect(
        clippy::disallowed_methods,
        reason = "the start of the clock of a test"
    )]
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            start: Instant::now(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the times of files are of this clock"
    )]
    fn clock(&self, seconds: u64) -> Clock {
        Clock {
            now: self.start + Duration::from_secs(seconds),
            wall: SystemTime::now(),
            settle: SETTLE_TIME,
            verify_all: false,
            only_unsettled: false,
        }
    }
}

fn seen(path: &Path) -> Seen {
    Seen::read(crate::config::digest_named_file(path))
}

#[test]
fn a_changed_file_is_taken_when_it_has_been_the_same_for_a_second() {
    let f = Fixture::new();
    f.write("key", "one");
    let path = f.path("key");
    let mut seen = seen(&path);
    assert_eq!(seen.observe(&path, &f.clock(0)), Observation::Same);
    f.write("key", "tw");
    assert_eq!(seen.observe(&path, &f.clock(5)), Observation::Unsettled);
    f.write("key", "two");
    assert_eq!(seen.observe(&path, &f.clock(6)), Observation::Unsettled);
    assert_eq!(seen.observe(&path, &f.clock(7)), Observation::Changed);
    assert_eq!(seen.observe(&path, &f.clock(8)), Observation::Same);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(seen.observe(&path, &f.clock(9)), Observation::Unsettled);
    assert_eq!(seen.observe(&path, &f.clock(10)), Observation::Changed);
}

#[test]
fn only_a_change_of_content_is_reported_also_through_links() {
    let f = Fixture::new();
    for (version, secret) in [("one", "same"), ("two", "same"), ("three", "other")] {
        std::fs::create_dir(f.path(version)).unwrap();
        std::fs::write(f.path(version).join("key"), secret).unwrap();
    }
    let point_to = |version: &str| {
        std::os::unix::fs::symlink(version, f.path("new")).unwrap();
        std::fs::rename(f.path("new"), f.path("..data")).unwrap();
    };
    point_to("one");
    std::os::unix::fs::symlink("..data/key", f.path("key")).unwrap();
    let path = f.path("key");
    let mut seen = seen(&path);
    point_to("two");
    assert_eq!(seen.observe(&path, &f.clock(0)), Observation::Same);
    point_to("three");
    assert_eq!(seen.observe(&path, &f.clock(1)), Observation::Unsettled);
    assert_eq!(seen.observe(&path, &f.clock(2)), Observation::Changed);
}

#[test]
fn a_change_right_after_a_read_is_found_although_the_file_looks_the_same() {
    let f = Fixture::new();
    let path = f.path("key");
    f.write("key", "1");
    let mut seen = seen(&path);
    f.write("key", "2");
    assert_eq!(seen.observe(&path, &f.clock(0)), Observation::Unsettled);
    assert_eq!(seen.observe(&path, &f.clock(1)), Observation::Changed);
}
