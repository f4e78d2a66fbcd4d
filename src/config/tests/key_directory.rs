//! `access_keys_dir`: which files are read, what of them is in force, and how they change.

use super::*;

/// A configuration with a directory of access keys and the account AK of its own.
struct Keys {
    dir: TestDir,
}

impl Keys {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = TestDir::new();
        std::fs::create_dir(dir.path("keys")).unwrap();
        dir.write(
            "gateway.toml",
            &format!("access_keys_dir = \"keys\"\n{MINIMAL}"),
        );
        let keys = Self { dir };
        for (name, text) in files {
            keys.write(name, text);
        }
        keys
    }

    fn write(&self, name: &str, text: &str) {
        self.dir.write(&format!("keys/{name}"), text);
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.dir.path("keys").join(name)).unwrap();
    }

    fn start(&self) -> Config {
        match Config::load_to_serve(&self.dir.path("gateway.toml")) {
            Ok((config, _)) => config,
            Err(error) => panic!("{error}"),
        }
    }

    fn start_error(&self) -> String {
        let loaded = Config::load_to_serve(&self.dir.path("gateway.toml"));
        loaded.map(|_| ()).unwrap_err().to_string()
    }

    fn check_error(&self) -> String {
        let loaded = Config::load(&self.dir.path("gateway.toml"));
        loaded.map(|_| ()).unwrap_err().to_string()
    }
}

/// The table of an account.
fn table(access_key: &str, secret: &str) -> String {
    format!("[access_keys.{access_key}]\nsecret_key = \"{secret}\"\ntime_zone = \"UTC\"\n")
}

fn changed(names: &[&str]) -> KeyChanges {
    KeyChanges {
        changed: names.iter().map(|name| Arc::from(*name)).collect(),
        ..KeyChanges::default()
    }
}

fn removed(names: &[&str]) -> KeyChanges {
    KeyChanges {
        removed: names.iter().map(|name| Arc::from(*name)).collect(),
        ..KeyChanges::default()
    }
}

/// The access keys in force, sorted.
fn names(config: &Config) -> Vec<&str> {
    let mut names: Vec<_> = config.access_keys.keys().map(AccessKey::as_str).collect();
    names.sort_unstable();
    names
}

fn refused(config: &Config) -> Vec<(&str, &RefusedFile)> {
    let refused = config.key_directory.as_ref().unwrap().refused();
    refused
        .iter()
        .map(|(name, file)| (&**name, &**file))
        .collect()
}

fn secret(config: &Config, access_key: &str) -> crate::auth::Secret {
    config
        .access_keys
        .get(access_key)
        .unwrap()
        .credential
        .secrets()[0]
        .clone()
}

#[test]
fn only_files_of_the_form_are_read() {
    let keys = Keys::new(&[
        ("a.toml", &table("A", "a")),
        (".hidden.toml", &table("B", "b")),
        ("b.toml.swp", "nonsense"),
        ("README", "nonsense"),
    ]);
    assert_eq!(names(&keys.start()), ["A", "AK"]);
    assert!(Config::load(&keys.dir.path("gateway.toml")).is_ok());
}

#[test]
fn a_file_with_mistakes_is_refused_by_itself_and_named_by_check() {
    let bad = format!(
        "{}[access_keys.C]\nsecret_key = \"CANARY\"\n",
        table("B", "b")
    );
    let keys = Keys::new(&[("a.toml", &table("A", "a")), ("b.toml", &bad)]);
    let config = keys.start();
    assert_eq!(names(&config), ["A", "AK"]);
    let refused = refused(&config);
    assert_eq!(refused.len(), 1);
    let message = &refused[0].1.message;
    assert!(
        message.contains("b.toml:4:14: time_zone is missing"),
        "{message}"
    );
    let error = keys.check_error();
    assert!(
        error.contains("b.toml:4:14") && error.contains("time_zone is missing"),
        "{error}"
    );
    assert!(!error.contains("CANARY"), "{error}");
}

#[test]
fn an_empty_directory_is_good_and_one_without_a_good_file_is_not() {
    let keys = Keys::new(&[]);
    assert_eq!(names(&keys.start()), ["AK"]);
    keys.write("a.toml", "");
    let error = keys.start_error();
    assert!(
        error.contains("no file of access_keys_dir is good"),
        "{error}"
    );
    assert!(error.contains("holds no access keys"), "{error}");
    keys.remove("a.toml");
    std::fs::remove_dir(keys.dir.path("keys")).unwrap();
    assert!(keys.start_error().contains("cannot read"));
    std::fs::create_dir(keys.dir.path("keys")).unwrap();
    keys.dir.allow("keys", 0o777);
    assert!(keys.start_error().contains("others can write"));
    // The mount of a Kubernetes Secret.
    keys.dir.allow("keys", 0o1777);
    assert_eq!(names(&keys.start()), ["AK"]);
}

#[test]
fn a_change_replaces_one_account_and_shares_all_others() {
    let both = format!("{}{}", table("A", "a"), table("B", "b"));
    let keys = Keys::new(&[("a.toml", &both), ("c.toml", &table("C", "c"))]);
    let first = keys.start();
    keys.write(
        "a.toml",
        &format!("{}{}", table("A", "a"), table("B", "new")),
    );
    keys.write("d.toml", &table("D", "d"));
    let second = first.after_key_changes(&changed(&["a.toml", "d.toml"]));
    assert_eq!(names(&second), ["A", "AK", "B", "C", "D"]);
    assert_eq!(
        secret(&second, "B"),
        crate::auth::Secret::new(b"new".to_vec())
    );
    for same in ["A", "AK", "C"] {
        let [before, after] = [&first, &second].map(|it| it.access_keys.get(same).unwrap());
        assert!(Arc::ptr_eq(before, after), "{same}");
    }
    keys.remove("a.toml");
    let third = second.after_key_changes(&removed(&["a.toml"]));
    assert_eq!(names(&third), ["AK", "C", "D"]);
    assert_eq!(names(&first), ["A", "AK", "B", "C"]);
}

#[test]
fn a_file_that_goes_bad_keeps_what_it_had_and_says_what_is_not_yet_revoked() {
    let both = format!("{}{}", table("A", "a"), table("B", "b"));
    let keys = Keys::new(&[("a.toml", &both)]);
    let first = keys.start();
    keys.write(
        "a.toml",
        &format!("# was: B\n{}x = ", table("A", "changed")),
    );
    let second = first.after_key_changes(&changed(&["a.toml"]));
    assert_eq!(names(&second), ["A", "AK", "B"]);
    assert_eq!(secret(&second, "A"), secret(&first, "A"));
    let (_, file) = refused(&second)[0];
    assert_eq!(file.not_yet_revoked, ["B".into()]);
    keys.write("a.toml", &table("A", "changed"));
    let third = second.after_key_changes(&changed(&["a.toml"]));
    assert_eq!((names(&third), refused(&third).len()), (vec!["A", "AK"], 0));
}

#[test]
fn the_file_that_had_an_access_key_keeps_it() {
    let keys = Keys::new(&[("a.toml", &table("A", "a")), ("b.toml", &table("B", "b"))]);
    let first = keys.start();
    keys.write(
        "b.toml",
        &format!("{}{}", table("A", "other"), table("C", "c")),
    );
    let second = first.after_key_changes(&changed(&["b.toml"]));
    // The whole file is refused, and keeps what it had.
    assert_eq!(names(&second), ["A", "AK", "B"]);
    assert_eq!(secret(&second, "A"), secret(&first, "A"));
    let (name, file) = refused(&second)[0];
    assert_eq!(name, "b.toml");
    assert!(
        file.message.contains("b.toml:1:14: access key A is in")
            && file.message.contains("a.toml too"),
        "{}",
        file.message
    );
    assert_eq!(file.not_yet_revoked, ["B".into()]);
    // The first file gives the access key up: now the second one is good.
    keys.write("a.toml", &table("D", "d"));
    let third = second.after_key_changes(&changed(&["a.toml"]));
    assert_eq!(
        (names(&third), refused(&third).len()),
        (vec!["A", "AK", "C", "D"], 0)
    );
    assert_ne!(secret(&third, "A"), secret(&first, "A"));
    // The configuration itself keeps its access key as well.
    keys.write("b.toml", &table("AK", "x"));
    let fourth = third.after_key_changes(&changed(&["b.toml"]));
    assert!(
        refused(&fourth)[0]
            .1
            .message
            .contains("AK is in the configuration too")
    );
}

#[test]
fn access_keys_move_between_files_in_one_change() {
    let keys = Keys::new(&[("a.toml", &table("A", "a")), ("b.toml", &table("B", "b"))]);
    let first = keys.start();
    keys.write("a.toml", &table("B", "b"));
    keys.write("b.toml", &table("A", "a"));
    let second = first.after_key_changes(&changed(&["a.toml", "b.toml"]));
    assert_eq!(
        (names(&second), refused(&second).len()),
        (vec!["A", "AK", "B"], 0)
    );
    // A renamed file.
    std::fs::rename(keys.dir.path("keys/b.toml"), keys.dir.path("keys/c.toml")).unwrap();
    let change = KeyChanges {
        removed: vec!["b.toml".into()],
        ..changed(&["c.toml"])
    };
    let third = second.after_key_changes(&change);
    assert_eq!(
        (names(&third), refused(&third).len()),
        (vec!["A", "AK", "B"], 0)
    );
    // A file that takes over while the other one is refused.
    keys.write("a.toml", "nonsense");
    keys.write("c.toml", &format!("{}{}", table("A", "a"), table("B", "b")));
    let fourth = third.after_key_changes(&changed(&["a.toml", "c.toml"]));
    assert_eq!(
        (names(&fourth), refused(&fourth).len()),
        (vec!["A", "AK", "B"], 2)
    );
}

#[test]
fn an_access_key_in_two_places_at_the_start_is_in_force_in_none() {
    let keys = Keys::new(&[
        ("a.toml", &format!("{}{}", table("A", "a"), table("X", "1"))),
        ("b.toml", &format!("{}{}", table("B", "b"), table("X", "2"))),
    ]);
    let error = keys.check_error();
    assert!(
        error.contains("a.toml:4:14") && error.contains("b.toml:4:14"),
        "{error}"
    );
    let first = keys.start();
    assert_eq!(names(&first), ["A", "AK", "B"]);
    let contested: Vec<_> = first.key_directory.as_ref().unwrap().contested().collect();
    assert_eq!(contested.len(), 1);
    assert_eq!(
        contested[0].files,
        [Some("a.toml".into()), Some("b.toml".into())]
    );
    keys.write("a.toml", &table("A", "a"));
    let second = first.after_key_changes(&changed(&["a.toml"]));
    assert_eq!(names(&second), ["A", "AK", "B", "X"]);
    assert_eq!(
        secret(&second, "X"),
        crate::auth::Secret::new(b"2".to_vec())
    );
    assert_eq!(second.key_directory.as_ref().unwrap().contested().len(), 0);
}

#[test]
fn a_directory_that_cannot_be_read_keeps_everything() {
    let keys = Keys::new(&[("a.toml", &table("A", "a"))]);
    let first = keys.start();
    std::fs::rename(keys.dir.path("keys"), keys.dir.path("away")).unwrap();
    let path = keys.dir.path("gateway.toml");
    let (second, _) = first.load_next(&path).unwrap();
    assert_eq!(names(&second), ["A", "AK"]);
    assert!(
        second
            .key_directory
            .as_ref()
            .unwrap()
            .error()
            .unwrap()
            .contains("cannot read")
    );
    std::fs::rename(keys.dir.path("away"), keys.dir.path("keys")).unwrap();
    let (third, _) = second.load_next(&path).unwrap();
    assert_eq!(third.key_directory.as_ref().unwrap().error(), None);
    let [before, after] = [&first, &third].map(|it| it.access_keys.get("A").unwrap());
    assert!(Arc::ptr_eq(before, after));
}

#[test]
fn other_defaults_apply_to_all_files() {
    let keys = Keys::new(&[("a.toml", "[access_keys.A]\nsecret_key = \"a\"\n")]);
    let main = |zone: &str| {
        format!(
            "access_keys_dir = \"keys\"\n{MINIMAL}\n[access_key_defaults]\ntime_zone = \"{zone}\"\n"
        )
    };
    keys.dir.write("gateway.toml", &main("UTC"));
    let first = keys.start();
    keys.dir.write("gateway.toml", &main("Europe/Berlin"));
    let (second, _) = first.load_next(&keys.dir.path("gateway.toml")).unwrap();
    let zone = &second.access_keys.get("A").unwrap().tenant.zone;
    assert_eq!(zone.iana_name(), Some("Europe/Berlin"));
}

#[test]
fn ten_thousand_files_are_read_at_once() {
    let keys = Keys::new(&[]);
    for number in 0..10_000 {
        keys.write(
            &format!("{number}.toml"),
            &table(&format!("A{number}"), "s"),
        );
    }
    let config = keys.start();
    assert_eq!(config.access_keys.len(), 10_001);
    for number in 10_000..=20_000 {
        keys.write(&format!("{number}.toml"), "");
    }
    assert!(keys.start_error().contains("more than 20,000 files"));
}
