//! "Did you mean": the name that a mistyped one is closest to.

/// The nearest of `known` to `typed`, if it is near enough to be meant.
pub(super) fn suggest<'a>(
    typed: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let typed: Vec<char> = typed.chars().take(MAX_NAME_LENGTH).collect();
    let enough = (typed.len() / 3).max(1);
    known
        .into_iter()
        .map(|name| (distance(&typed, &name.chars().collect::<Vec<_>>()), name))
        .filter(|(distance, name)| *distance <= enough || is_prefix_match(&typed, name))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `max_body` is meant as `max_body_size` although five letters are missing.
fn is_prefix_match(typed: &[char], name: &str) -> bool {
    typed.len() >= 4 && {
        let typed: String = typed.iter().collect();
        name.starts_with(&typed) || (name.len() >= 4 && typed.starts_with(name))
    }
}

/// Edits (insert, delete, replace, swap of neighbours) that turn one into the other.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

// No key is longer; a name of megabytes would cost a second here.
const MAX_NAME_LENGTH: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_are_understood() {
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
    fn each_kind_of_edit_costs_one() {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        for (a, b, edits) in [
            ("", "", 0),
            ("ab", "ba", 1),
            ("abc", "ab", 1),
            ("abc", "adc", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(&chars(a), &chars(b)), edits, "{a} {b}");
        }
    }
}
