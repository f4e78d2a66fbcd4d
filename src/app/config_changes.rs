//! What a reload changed, in words for people: counts of access keys, keys of the configuration with their values
//! before and after, files with new content. No secrets: it compares what `/config` shows.

use serde_json::Value;

use crate::config::{AccessKeys, Config};
use crate::words;

/// Returns the changes from one configuration to the next, at most [`MAX_CHANGES`] of them.
pub(super) fn describe(before: &Config, after: &Config) -> Vec<String> {
    let mut changes = access_keys(&before.access_keys, &after.access_keys);
    let (old, new) = (before.redacted_settings(), after.redacted_settings());
    compare("", &old, &new, &mut changes);
    changes.extend(files(before, after));
    let omitted = changes.len().saturating_sub(MAX_CHANGES);
    changes.truncate(MAX_CHANGES);
    if omitted > 0 {
        changes.push(format!("and {omitted} more"));
    }
    changes
}

/// Returns the changes of access keys alone.
pub(super) fn access_keys(before: &AccessKeys, after: &AccessKeys) -> Vec<String> {
    let removed = before.unshared(after);
    let removed: Vec<_> = removed
        .filter(|(name, _)| after.get(*name).is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    let (mut added, mut changed) = (Vec::new(), Vec::new());
    for (name, settings) in after.unshared(before) {
        match before.get(name) {
            None => added.push(name.as_str()),
            Some(old) if old != settings => changed.push(name.as_str()),
            Some(_) => {}
        }
    }
    let kinds = [("+", added), ("−", removed), ("changed: ", changed)];
    let kinds = kinds.into_iter().filter(|(_, names)| !names.is_empty());
    kinds
        .map(|(mark, mut names)| {
            names.sort_unstable();
            named(mark, "access key", &names)
        })
        .collect()
}

/// Names a few things, as in `+3 access keys (a, b, c)`.
fn named(mark: &str, noun: &str, names: &[&str]) -> String {
    let shown = words::list(names, MAX_NAMES);
    let count = words::count(names.len() as u64, noun);
    format!("{mark}{count} ({shown})")
}

/// Compares two values at `path`: tables by their members, lists of different length by their length.
fn compare(path: &str, before: &Value, after: &Value, changes: &mut Vec<String>) {
    if before == after {
        return;
    }
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        changes.push(match (before, after) {
            (Value::Array(old), Value::Array(new)) if old.len() != new.len() => {
                format!("{path}: {} → {} entries", old.len(), new.len())
            }
            (Value::Null, new) => format!("{path}: set to {}", shown(new)),
            (old, Value::Null) => format!("{path}: no longer {}", shown(old)),
            (old, new) => format!("{path}: {} → {}", shown(old), shown(new)),
        });
        return;
    };
    let at = |name: &str| match path {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    };
    for (name, old) in old {
        match new.get(name) {
            None => changes.push(format!("−{}", at(name))),
            Some(new) => compare(&at(name), old, new, changes),
        }
    }
    let added = new.keys().filter(|name| !old.contains_key(*name));
    changes.extend(added.map(|name| format!("+{}", at(name))));
}

/// Shows a value in a few characters.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => return format!("a list of {}", list.len()),
        Value::Object(_) => return "a table".to_owned(),
        Value::Bool(_) | Value::Null | Value::Number(_) => value.to_string(),
    };
    match text.char_indices().nth(MAX_VALUE) {
        None => text,
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

/// Returns the files that both configurations name and whose content differs.
fn files<'a>(before: &'a Config, after: &'a Config) -> impl Iterator<Item = String> + 'a {
    let changed = after.files.iter().filter(|(path, digest)| {
        let known = before.files.get(*path);
        known.is_some_and(|known| known != *digest)
    });
    changed.map(|(path, _)| format!("new content of {}", path.display()))
}

/// Changes that are listed; a reload that makes more of them is read in the file.
const MAX_CHANGES: usize = 20;

/// Access keys that are named.
const MAX_NAMES: usize = 5;

/// Characters of a value.
const MAX_VALUE: usize = 60;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn compared(before: &Value, after: &Value) -> Vec<String> {
        let mut changes = Vec::new();
        compare("", before, after, &mut changes);
        changes
    }

    #[test]
    fn changes_are_named_with_their_values() {
        let before = json!({
            "limits": { "max_in_flight": 10_000, "dry_run": false },
            "clusters": { "ccfs": { "nodes": [1, 2], "fallback": null } },
            "listeners": { "old": {} },
        });
        let after = json!({
            "limits": { "max_in_flight": 20_000, "dry_run": false },
            "clusters": { "ccfs": { "nodes": [1, 2, 3], "fallback": "south" } },
            "listeners": { "new": {} },
        });
        let mut changes = compared(&before, &after);
        changes.sort();
        assert_eq!(
            changes,
            [
                "+listeners.new",
                "clusters.ccfs.fallback: set to south",
                "clusters.ccfs.nodes: 2 → 3 entries",
                "limits.max_in_flight: 10000 → 20000",
                "−listeners.old",
            ]
        );
        assert_eq!(compared(&before, &before), Vec::<String>::new());
    }
}
