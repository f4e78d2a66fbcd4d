//! Every kind of mistake: the message, the marked text, and what would be right.
//!
//! A case of `cases/*.txt` replaces a part of the minimal file (`-`) by other lines (`+`), or adds
//! them at its end. Then there is exactly one error; it marks the text at `^`, its message holds
//! `!`, and what would be right holds `?`.

use super::*;

#[test]
fn unknown_keys() {
    assert_all_rejected(include_str!("cases/unknown_keys.txt"));
}

#[test]
fn wrong_types_and_ranges() {
    assert_all_rejected(include_str!("cases/wrong_types_and_ranges.txt"));
}

#[test]
fn listeners() {
    assert_all_rejected(include_str!("cases/listeners.txt"));
}

#[test]
fn certificates() {
    assert_all_rejected(include_str!("cases/certificates.txt"));
}

#[test]
fn clusters() {
    assert_all_rejected(include_str!("cases/clusters.txt"));
}

#[test]
fn access_keys() {
    assert_all_rejected(include_str!("cases/access_keys.txt"));
}

#[test]
fn the_rest() {
    assert_all_rejected(include_str!("cases/the_rest.txt"));
}

#[test]
fn what_is_not_toml() {
    assert_all_rejected(include_str!("cases/what_is_not_toml.txt"));
}

#[test]
fn a_file_of_another_program_is_one_mistake() {
    for text in [
        "http {\n  server { listen 80; }\n  upstream a { server b; }\n}\n",
        include_str!("../../../README.md"),
    ] {
        let diagnosis = TestDir::new().parse(text).map(|_| ()).unwrap_err();
        assert_eq!(diagnosis.problems().len(), 2, "{diagnosis}");
        let shown = diagnosis.to_string();
        assert!(
            shown.contains("does not look like a configuration"),
            "{shown}"
        );
        assert!(
            shown.contains("shown as * where it may be a secret"),
            "{shown}"
        );
    }
}

#[test]
fn a_table_that_is_there_twice_is_one_mistake_with_the_first_place() {
    let table = "[access_keys.a]\nsecret_key_file = \"sk\"\ntime_zone = \"UTC\"\n";
    let text = format!("{MINIMAL}\n{table}{table}[cache]\nmax_size = \"1MiB\"\n");
    let line = 1 + text[..text.find(table).unwrap()].matches('\n').count();
    let diagnosis = TestDir::new().parse(&text).map(|_| ()).unwrap_err();
    assert_eq!(diagnosis.problems().len(), 1, "{diagnosis}");
    let expected = format!("must be there once, and is in line {line} already");
    assert!(diagnosis.to_string().contains(&expected), "{diagnosis}");
}

#[test]
fn an_empty_file_has_no_listener() {
    let diagnosis = TestDir::new().error_text("");
    assert!(diagnosis.contains("no listener"), "{diagnosis}");
}

#[test]
fn a_missing_file_is_an_error() {
    let dir = TestDir::new();
    let loaded = Config::load(&dir.path("nothing.toml"));
    let diagnosis = loaded.map(|_| ()).unwrap_err();
    let [problem] = diagnosis.problems() else {
        panic!("{diagnosis}");
    };
    assert_eq!(problem.location(), None);
    let shown = diagnosis.to_string();
    assert!(shown.contains("nothing.toml"), "{shown}");
    assert!(shown.contains("--config"), "{shown}");
}

#[test]
fn all_mistakes_are_reported_at_once_in_order() {
    let message = TestDir::new().error_text(include_str!("cases/all_at_once.toml"));
    assert_eq!(
        message,
        include_str!("cases/all_at_once.expected").trim_end()
    );
}

#[test]
fn one_line_holds_location_message_and_help() {
    let text = MINIMAL.replace("\"ccfs\"\ntls", "\"cfs\"\ntls");
    let diagnosis = TestDir::new().parse(&text).map(|_| ()).unwrap_err();
    let line = diagnosis.problems()[0].one_line();
    let expected = "gateway.toml:4:11: unknown cluster; did you mean \"ccfs\"?";
    assert!(line.ends_with(expected), "{line}");
}

fn assert_all_rejected(cases: &str) {
    let dir = TestDir::new();
    for case in cases.split("\n\n") {
        let lines = |mark: &str| -> Vec<&str> {
            case.lines()
                .filter_map(|line| line.strip_prefix(mark))
                .map(|line| line.trim_start_matches(' '))
                .collect()
        };
        let instead = lines("+").join("\n");
        let text = match lines("-").first() {
            Some(part) => {
                assert!(MINIMAL.contains(part), "{case}");
                MINIMAL.replacen(part, &instead, 1)
            }
            None => format!("{MINIMAL}\n{instead}\n"),
        };
        assert_rejected(&dir, &text, case, &|mark| lines(mark)[0].to_owned());
    }
}

fn assert_rejected(dir: &TestDir, text: &str, case: &str, expected: &dyn Fn(&str) -> String) {
    let Err(diagnosis) = dir.parse(text) else {
        panic!("no mistake is found in\n{case}");
    };
    let [problem] = diagnosis.problems() else {
        panic!("{case}\n{diagnosis}");
    };
    assert_eq!(problem.severity(), Severity::Error);
    assert_eq!(marked_text(problem), expected("^"), "{case}\n{problem}");
    assert!(
        problem.message().contains(&expected("!")),
        "{case}\n{problem}"
    );
    assert!(problem.help().contains(&expected("?")), "{case}\n{problem}");
}

/// Returns the text above the carets of the rendered problem.
fn marked_text(problem: &Problem) -> String {
    let shown = problem.to_string();
    let lines: Vec<&str> = shown.lines().collect();
    let marks = |pair: &&[&str]| pair[1].contains('^');
    let Some(pair) = lines.windows(2).find(marks) else {
        return String::new();
    };
    let from = pair[1].find('^').unwrap();
    let count = pair[1].matches('^').count();
    pair[0].chars().skip(from).take(count).collect()
}

/// A keys file of `count` access keys, each with the lines `keys`.
fn with_many_keys(dir: &TestDir, count: usize, keys: &str) -> String {
    let table = |number: usize| {
        let keys = keys.replace("{n}", &format!("{number:04}"));
        format!("[access_keys.ak{number:04}]\nsecret_key = \"secret\"\n{keys}\n")
    };
    dir.write("keys.toml", &(0..count).map(table).collect::<String>());
    format!("access_keys_file = \"keys.toml\"\n{MINIMAL}")
}

#[test]
fn equal_mistakes_are_one_error() {
    let dir = TestDir::new();
    for (keys, expected) in [
        (
            "",
            "error: time_zone is missing in 2,000 access keys, e.g. ak0000, ak0001, ak0002",
        ),
        (
            "in_flight = 0\ntime_zone = \"UTC\"",
            "error: access_keys.*.in_flight is out of range in 2,000 access keys, e.g. ak0000,",
        ),
        (
            "time_zone = \"Mars\"",
            "error: unknown time zone in 2,000 access keys, e.g. ak0000, ak0001, ak0002",
        ),
        (
            "time_zone = \"UTC\"\nin-flight = 1",
            "error: unknown key `in-flight` in 2,000 access keys, e.g. ak0000, ak0001, ak0002",
        ),
    ] {
        let error = dir
            .parse(&with_many_keys(&dir, 2_000, keys))
            .map(|_| ())
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains(expected), "{text}");
        assert!(text.ends_with("2000 errors in the configuration"), "{text}");
        assert!(text.len() < 2_000, "{}", text.len());
        assert_eq!(error.all().to_string().matches("error: ").count(), 2_000);
    }
}

#[test]
fn different_mistakes_are_listed_up_to_a_limit() {
    let dir = TestDir::new();
    let keys = "time_zone = \"UTC\"\nunknown-{n} = 1";
    let error = dir
        .parse(&with_many_keys(&dir, 50, keys))
        .map(|_| ())
        .unwrap_err();
    let text = error.to_string();
    assert_eq!(text.matches("error: unknown key").count(), 20, "{text}");
    let end = "50 errors in the configuration\nerrors_omitted: 30 (`ccfs-gateway check --all` lists them)";
    assert!(text.ends_with(end), "{text}");
    assert!(!error.all().to_string().contains("errors_omitted"));
}

#[test]
fn a_json_file_is_a_short_text() {
    let text = "{ \"listeners\": [1, 2, \"x\"],\n".repeat(5_000);
    let text = TestDir::new().error_text(&text);
    assert!(text.len() < 20_000, "{}", text.len());
}

#[test]
fn equal_warnings_are_one_warning() {
    let dir = TestDir::new();
    let main = with_many_keys(&dir, 300, "time_zone = \"UTC\"");
    let keys = std::fs::read_to_string(dir.path("keys.toml")).unwrap();
    dir.write("keys.toml", &keys.replace("\"secret\"", "\" secret\""));
    let (_, warnings) = dir.parse(&main).unwrap();
    assert_eq!(warnings.len(), 300);
    let texts = Problem::summarize(&warnings);
    let [text] = texts.as_slice() else {
        panic!("{texts:?}");
    };
    let expected = "white space in 300 access keys, e.g. ak0000, ak0001, ak0002";
    assert!(text.contains(expected), "{text}");
}
