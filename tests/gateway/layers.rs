//! The layer rule of `src/lib.rs`: a module uses only modules of lower layers.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Layers from the bottom to the top. `cli`, `client` and `stand_in` form the uppermost layers;
/// only `cli` uses the other two.
const LAYERS: &[&[&str]] = &[
    &[
        "drain",
        "framing",
        "encoding",
        "escape",
        "gauge",
        "hex",
        "http_fields",
        "metrics",
        "sharded_map",
        "task",
        "telemetry",
        "tick_timer",
        "tls",
        "words",
    ],
    &["auth", "ccfs", "cluster", "findings"],
    &["config"],
    &["message"],
    &["cache", "limit", "shared_store", "upstream"],
    &["gateway"],
    &["listener", "admin"],
    &["app"],
    &["stand_in"],
    &["client"],
    &["cli"],
];

/// Allowed dependencies within a layer: `metrics` counts by gauges, `telemetry` counts, escapes and
/// encodes what it writes, `findings` judges the state of clusters, `admin` is served by `listener`.
const INSIDE: &[(&str, &str)] = &[
    ("metrics", "gauge"),
    ("telemetry", "metrics"),
    ("telemetry", "escape"),
    ("telemetry", "hex"),
    ("findings", "cluster"),
    ("admin", "listener"),
];

#[test]
fn no_module_uses_a_module_of_its_own_or_a_higher_layer() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = BTreeSet::new();
    for file in rust_files(&source) {
        let relative = file.strip_prefix(&source).unwrap();
        let first = relative
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap();
        let module = first.trim_end_matches(".rs");
        if ["main", "lib"].contains(&module) {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for used in uses(&text) {
            let allowed =
                used == module || INSIDE.contains(&(module, &used)) || layer(&used) < layer(module);
            if !allowed {
                wrong.insert(format!("{} uses {used}", relative.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "violates the layers of src/lib.rs:\n{wrong:#?}"
    );
}

/// The tables of `src/lib.rs` and ARCHITECTURE.md are the same, and name every module of [`LAYERS`].
#[test]
fn the_layers_are_documented() {
    let table = |text: String| -> Vec<String> {
        let lines = text.lines().map(|line| line.trim_start_matches("//! "));
        let rows = lines
            .skip_while(|line| !line.starts_with("| layer |"))
            .take_while(|line| line.starts_with('|'));
        rows.map(|line| line.replace(['[', ']'], "")).collect()
    };
    let code = table(read("src/lib.rs"));
    assert_eq!(code, table(read("ARCHITECTURE.md")));
    let documented: BTreeSet<_> = code[2..]
        .iter()
        .flat_map(|row| row.split('`').skip(1).step_by(2))
        .collect();
    assert_eq!(
        documented,
        LAYERS.iter().copied().flatten().copied().collect()
    );
}

/// Every path of this repository that the documents for developers name exists.
#[test]
fn the_documents_name_existing_files() {
    let architecture = read("ARCHITECTURE.md");
    let (current, _) = architecture.split_once("## Old names").unwrap();
    let documents = [current, &read("CONTRIBUTING.md"), &read("SECURITY.md")].concat();
    let roots = ["src/", "tests/", "config/", "deploy/"];
    let missing: Vec<_> = documents
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|path| roots.iter().any(|root| path.starts_with(root)))
        .filter(|path| !path.contains(['*', '…', ' ']))
        .filter(|path| !root(path).exists())
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    crate::support::read(&root(path))
}

fn layer(module: &str) -> usize {
    LAYERS
        .iter()
        .position(|layer| layer.contains(&module))
        .unwrap_or_else(|| panic!("{module} has no layer: give it one here and in src/lib.rs"))
}

/// The top-level modules that a source file names as `crate::module`, also inside `use crate::{…}`.
fn uses(text: &str) -> BTreeSet<String> {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let code: String = code.flat_map(|line| [line, "\n"]).collect();
    let mut found = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        match after.strip_prefix('{') {
            None => found.extend(name(after)),
            Some(group) => {
                let mut depth = 0;
                let mut start = true;
                for (at, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' => start = depth == 0,
                        c if c.is_whitespace() => {}
                        _ => {
                            if start && depth == 0 {
                                found.extend(name(&group[at..]));
                            }
                            start = false;
                        }
                    }
                }
            }
        }
    }
    found
}

fn name(text: &str) -> Option<String> {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                rust_files(&path)
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                vec![path]
            } else {
                vec![]
            }
        })
        .collect()
}
