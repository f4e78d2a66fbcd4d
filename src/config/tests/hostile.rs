//! Any file is either read or has problems; no input panics.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_damage_is_reported(at in 0..MINIMAL.len(), length in 0..40usize, junk in JUNK) {
        let mut text = MINIMAL.to_owned();
        text.replace_range(at..(at + length).min(MINIMAL.len()), &junk);
        PLACE.with(|dir| match dir.parse(&text) {
            Ok((config, _)) => drop(config.redacted()),
            Err(diagnosis) => {
                assert!(diagnosis.to_string().contains("error: "), "{diagnosis}");
                for problem in diagnosis.problems() {
                    let (line, column) = problem.location().unwrap();
                    assert!(line >= 1 && line <= text.matches('\n').count() + 1 && column >= 1);
                }
            }
        });
    }
}

/// Pieces of TOML, multi-byte characters, and anything else.
const JUNK: &str = "([\\[\\]{}=\"'\n.,#]|é|語|tls|nodes|secret_key|0|true|\\PC|\r|\t|\0){0,12}";

thread_local! {
    static PLACE: TestDir = TestDir::new();
}
