//! The container image: its recipe, and the files that its build sees.

use std::path::Path;

use super::{deploy, files};
use crate::support::read;

#[test]
fn the_image_runs_as_nobody_and_starts_the_program_itself() {
    let text = read(&deploy("Dockerfile"));
    for line in [
        "FROM gcr.io/distroless/cc-debian12:nonroot",
        "USER 65532:65532",
        "STOPSIGNAL SIGTERM",
        "CMD [\"/usr/bin/ccfs-gateway\", \"healthcheck\"]",
        "ENTRYPOINT [\"/usr/bin/ccfs-gateway\"]",
    ] {
        assert!(text.contains(line), "{line}");
    }
    let manifest = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("rust-toolchain.toml"));
    let version = text.split("/rust:").nth(1).unwrap();
    let version = version.split('-').next().unwrap();
    assert!(manifest.contains(version), "{version} is not the toolchain");
}

/// Whether `path` of the repository is in the context of the image's build: the last line that matches decides.
fn is_in_image_context(path: &Path) -> bool {
    let mut is_in = true;
    for line in read(&deploy("Dockerfile.dockerignore")).lines() {
        let (includes, pattern) = match line.strip_prefix('!') {
            Some(pattern) => (true, pattern),
            None => (false, line),
        };
        let folder = pattern.strip_suffix("/*").unwrap_or(pattern);
        if !line.starts_with('#') && path.starts_with(folder) {
            is_in = includes;
        }
    }
    is_in
}

#[test]
fn the_context_of_the_image_has_every_file_that_is_compiled_in() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = vec![root.join("Cargo.toml"), root.join("build.rs")];
    files(&root.join("src"), &mut sources);
    // What only tests compile in is not needed.
    sources.retain(|path| !path.to_str().unwrap().contains("tests"));
    let mut needed = sources.clone();
    for source in sources
        .iter()
        .filter(|path| path.extension().is_some_and(|it| it == "rs"))
    {
        for part in read(source).split("include_str!(\"").skip(1) {
            let target = source
                .parent()
                .unwrap()
                .join(part.split('"').next().unwrap());
            needed.push(target.canonicalize().unwrap());
        }
    }
    let outside = needed
        .iter()
        .filter(|path| !path.starts_with(root.join("src")));
    assert!(
        outside.count() > 2,
        "nothing of deploy/ is compiled in any more"
    );
    for path in needed {
        let path = path.strip_prefix(root).unwrap();
        assert!(
            is_in_image_context(path),
            "{} is not in the context",
            path.display()
        );
    }
}
