//! "Did you mean": the known name that a mistyped one is closest to.

/// Returns the name of `known` that is closest to `typed`, if it is close enough to be meant.
///
/// Close enough is one edit in three characters (insertion, deletion, substitution, transposition), or
/// a name that begins with `typed` or the reverse: `max_body` means `max_body_size`.
pub(super) fn suggest<'a>(
    typed: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let typed: String = typed.chars().take(MAX_NAME_LENGTH).collect();
    let max_distance = (typed.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|name| (strsim::osa_distance(&typed, name), name))
        .filter(|(distance, name)| *distance <= max_distance || is_prefix_match(&typed, name))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Whether one of the two begins with the other, of at least four characters.
fn is_prefix_match(typed: &str, name: &str) -> bool {
    let is_prefix = |prefix: &str, whole: &str| {
        prefix.chars().count() >= MIN_PREFIX_LENGTH && whole.starts_with(prefix)
    };
    is_prefix(typed, name) || typed.chars().count() >= MIN_PREFIX_LENGTH && is_prefix(name, typed)
}

/// Every key is shorter. The distance takes quadratic time: a name of megabytes would take a second.
const MAX_NAME_LENGTH: usize = 64;

/// Shorter prefixes (`tls`) match too many keys by accident.
const MIN_PREFIX_LENGTH: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_the_known_name() {
        let known = ["nodes", "balance", "host", "max_body_size", "per_second"];
        for (typed, meant) in [
            ("node", Some("nodes")),
            ("ndoes", Some("nodes")),
            ("balence", Some("balance")),
            ("max_body", Some("max_body_size")),
            ("per_seconds", Some("per_second")),
            ("tls", None),
            ("", None),
        ] {
            assert_eq!(suggest(typed, known), meant, "{typed}");
        }
    }

    #[test]
    fn a_name_of_megabytes_takes_no_time() {
        assert_eq!(suggest(&"x".repeat(1 << 22), ["nodes"]), None);
    }
}
