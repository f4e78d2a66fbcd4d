//! Which configuration file `run` and `check` read.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;

/// The configuration file; without a flag the environment and then the default path are used.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct ConfigPath {
    /// The configuration file [default: $CCFS_GATEWAY_CONFIG, else /etc/ccfs-gateway/gateway.toml]
    #[arg(short, long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
    /// The same as --config FILE
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// No configuration file was given, and none was found.
#[derive(Debug)]
pub(super) struct NotFound;

impl ConfigPath {
    /// Returns the flag `--config FILE`.
    pub(super) fn given(path: PathBuf) -> Self {
        Self {
            config: Some(path),
            file: None,
        }
    }

    /// Returns the path that was given, else `$CCFS_GATEWAY_CONFIG`, else the default path if it exists.
    pub(super) fn resolve(&self) -> Result<PathBuf, NotFound> {
        self.resolve_with(from_environment(), Path::new(DEFAULT_PATH))
    }

    fn resolve_with(
        &self,
        environment: Option<PathBuf>,
        default: &Path,
    ) -> Result<PathBuf, NotFound> {
        let given = self.config.as_ref().or(self.file.as_ref()).cloned();
        given
            .or(environment)
            .or_else(|| default.exists().then(|| default.to_owned()))
            .ok_or(NotFound)
    }
}

impl NotFound {
    /// What is missing.
    pub(super) const MESSAGE: &str = "no configuration: CCFS_GATEWAY_CONFIG is not set, and there is \
                                      no /etc/ccfs-gateway/gateway.toml";
    /// What to do about it.
    pub(super) const HELP: &str = "give the file as FILE or with --config FILE";
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", Self::MESSAGE, Self::HELP)
    }
}

fn from_environment() -> Option<PathBuf> {
    std::env::var_os("CCFS_GATEWAY_CONFIG")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}

/// The place where packages install it.
const DEFAULT_PATH: &str = "/etc/ccfs-gateway/gateway.toml";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        config: ConfigPath,
    }

    fn resolve(flags: &[&str], environment: Option<&str>, default: &Path) -> Option<PathBuf> {
        let program = Program::try_parse_from([&["run"], flags].concat()).unwrap();
        let environment = environment.map(PathBuf::from);
        program.config.resolve_with(environment, default).ok()
    }

    #[test]
    fn the_flag_precedes_the_environment_and_that_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let (missing, there) = (folder.path().join("a"), folder.path());
        for flags in [&["--config", "x"][..], &["-c", "x"], &["x"]] {
            assert_eq!(resolve(flags, Some("y"), there), Some("x".into()));
        }
        assert_eq!(resolve(&[], Some("y"), there), Some("y".into()));
        assert_eq!(resolve(&[], None, there), Some(there.to_owned()));
        assert_eq!(resolve(&[], None, &missing), None);
    }

    #[test]
    fn two_files_are_bad_usage() {
        let error = Program::try_parse_from(["run", "--config", "a", "b"]).unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict);
    }
}
