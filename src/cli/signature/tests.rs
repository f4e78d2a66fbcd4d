use std::path::Path;

use clap::Parser;

use super::*;

mod usage;

#[derive(Parser)]
enum Program {
    Sign(Sign),
    Verify(Verify),
    Explain(Explain),
}

struct CommandOutput {
    code: ExitCode,
    out: String,
    err: String,
}

/// Runs a command line at 2021-11-24T06:26:03Z in a directory with `sk.txt` and `body.json`.
fn try_run(flags: &[&str], stdin: &[u8]) -> anyhow::Result<CommandOutput> {
    let directory = tempfile::tempdir()?;
    std::fs::write(directory.path().join("sk.txt"), "Zx&7wQ@k!2mN%9pR#4\n")?;
    std::fs::write(directory.path().join("body.json"), BODY)?;
    std::fs::write(directory.path().join("theirs.txt"), THEIRS)?;
    run_in(directory.path(), flags, stdin)
}

fn run_in(directory: &Path, flags: &[&str], mut stdin: &[u8]) -> anyhow::Result<CommandOutput> {
    let is_file = |flag: &str| directory.join(flag).is_file();
    let flags = flags.iter().map(|flag| match is_file(flag) {
        true => directory.join(flag).to_str().unwrap().to_owned(),
        false => (*flag).to_owned(),
    });
    let program = Program::try_parse_from(std::iter::once("ccfs-gateway".to_owned()).chain(flags))?;
    let now = "2021-11-24T06:26:03Z".parse().unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut streams = Streams {
        stdin: &mut stdin,
        stdout: &mut out,
        stderr: &mut err,
    };
    let code = match program {
        Program::Sign(sign) => sign.run(now, &mut streams),
        Program::Verify(verify) => verify.run(now, &mut streams),
        Program::Explain(explain) => explain.run(now, &mut streams),
    }?;
    Ok(CommandOutput {
        code,
        out: String::from_utf8(out).unwrap(),
        err: String::from_utf8(err).unwrap(),
    })
}

fn run(flags: &[&str]) -> CommandOutput {
    try_run(flags, b"").unwrap()
}

/// The flags of the first known vector's request, after `flags`.
fn about_vector<'a>(flags: &[&'a str]) -> Vec<&'a str> {
    let request = [
        "--path",
        PATH,
        "--header",
        "Host: 10.154.198.164",
        "--body",
        "body.json",
    ];
    [flags, &request].concat()
}

fn verify(flags: &[&str]) -> CommandOutput {
    run(&about_vector(
        &[
            &["verify", "--authorization", VALUE, "--sk-file", "sk.txt"],
            flags,
        ]
        .concat(),
    ))
}

fn explain(flags: &[&str]) -> CommandOutput {
    run(&about_vector(
        &[&["explain", "--authorization", VALUE], flags].concat(),
    ))
}

#[test]
fn sign_creates_the_known_value() {
    let flags = [
        "sign",
        "--ak",
        AK,
        "--sk-file",
        "sk.txt",
        "--timestamp",
        "2021-11-24T06:25:03Z",
    ];
    let done = run(&about_vector(&flags));
    assert_eq!(
        (done.code, done.out),
        (ExitCode::SUCCESS, format!("{VALUE}\n"))
    );
}

#[test]
fn sign_lists_all_fields_sorted_and_signs_now() {
    let flags = ["--header", "X-Trace: 1", "--header", "content-length:  0 "];
    let flags = [
        &["sign", "--ak", AK, "--sk-file", "sk.txt"],
        flags.as_slice(),
    ]
    .concat();
    let done = run(&[&flags[..], &["--path", "/a?x=1", "--header", "host: h"]].concat());
    let prefix = format!("auth-v2/{AK}/2021-11-24T06:26:03Z/content-length;host;x-trace/");
    assert!(done.out.starts_with(&prefix), "{}", done.out);
}

#[test]
fn equivalent_requests_have_the_same_signature() {
    let sign = |flags: &[&str], stdin: &[u8]| {
        let common = [
            "sign",
            "--ak",
            AK,
            "--sk-file",
            "sk.txt",
            "--header",
            "host: h",
        ];
        try_run(&[&common, flags].concat(), stdin).unwrap().out
    };
    let one = sign(&["--path", "/a?x=1", "--body", "body.json"], b"");
    assert_eq!(
        one,
        sign(
            &["--path", "/a", "--query", "?x=1", "--body", "-"],
            BODY.as_bytes()
        )
    );
    assert_ne!(one, sign(&["--path", "/a", "--query", "x=1"], b""));
}

#[test]
fn a_secret_comes_from_the_environment_too() {
    // Set by cargo for every test; what it holds does not matter.
    let name = "CARGO_PKG_NAME";
    let request = ["--path", "/a", "--header", "host: h"];
    let value = run(&[&["sign", "--ak", AK, "--sk-env", name], &request[..]].concat()).out;
    let flags = ["verify", "--authorization", value.trim(), "--sk-env", name];
    assert_eq!(run(&[&flags, &request[..]].concat()).out, "valid\n");

    let flags = ["sign", "--ak", AK, "--sk-env", "CCFS_NO_SUCH_VARIABLE"];
    assert!(try_run(&[&flags, &request[..]].concat(), b"").is_err());
}

#[test]
fn one_line_end_of_a_secret_file_is_dropped() {
    let sign_with = |content: &str| {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("sk"), content).unwrap();
        let flags = [
            "sign",
            "--ak",
            AK,
            "--sk-file",
            "sk",
            "--path",
            "/",
            "--header",
            "host: h",
        ];
        run_in(directory.path(), &flags, b"").map(|done| done.out)
    };
    let plain = sign_with("sk").unwrap();
    assert_eq!(plain, sign_with("sk\n").unwrap());
    assert_eq!(plain, sign_with("sk\r\n").unwrap());
    assert_ne!(plain, sign_with("sk\n\n").unwrap());
    assert_ne!(plain, sign_with("sk ").unwrap());
    assert!(sign_with("\n").is_err());
}

#[test]
fn verify_accepts_a_valid_signature_and_checks_its_age_only_with_window() {
    let done = verify(&[]);
    assert_eq!(
        (done.code, done.out.as_str()),
        (ExitCode::SUCCESS, "valid\n")
    );
    assert_eq!(
        done.err,
        "signed at 2021-11-24T06:25:03Z, 1m behind this clock\n"
    );

    assert_eq!(verify(&["--window", "1m"]).code, ExitCode::SUCCESS);
    assert_eq!(verify(&["--window", "0s"]).code, ExitCode::SUCCESS);
    let done = verify(&["--window", "59s"]);
    assert_eq!(done.code, ExitCode::FAILURE);
    assert_eq!(done.out, "invalid: signed 1 min too early by this clock\n");
}

#[test]
fn verify_prints_the_reason() {
    let done = verify(&["--method", "PUT"]);
    assert_eq!(done.code, ExitCode::FAILURE);
    assert!(
        done.out.starts_with("invalid: wrong signature"),
        "{}",
        done.out
    );

    let done = verify(&["--header", "content-length: 185"]);
    assert_eq!(done.out, "valid\n", "an unsigned field does not matter");
    let done = verify(&["--header", "content-length: 185", "--query", "x"]);
    assert!(done.err.contains("185"), "{}", done.err);
    let done = verify(&["--header", "host: other"]);
    assert!(done.out.contains("the signed header \"host\" exactly once"));
    let flags = [
        "verify",
        "--authorization",
        "Bearer x",
        "--sk-file",
        "sk.txt",
    ];
    assert!(
        run(&about_vector(&flags))
            .out
            .starts_with("invalid: a scheme other than auth-v2")
    );
}

#[test]
fn explain_numbers_every_line() {
    let done = explain(&[]);
    assert_eq!(done.code, ExitCode::SUCCESS);
    let text = done.out;
    for part in [
        "  auth-v2/a1b2c3d4e5f60718293a4b5c6d7e8f90/2021-11-24T06:25:03Z/host\n",
        "canonical request (319 bytes):\n",
        "   1  method  POST␊\n",
        "   2  path    /CCFS/resource/ccfs/getRecordFileUrlFromObs␊\n",
        "   3  names   host␊\n",
        "   4  field   host:10.154.198.164␊\n",
        "   5  body    %7B%0A%20%20%20%20%22callId%22",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(
        !text.contains("expected"),
        "nothing to expect without a secret"
    );

    let done = explain(&["--query", "b=2&a=1", "--method", "GET"]);
    assert!(
        done.out.contains("   3  query   a=1&b=2␊\n"),
        "{}",
        done.out
    );
}

#[test]
fn explain_shows_the_signature_but_never_the_secret() {
    let (_, signature) = VALUE.rsplit_once('/').unwrap();
    let done = explain(&["--sk-file", "sk.txt"]);
    assert!(done.out.contains(&format!(
        "expected signature (the same as given):\n  {signature}\n"
    )));
    assert!(!done.out.contains("Zx&7wQ"));

    let done = explain(&["--sk-file", "sk.txt", "--method", "PUT"]);
    assert!(done.out.contains("expected signature (not the one given)"));
    assert!(!done.out.contains(signature));
}

#[test]
fn explain_marks_the_first_different_byte() {
    let done = explain(&["--theirs", "theirs.txt"]);
    let (_, difference) = done.out.split_once("first difference ").unwrap();
    let lines: Vec<&str> = difference.lines().collect();
    assert_eq!(lines[0], "at byte 49 (line 3, column 1, names):");
    assert_eq!(
        lines[1],
        "  ours    /ccfs/getRecordFileUrlFromObs␊host␊host:10.154.198.164␊%7B%0"
    );
    assert_eq!(
        lines[3],
        "  theirs  /ccfs/getRecordFileUrlFromObs␊␊host␊host:10"
    );
    let caret = |line: &str| line.chars().position(|c| c == '^').unwrap();
    let ours = lines[1].chars().nth(caret(lines[2])).unwrap();
    let theirs = lines[3].chars().nth(caret(lines[4])).unwrap();
    assert_eq!((ours, theirs), ('h', '␊'));
}

#[test]
fn differences_at_the_ends_are_found() {
    let tell = |ours: &str, theirs: &str| {
        let mut out = Vec::new();
        difference::write_first_difference(
            &mut out,
            ours.as_bytes(),
            theirs.as_bytes(),
            &["method"],
        )
        .unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(tell("ab", "ab"), "theirs: the same bytes\n");
    assert!(tell("ab", "ab\n").contains("one more line feed at its end"));
    assert!(tell("ab", "a").contains("at byte 1 (line 1, column 2, method)"));
    assert!(tell("ab", "a").contains("theirs  a(ends here)"));
    assert!(tell("a", "").contains("at byte 0"));
    assert!(tell("a\r\nb", "a\n").contains("a\\x0D␊b"));
}

const AK: &str = "a1b2c3d4e5f60718293a4b5c6d7e8f90";

const PATH: &str = "/CCFS/resource/ccfs/getRecordFileUrlFromObs";

const BODY: &str = "{\n    \"callId\": \"1637742300-27\",\n    \"beginTime\": \"2021-11-24 06:25:03\",\n    \"endTime\": \"2021-11-25 06:25:11\",\n    \"version\": \"2.0\"\n}";

const VALUE: &str = "auth-v2/a1b2c3d4e5f60718293a4b5c6d7e8f90/2021-11-24T06:25:03Z/host/460fa4c383750032e121f3b6c3c54e27796c9b61a3250828b3a816bd30b4342c";

/// As some ports write it: with an empty line where the query would be.
const THEIRS: &str = "POST\n/CCFS/resource/ccfs/getRecordFileUrlFromObs\n\nhost\nhost:10";
