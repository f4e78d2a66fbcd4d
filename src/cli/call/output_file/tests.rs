use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::process::Command;

use super::*;

async fn write(path: &Path, text: &'static str) -> anyhow::Result<()> {
    let file = OutputFile::create(path).await?;
    file.write(Bytes::from_static(text.as_bytes())).await?;
    file.finish()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_device_is_written_and_stays_a_device() {
    write(Path::new("/dev/null"), "text").await.unwrap();
    let metadata = fs::metadata("/dev/null").unwrap();
    assert!(metadata.file_type().is_char_device());
}

#[tokio::test]
async fn a_fifo_is_written_and_stays_a_fifo() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let reader = std::thread::spawn({
        let fifo = fifo.clone();
        move || {
            let mut text = String::new();
            File::open(fifo).unwrap().read_to_string(&mut text).unwrap();
            text
        }
    });
    write(&fifo, "text").await.unwrap();
    assert_eq!(reader.join().unwrap(), "text");
    assert!(fs::metadata(&fifo).unwrap().file_type().is_fifo());
    assert_eq!(names(folder.path()), ["fifo"]);
}

#[tokio::test]
async fn a_closed_fifo_is_an_error_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let reader = std::thread::spawn({
        let fifo = fifo.clone();
        move || drop(File::open(fifo).unwrap())
    });
    let file = OutputFile::create(&fifo).await.unwrap();
    reader.join().unwrap();
    let error = file.write(Bytes::from_static(b"text")).await.unwrap_err();
    assert!(error.downcast_ref::<io::Error>().is_none(), "{error:?}");
    assert!(error.to_string().contains("fifo"), "{error}");
}

#[tokio::test]
async fn links_are_followed_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("inside");
    fs::create_dir(&inside).unwrap();
    fs::write(inside.join("old"), "old").unwrap();
    symlink("inside/old", folder.path().join("link")).unwrap();
    symlink("inside/new", folder.path().join("dangling")).unwrap();
    symlink("dangling", folder.path().join("twice")).unwrap();
    symlink("loop", folder.path().join("loop")).unwrap();
    write(&folder.path().join("link"), "text").await.unwrap();
    write(&folder.path().join("twice"), "text").await.unwrap();
    for name in ["old", "new"] {
        assert_eq!(fs::read_to_string(inside.join(name)).unwrap(), "text");
    }
    assert!(
        fs::symlink_metadata(folder.path().join("twice"))
            .unwrap()
            .is_symlink()
    );
    assert!(write(&folder.path().join("loop"), "text").await.is_err());
    assert_eq!(names(&inside), ["new", "old"]);
}

#[tokio::test]
async fn an_unfinished_file_leaves_everything_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    for name in ["a", "a.part"] {
        fs::write(folder.path().join(name), name).unwrap();
    }
    let file = OutputFile::create(&path).await.unwrap();
    file.write(Bytes::from_static(b"te")).await.unwrap();
    assert_eq!(names(folder.path()).len(), 3);
    drop(file);
    assert_eq!(names(folder.path()), ["a", "a.part"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "a");

    // The rename fails: the target has become a directory that is not empty.
    let file = OutputFile::create(&path).await.unwrap();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("inside"), "").unwrap();
    assert!(file.finish().is_err());
    assert_eq!(names(folder.path()), ["a", "a.part"]);
    assert_eq!(
        fs::read_to_string(folder.path().join("a.part")).unwrap(),
        "a.part"
    );
    assert!(OutputFile::create(&path).await.is_err(), "a directory");
}

#[tokio::test]
async fn a_replaced_file_keeps_its_mode_and_a_new_one_has_the_usual() {
    let folder = tempfile::tempdir().unwrap();
    let [old, new, usual] = ["old", "new", "usual"].map(|name| folder.path().join(name));
    fs::write(&old, "old").unwrap();
    fs::set_permissions(&old, Permissions::from_mode(0o640)).unwrap();
    fs::write(&usual, "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    write(&old, "text").await.unwrap();
    write(&new, "text").await.unwrap();
    assert_eq!((mode(&old), mode(&new)), (0o640, mode(&usual)));
}
