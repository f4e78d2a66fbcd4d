//! The command line as clap sees it: its colours, and `--help` with the commands in groups.

use std::fmt::Write;

use clap::builder::Styles;
use clap::builder::styling::AnsiColor;
use clap::{Command, CommandFactory};

use super::Cli;

/// Colours of help and usage errors, where the output is a terminal and `NO_COLOR` is unset.
pub(super) const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Returns the definition of all commands. clap itself lists them without groups.
pub(super) fn command() -> Command {
    let command = Cli::command();
    let (header, reset) = (STYLES.get_header(), STYLES.get_header().render_reset());
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{}\
         {header}Options:{reset}\n{{options}}{{after-help}}",
        groups(&command)
    );
    command.help_template(template)
}

/// Lists the commands with the first line of their help, under the headings of their groups.
fn groups(command: &Command) -> String {
    let (header, literal) = (STYLES.get_header(), STYLES.get_literal());
    let mut text = String::new();
    for (heading, names) in GROUPS {
        let members = names
            .iter()
            .filter_map(|name| command.find_subcommand(name));
        let _ = writeln!(text, "{header}{heading}:{header:#}");
        for member in members {
            let name = member.get_name();
            let about = member.get_about().map(ToString::to_string);
            let about = about.unwrap_or_default();
            let _ = writeln!(text, "  {literal}{name:<12}{literal:#} {about}");
        }
        text.push('\n');
    }
    text
}

/// The groups of `--help`. A command that the program was built without is left out.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Serve", &["run", "check", "init", "schema"]),
    ("Try", &["demo", "stand-in", "call"]),
    ("Sign", &["sign", "verify", "explain"]),
    (
        "Operate a running gateway",
        &[
            "status",
            "top",
            "doctor",
            "nodes",
            "tail",
            "reload",
            "drain",
            "purge",
            "keys",
            "audit",
            "healthcheck",
        ],
    ),
    ("This program", &["completions", "man"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_command_is_in_one_group() {
        for subcommand in command().get_subcommands() {
            let name = subcommand.get_name();
            let all = GROUPS.iter().flat_map(|(_, names)| names.iter());
            assert_eq!(all.filter(|it| **it == name).count(), 1, "{name}");
        }
    }

    #[test]
    fn the_list_fits_into_80_columns() {
        let text = command().render_help().to_string();
        for (heading, _) in GROUPS {
            assert!(
                text.contains(&format!("\n{heading}:\n")),
                "{heading} in\n{text}"
            );
        }
        let text = text.split("\nExamples:").next().unwrap_or_default();
        let long: Vec<_> = text
            .lines()
            .filter(|line| line.chars().count() > 80)
            .collect();
        assert!(long.is_empty(), "{long:#?}");
    }
}
