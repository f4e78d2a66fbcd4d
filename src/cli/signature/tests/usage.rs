//! Mistakes in a command line and in the files that it names.

use super::*;

#[test]
fn bad_usage_is_exit_code_two() {
    let sign = [
        "sign",
        "--ak",
        AK,
        "--sk-file",
        "sk.txt",
        "--header",
        "host: h",
    ];
    for flags in [
        ["--path", "a"].as_slice(),
        &["--path", "/a b"],
        &["--path", "/a#b"],
        &["--path", "/a?x", "--query", "x"],
        &["--path", "/a?x&x"],
        &["--path", "/a?%"],
        &["--path", "/a", "--header", "host: again"],
    ] {
        let done = run(&[&sign, flags].concat());
        assert_eq!(done.code, ExitCode::from(2), "{flags:?}");
        assert!(
            done.err.starts_with("error: ") && done.out.is_empty(),
            "{}",
            done.err
        );
    }
}

#[test]
fn missing_flags_are_exit_code_two() {
    for flags in [
        ["sign", "--ak", AK, "--path", "/", "--header", "host: h"].as_slice(),
        &[
            "sign",
            "--ak",
            AK,
            "--sk-file",
            "sk.txt",
            "--path",
            "/",
            "--header",
            "x: h",
        ],
        &[
            "verify",
            "--authorization",
            VALUE,
            "--path",
            "/",
            "--header",
            "host: h",
        ],
    ] {
        assert_eq!(run(flags).code, ExitCode::from(2), "{flags:?}");
    }
}

#[test]
fn malformed_flags_are_rejected_by_the_parser() {
    let sign = [
        "sign",
        "--ak",
        AK,
        "--sk-file",
        "sk.txt",
        "--header",
        "host: h",
    ];
    for flags in [
        ["--header", "host"].as_slice(),
        &["--header", "no name: x"],
        &["--timestamp", "yesterday"],
        &["--timestamp", "2021-11-24T06:25:03.5Z"],
        &["--sk-env", "X"],
        &["--sk", "inline"],
    ] {
        let flags = [&sign, ["--path", "/"].as_slice(), flags].concat();
        let error = try_run(&flags, b"").err().unwrap();
        assert!(error.is::<clap::Error>(), "{flags:?}");
    }
}

#[test]
fn unreadable_files_are_failures() {
    let missing = [
        "sign",
        "--ak",
        AK,
        "--sk-file",
        "no-such-file",
        "--path",
        "/",
        "--header",
        "host: h",
    ];
    let error = try_run(&missing, b"").err().unwrap();
    assert!(format!("{error:#}").contains("no-such-file"));
    let flags = [
        "explain",
        "--authorization",
        "auth-v2/x",
        "--path",
        "/",
        "--header",
        "host: h",
    ];
    let error = try_run(&flags, b"").err().unwrap();
    assert!(
        error
            .to_string()
            .starts_with("nothing to explain: malformed")
    );
}

#[test]
fn nothing_printed_by_debug_holds_the_signature() {
    let flags = [
        "x",
        "verify",
        "--authorization",
        VALUE,
        "--path",
        "/",
        "--header",
        "host: h",
    ];
    let Program::Verify(verify) = Program::try_parse_from(flags).unwrap() else {
        panic!("another command");
    };
    assert!(!format!("{verify:?}").contains("460fa4c3"));
    let pasted = inputs::authorization(&format!("Authorization: {VALUE}\n")).unwrap();
    assert_eq!(pasted, VALUE);
}
