//! `demo --make-files`: the files that `config/gateway.toml` names.

use std::io::Write;
use std::path::Path;

use anyhow::bail;

use crate::cli::trial::{ACCESS_KEYS, TrialFiles, program, quote};

/// Writes certificates and secrets where `config/gateway.toml` expects them, and prints the next commands.
///
/// # Errors
/// Returns an error, and writes nothing, if a file exists and `force` is not set.
pub(super) fn make_files(
    directory: &Path,
    force: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let files = TrialFiles::new(directory, &ACCESS_KEYS);
    let mut existing = files.paths();
    existing.retain(|path| path.exists());
    if !existing.is_empty() && !force {
        let existing: Vec<_> = existing
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        bail!(
            "nothing was written: these files exist: {}; --force overwrites them",
            existing.join(", ")
        );
    }
    files.write()?;
    let dir = directory.display();
    let program = program();
    writeln!(out, "{dir}/tls and {dir}/secrets are written.")?;
    writeln!(out, "\nThree nodes, until Ctrl-C:\n")?;
    writeln!(out, "{}", files.stand_in_command(&NODES))?;
    let config = directory.join("gateway.toml");
    if config.exists() {
        writeln!(out, "\nThe gateway, in a second terminal:\n")?;
        writeln!(out, "{program} run {}", quote(config))?;
    } else {
        writeln!(
            out,
            "\nThere is no {dir}/gateway.toml: put the project's config/gateway.toml there, or let\n\
             `{program} init` write a configuration with all its files into another directory."
        )?;
    }
    writeln!(out, "\nA request, in a third one:\n")?;
    let call = files.call_command("https://127.0.0.1:28443", "1637742300-27");
    writeln!(out, "{call}")?;
    Ok(())
}

/// The nodes of `config/gateway.toml`.
const NODES: [&str; 3] = ["127.0.0.1:18443", "127.0.0.1:18444", "127.0.0.1:18445"];

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn existing_files_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secrets").join(ACCESS_KEYS[0]);
        let mut out = Vec::new();
        make_files(folder.path(), false, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            !text.contains(" run ") && text.contains("There is no"),
            "{text}"
        );

        let before = fs::read(&secret).unwrap();
        let error = make_files(folder.path(), false, &mut Vec::new())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("tls/gateway.key") && error.contains(ACCESS_KEYS[1]),
            "{error}"
        );
        assert_eq!(fs::read(&secret).unwrap(), before);

        fs::write(folder.path().join("gateway.toml"), "").unwrap();
        let mut out = Vec::new();
        make_files(folder.path(), true, &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().contains(" run "));
        assert_ne!(fs::read(&secret).unwrap(), before);
    }
}
