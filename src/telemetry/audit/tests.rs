use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use super::super::writer_thread::now as instant;
use super::chain::NO_PREVIOUS;
use super::*;
use crate::metrics::{AuditLines, Metrics};

fn settings(path: &Path, key: Option<&str>) -> AuditSettings {
    AuditSettings {
        path: path.to_owned(),
        key: key.map(|key| AuditKey::new(key.into())),
        instance: "gw-1".to_owned(),
    }
}

fn order(number: usize) -> OrderEntry {
    OrderEntry {
        order: "purge",
        subject: format!("entry \u{202e}\"{number}\""),
        before: 1.into(),
        after: 0.into(),
        by: Ipv4Addr::LOCALHOST.into(),
        status: 200,
    }
}

fn open(settings: AuditSettings) -> (AuditLog, Metrics) {
    let metrics = Metrics::default();
    let log = AuditLog::open(settings, metrics.add_shard()).unwrap();
    (log, metrics)
}

fn verify(files: &[&[u8]], key: Option<&str>) -> Result<Verified, String> {
    let mut verifier = AuditVerifier::new(key.map(|key| AuditKey::new(key.into())), None);
    for file in files {
        verifier
            .check(*file)
            .unwrap()
            .map_err(|bad| format!("{}: {}", bad.line, bad.reason))?;
    }
    verifier.finish()
}

/// The file of a log with `count` orders.
fn written(count: usize, key: Option<&str>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let (log, metrics) = open(settings(&path, key));
    (0..count).for_each(|number| log.queue().order(order(number)));
    drop(log);
    assert_eq!(metrics.sum().get(AuditLines::Written), count as u64 + 1);
    std::fs::read(path).unwrap()
}

#[test]
fn every_entry_is_a_line_of_one_chain() {
    for key in [None, Some("0123456789abcdef0123456789abcdef")] {
        let file = written(100, key);
        let verified = verify(&[&file], key).unwrap();
        assert_eq!(
            (verified.lines, verified.chains, verified.lost),
            (101, 1, 0)
        );
        assert_eq!(verified.head.unwrap().0, 101);
        let first = String::from_utf8(file).unwrap();
        let lines: Vec<serde_json::Value> = first
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(
            (&lines[0]["kind"], &lines[0]["seq"]),
            (&"start".into(), &1.into())
        );
        assert_eq!(lines[0]["previous"], NO_PREVIOUS);
        assert_eq!(lines[0]["instance"], "gw-1");
        assert_eq!(lines[7]["subject"], "entry \u{202e}\"6\"");
        assert_eq!(lines[8]["previous"], lines[7]["hash"]);
    }
}

#[test]
fn each_change_is_found_at_its_line() {
    let key = Some("0123456789abcdef0123456789abcdef");
    let file = written(10, key);
    let lines: Vec<&[u8]> = file.split_inclusive(|byte| *byte == b'\n').collect();
    let fails_at = |lines: &[&[u8]]| {
        let error = verify(&[&lines.concat()], key).unwrap_err();
        error.split_once(':').unwrap().0.parse::<usize>().unwrap()
    };
    for at in 1..10 {
        let mut removed = lines.clone();
        removed.remove(at);
        assert_eq!(fails_at(&removed), at + 1, "removed");
        let mut swapped = lines.clone();
        swapped.swap(at, at + 1);
        assert_eq!(fails_at(&swapped), at + 1, "swapped");
        let changed = String::from_utf8(lines[at].to_vec())
            .unwrap()
            .replace("purge", "drain");
        let mut changed_lines = lines.clone();
        changed_lines[at] = changed.as_bytes();
        assert_eq!(fails_at(&changed_lines), at + 1, "changed");
        let mut twice = lines.clone();
        twice.insert(at, lines[at]);
        assert_eq!(fails_at(&twice), at + 2, "twice");
    }
    assert!(
        verify(&[&file], None).is_err()
            && verify(&[&file], Some("another key, also of 32 bytes....")).is_err()
    );
    assert!(verify(&[&written(1, None)], key).is_err());
}

#[test]
fn a_cut_tail_shows_by_the_head() {
    let file = written(10, None);
    let head = verify(&[&file], None).unwrap().head.unwrap();
    let kept = file
        .split_inclusive(|byte| *byte == b'\n')
        .take(9)
        .collect::<Vec<_>>()
        .concat();
    for (file, is_whole) in [(&file, true), (&kept, false)] {
        let mut verifier = AuditVerifier::new(None, Some(head.clone()));
        assert_eq!(verifier.check(&file[..]).unwrap(), Ok(()));
        assert_eq!(verifier.finish().is_ok(), is_whole);
    }
}

#[test]
fn a_torn_last_line_is_named_and_the_chain_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let mut torn = written(3, None);
    torn.truncate(torn.len() - 20);
    std::fs::write(&path, &torn).unwrap();
    assert_eq!(verify(&[&torn], None).unwrap().torn, 1);
    let (log, _) = open(settings(&path, None));
    log.queue().order(order(1));
    drop(log);
    let file = std::fs::read(&path).unwrap();
    let verified = verify(&[&file], None).unwrap();
    assert_eq!((verified.torn, verified.chains, verified.lines), (1, 2, 5));
    let text = String::from_utf8(file).unwrap();
    let start: serde_json::Value = serde_json::from_str(text.lines().nth(4).unwrap()).unwrap();
    assert_eq!((&start["torn"], &start["seq"]), (&true.into(), &1.into()));
    // A line of something else, that no start explains, is found.
    let spoiled = text.replacen('\n', "\nsomething else\n", 1);
    assert!(verify(&[spoiled.as_bytes()], None).is_err());
}

#[test]
fn several_processes_and_rotated_files_verify_together() {
    let folder = tempfile::tempdir().unwrap();
    let (path, rotated) = (
        folder.path().join("audit.log"),
        folder.path().join("audit.log.1"),
    );
    let (log, _) = open(settings(&path, None));
    log.queue().order(order(1));
    let queue = log.queue();
    let is_written = |seq| {
        let deadline = instant() + Duration::from_secs(10);
        while queue.head().0 < seq {
            assert!(instant() < deadline, "not written");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    is_written(2);
    std::fs::rename(&path, &rotated).unwrap();
    log.reopen();
    let deadline = instant() + Duration::from_secs(10);
    while !path.exists() {
        assert!(instant() < deadline, "not reopened");
        std::thread::sleep(Duration::from_millis(5));
    }
    log.queue().order(order(2));
    drop(log);
    drop(open(settings(&path, None)));
    let (first, second) = (
        std::fs::read(&rotated).unwrap(),
        std::fs::read(&path).unwrap(),
    );
    let verified = verify(&[&first, &second], None).unwrap();
    assert_eq!(
        (verified.chains, verified.lines, verified.continues_from),
        (2, 4, None)
    );
    let wrong_order = verify(&[&second, &first], None).unwrap();
    assert_eq!(
        wrong_order.continues_from,
        Some(3),
        "what came before is missing"
    );
    assert_eq!(verify(&[&second], None).unwrap().continues_from, Some(3));
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_a_full_queue_loses_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let (log, metrics) = open(settings(&path, None));
    let queue = log.queue();
    {
        // The writer takes nothing meanwhile.
        let mut waiting = queue.waiting.lock();
        let before = waiting.next_seq;
        waiting.next_seq += 5;
        assert_eq!(before, 2);
    }
    queue.order(order(1));
    drop(log);
    let file = std::fs::read(&path).unwrap();
    let verified = verify(&[&file], None).unwrap();
    assert_eq!((verified.lost, verified.lines), (5, 3));
    assert_eq!(metrics.sum().get(AuditLines::Lost), 5);
}
