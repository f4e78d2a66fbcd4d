//! `access_keys_file`: a change of it alone takes what differs, or says that everything must be read.

use super::*;

/// A configuration with a file of access keys, a directory with the key D, and the account AK of its own.
struct KeyFile(TestDir);

impl KeyFile {
    fn new(text: &str) -> Self {
        let dir = TestDir::new();
        std::fs::create_dir(dir.path("keys")).unwrap();
        dir.write(
            "gateway.toml",
            &format!("access_keys_file = \"keys.toml\"\naccess_keys_dir = \"keys\"\n{MINIMAL}"),
        );
        dir.write("keys/d.toml", &table("D", "d"));
        let file = Self(dir);
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        self.0.write("keys.toml", text);
    }

    fn start(&self) -> Config {
        let loaded = Config::load_to_serve(&self.0.path("gateway.toml"));
        loaded.unwrap_or_else(|error| panic!("{error}")).0
    }
}

fn table(access_key: &str, secret: &str) -> String {
    format!("[access_keys.{access_key}]\nsecret_key = \"{secret}\"\ntime_zone = \"UTC\"\n")
}

fn names(config: &Config) -> Vec<&str> {
    let mut names: Vec<_> = config.access_keys.keys().map(AccessKey::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_change_takes_what_differs_and_shares_all_others() {
    let file = KeyFile::new(&format!("{}{}", table("A", "a"), table("B", "b")));
    let first = file.start();
    assert_eq!(first.key_file(), Some(&*file.0.path("keys.toml")));
    file.write(&format!("{}{}", table("B", "b"), table("C", "c")));
    let second = first.after_key_file_change().unwrap();
    assert_eq!(names(&second), ["AK", "B", "C", "D"]);
    assert_eq!(names(&first), ["A", "AK", "B", "D"]);
    for same in ["AK", "B", "D"] {
        let [before, after] = [&first, &second].map(|it| it.access_keys.get(same).unwrap());
        assert!(Arc::ptr_eq(before, after), "{same}");
    }
    let path = file.0.path("keys.toml");
    assert_eq!(second.files[&path], digest_named_file(&path));
    assert_ne!(first.files[&path], second.files[&path]);
    // What it gives is what a reload of everything gives.
    let (whole, _) = first.load_next(&file.0.path("gateway.toml")).unwrap();
    assert_eq!(names(&whole), names(&second));
    file.write(&table("C", "c"));
    let third = second.after_key_file_change().unwrap();
    assert_eq!(names(&third), ["AK", "C", "D"]);
}

#[test]
fn whatever_there_is_to_say_about_a_change_reads_everything() {
    let file = KeyFile::new(&table("A", "a"));
    let first = file.start();
    for text in [
        // A mistake, a warning, another file, an access key of another place.
        "[access_keys.A]\nsecret_key = \"a\"\n".to_owned(),
        table("A", " a"),
        "[access_keys.A]\nsecret_key_file = \"sk\"\ntime_zone = \"UTC\"\n".to_owned(),
        format!("{}{}", table("A", "a"), table("AK", "a")),
        format!("{}{}", table("A", "a"), table("D", "a")),
        "no TOML".to_owned(),
    ] {
        file.write(&text);
        assert!(first.after_key_file_change().is_none(), "{text}");
    }
    std::fs::remove_file(file.0.path("keys.toml")).unwrap();
    assert!(first.after_key_file_change().is_none());
}
