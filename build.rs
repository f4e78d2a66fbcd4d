//! Records what `--version` prints: commit, target and features. Runs no program: a source archive has
//! no repository, and a build machine may have no git.
#![expect(
    clippy::disallowed_methods,
    reason = "cargo gives a build script its input in the environment"
)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed={COMMIT}");
    let given = env::var(COMMIT).ok().filter(|commit| !commit.is_empty());
    // A debug build does not follow the repository, so that a commit does not rebuild the crate.
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let found = || is_release.then(|| commit(Path::new(".git"))).flatten();
    let commit = given.or_else(found).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=BUILD_COMMIT={commit}");
    let target = env::var("TARGET").unwrap_or_default();
    println!("cargo:rustc-env=BUILD_TARGET={target}");
    println!("cargo:rustc-env=BUILD_FEATURES={}", features());
}

/// Returns the enabled features, sorted; `none` without any.
fn features() -> String {
    let names = env::vars().filter_map(|(name, _)| {
        let name = name.strip_prefix("CARGO_FEATURE_")?;
        Some(name.to_ascii_lowercase().replace('_', "-"))
    });
    let mut names: Vec<_> = names.filter(|name| name != "default").collect();
    names.sort_unstable();
    if names.is_empty() {
        return "none".to_owned();
    }
    names.join(", ")
}

/// Returns the abbreviated hash of HEAD from the files of a repository or a worktree.
fn commit(git: &Path) -> Option<String> {
    let directory = if git.is_file() {
        let link = fs::read_to_string(git).ok()?;
        PathBuf::from(link.strip_prefix("gitdir:")?.trim())
    } else {
        git.to_owned()
    };
    let common = match fs::read_to_string(directory.join("commondir")) {
        Ok(common) => directory.join(common.trim()),
        Err(_) => directory.clone(),
    };
    let head = read(&directory.join("HEAD"))?;
    let hash = match head.strip_prefix("ref:") {
        None => head,
        Some(name) => {
            let name = name.trim();
            read(&common.join(name)).or_else(|| packed(&common, name))?
        }
    };
    let hash = hash.trim();
    let is_hash = hash.len() >= 40 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| hash[..12].to_owned())
}

/// Returns the hash of a reference that git has packed.
fn packed(common: &Path, name: &str) -> Option<String> {
    let text = read(&common.join("packed-refs"))?;
    let line = text
        .lines()
        .find(|line| line.ends_with(&format!(" {name}")))?;
    Some(line.split(' ').next()?.to_owned())
}

/// Reads a file, and makes cargo run this script again when it changes.
fn read(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    println!("cargo:rerun-if-changed={}", path.display());
    Some(text)
}

/// Overrides the commit, for builds from an archive.
const COMMIT: &str = "CCFS_GATEWAY_COMMIT";
