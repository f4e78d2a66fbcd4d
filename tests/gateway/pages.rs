//! The pages for people: their commands, links and versions are true.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ccfs_gateway::cli::Cli;
use clap::Parser;

use crate::support::read;

mod commands;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The targets of the links of a page, without addresses and anchors.
fn links(page: &Path) -> Vec<PathBuf> {
    let text = read(page);
    let targets = text.split("](").skip(1);
    let targets = targets.filter_map(|rest| rest.split_once(')'));
    targets
        .map(|(target, _)| target.split('#').next().unwrap())
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .map(|target| page.parent().unwrap().join(target))
        .collect()
}

/// The pages that links lead to from the README, itself included.
fn reachable() -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut next = vec![root().join("README.md")];
    while let Some(page) = next.pop() {
        let page = page.canonicalize().unwrap();
        if found.insert(page.clone()) {
            let pages = links(&page).into_iter();
            next.extend(pages.filter(|link| link.extension().is_some_and(|it| it == "md")));
        }
    }
    found
}

/// All pages of the project.
fn pages() -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut next = vec![root()];
    while let Some(folder) = next.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                next.push(path);
            } else if name.ends_with(".md") {
                found.insert(path.canonicalize().unwrap());
            }
        }
    }
    found
}

/// The lines of the shell blocks of a page, with continued lines joined.
fn commands(page: &Path) -> Vec<String> {
    let text = read(page);
    let blocks = text.split("```sh\n").skip(1);
    let blocks = blocks.map(|rest| rest.split("```").next().unwrap());
    let joined = blocks.map(|block| block.replace("\\\n", " "));
    joined
        .flat_map(|block| {
            block
                .lines()
                .map(|line| line.trim().to_owned())
                .collect::<Vec<_>>()
        })
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

/// Splits a command into words as a shell does; substitutions stay as they are.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in command.chars() {
        match (quote, c) {
            (Some(end), _) if c == end => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, '|' | '&' | ';' | '>' | ')' | '#') => break,
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn the_readmes_are_short() {
    for name in ["README.md", "README.zh-CN.md"] {
        let lines = read(&root().join(name)).lines().count();
        assert!(lines <= 130, "{name}: {lines} lines");
    }
}

#[test]
fn every_link_leads_to_a_file_and_every_page_is_linked() {
    for page in pages() {
        for link in links(&page) {
            assert!(link.exists(), "{}: {}", page.display(), link.display());
        }
    }
    let missing: Vec<_> = pages().difference(&reachable()).cloned().collect();
    assert!(
        missing.is_empty(),
        "not reachable from the README: {missing:?}"
    );
}

#[test]
fn every_command_of_the_program_has_the_arguments_that_pages_give_it() {
    let mut count = 0;
    for page in pages() {
        for line in commands(&page) {
            for command in line.split("ccfs-gateway ").skip(1) {
                // An ellipsis stands for arguments of the reader.
                if command.contains('…')
                    || line.contains("-u ccfs-gateway --") && command.starts_with("-- ")
                {
                    continue;
                }
                let words = words(command);
                let is_command = words
                    .first()
                    .is_some_and(|it| it.starts_with(char::is_lowercase));
                let is_of_another = ["install ", "kubectl ", "helm "]
                    .iter()
                    .any(|program| line.starts_with(program));
                if is_of_another || !is_command {
                    continue;
                }
                count += 1;
                let parsed = Cli::try_parse_from([vec!["ccfs-gateway".to_owned()], words].concat());
                if let Err(error) = parsed {
                    panic!("{}: {line}\n{error}", page.display());
                }
            }
        }
    }
    assert!(count > 15, "{count}");
}

#[test]
fn every_recipe_that_pages_name_exists() {
    let justfile = read(&root().join("justfile"));
    for page in pages() {
        for part in read(&page).split("`just ").skip(1) {
            let name = part.split([' ', '`']).next().unwrap();
            let exists = ["…"].contains(&name)
                || justfile.contains(&format!("\n{name}:"))
                || justfile.contains(&format!("\n{name} "));
            assert!(exists, "{}: just {name}", page.display());
        }
    }
}

/// The version stands in Cargo.toml; images and manifests follow it.
#[test]
fn the_version_is_the_same_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    let image = format!("ccfs-gateway:{version}");
    for (file, expected) in [
        ("README.md", &image),
        ("README.zh-CN.md", &image),
        ("deploy/README.md", &image),
        ("deploy/Dockerfile", &image),
        ("deploy/compose/compose.yaml", &image),
        (
            "deploy/helm/Chart.yaml",
            &format!("\nversion: {version}\nappVersion: {version}\n"),
        ),
        (
            "deploy/kubernetes/kustomization.yaml",
            &format!("newTag: {version}\n"),
        ),
    ] {
        let text = read(&root().join(file));
        assert!(text.contains(expected), "{file} does not name {expected}");
        let others = text.split("ccfs-gateway:").skip(1);
        for other in others.filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
            assert!(other.starts_with(version), "{file}: {}", &other[..8]);
        }
    }
}

/// The sections of a page: each heading of the third level with the code and the links below it.
fn sections(page: &str) -> Vec<(String, BTreeSet<String>)> {
    let text = read(&root().join(page));
    let sections = text.split("\n### ").skip(1);
    let sections = sections.map(|section| section.split_once('\n').unwrap());
    sections
        .map(|(heading, text)| {
            let text = text.split("\n## ").next().unwrap();
            let code = text.split('`').skip(1).step_by(2);
            let links = text.split("](").skip(1);
            let links = links.map(|rest| rest.split(')').next().unwrap());
            let found = code.chain(links).map(|it| it.replace('\n', " "));
            (heading.to_owned(), found.collect())
        })
        .collect()
}

/// The translation has the same sections, and in each of them the same keys, commands, fields and links.
#[test]
fn the_chinese_troubleshooting_page_has_every_section_with_its_facts() {
    let english = sections("deploy/troubleshooting.md");
    let chinese = sections("deploy/troubleshooting.zh-CN.md");
    assert!(english.len() > 60, "{}", english.len());
    assert_eq!(english.len(), chinese.len());
    for (english, chinese) in english.iter().zip(&chinese) {
        assert_eq!(english, chinese);
    }
}

#[test]
fn commands_are_split_as_a_shell_does() {
    assert_eq!(
        words("call --begin '2021 x' -o a | head"),
        ["call", "--begin", "2021 x", "-o", "a"]
    );
    assert_eq!(words("run x &"), ["run", "x"]);
    assert_eq!(
        words("sign --header \"host: a\")"),
        ["sign", "--header", "host: a"]
    );
}
