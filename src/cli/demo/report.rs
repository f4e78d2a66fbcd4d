//! What the demo prints: a headline, one row for each step, a closing line, and what to try next. Lines fit
//! the terminal, and break between words.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Effects, Style};

use super::steps::StepReport;
use crate::cli::terminal;

/// Prints to `out`.
pub(super) struct Printer<W> {
    out: W,
    /// Width of a line.
    columns: usize,
    is_styled: bool,
    /// Whether a line that tells what is being waited for can be replaced by the next one.
    has_progress: bool,
    /// Whether such a line is on the screen.
    is_pending: bool,
}

impl Printer<io::Stdout> {
    /// Prints to standard output, in the width of its terminal but in 60 to 120 columns; in 80 elsewhere.
    pub(super) fn stdout() -> Self {
        let out = io::stdout();
        let columns = terminal::columns(&out).unwrap_or(DEFAULT_COLUMNS);
        Self {
            columns: columns.clamp(MIN_COLUMNS, MAX_COLUMNS),
            is_styled: terminal::has_colours(&out),
            has_progress: out.is_terminal(),
            is_pending: false,
            out,
        }
    }
}

impl<W: Write> Printer<W> {
    /// Prints the headline, what runs, and the heading of the rows.
    pub(super) fn headline(&mut self, steps: usize, parts: &[(&str, String)]) -> io::Result<()> {
        self.erase()?;
        let title = format!("ccfs-gateway demo: {steps} things it does, on this machine");
        let title = self.paint(BOLD, &title);
        writeln!(self.out, "{title}\n")?;
        self.facts(parts)?;
        let heading = format!(
            "{:<5}{:<13}{:<9}{:>10}  {}",
            "", "step", "answer", "time", "what happened"
        );
        let heading = self.paint(DIM, heading.trim_end());
        writeln!(self.out, "\n{heading}")
    }

    /// Prints what is being waited for, until the next line replaces it. Only at a terminal.
    pub(super) fn progress(&mut self, text: &str) -> io::Result<()> {
        if !self.has_progress {
            return Ok(());
        }
        self.erase()?;
        let text: String = text.chars().take(self.columns - PROGRESS.len()).collect();
        let line = self.paint(DIM, &format!("{PROGRESS}{text}"));
        write!(self.out, "{line}")?;
        self.is_pending = true;
        self.out.flush()
    }

    /// Prints the row of a step.
    pub(super) fn row(&mut self, report: &StepReport) -> io::Result<()> {
        self.erase()?;
        let mark = if report.passed {
            self.paint(GOOD, "ok  ")
        } else {
            self.paint(BAD, "FAIL")
        };
        let name = self.paint(BOLD, &format!("{:<13}", report.name));
        let status = &report.status;
        let time = milliseconds(report.elapsed);
        let mut lines = wrap(&report.text, self.columns - TEXT_COLUMN).into_iter();
        let first = lines.next().unwrap_or_default();
        writeln!(self.out, "{mark} {name}{status:<9}{time:>10}  {first}")?;
        for line in lines {
            writeln!(self.out, "{:TEXT_COLUMN$}{line}", "")?;
        }
        Ok(())
    }

    /// Prints how many of all steps passed, and how long they took.
    pub(super) fn closing(
        &mut self,
        passed: usize,
        steps: usize,
        elapsed: Duration,
    ) -> io::Result<()> {
        self.erase()?;
        let style = if passed == steps { GOOD } else { BAD };
        let seconds = elapsed.as_secs_f64();
        let line = format!("{passed} of {steps} as expected in {seconds:.1} s");
        let line = self.paint(style, &line);
        writeln!(self.out, "\n{line}")
    }

    /// Prints a list of names and texts, aligned.
    pub(super) fn facts(&mut self, facts: &[(&str, String)]) -> io::Result<()> {
        self.erase()?;
        for (name, text) in facts {
            let mut name = self.paint(BOLD, &format!("{name:<FACT_COLUMN$}"));
            for line in wrap(text, self.columns - FACT_COLUMN) {
                writeln!(self.out, "{name}{line}")?;
                name = " ".repeat(FACT_COLUMN);
            }
        }
        Ok(())
    }

    /// Prints a paragraph, and below it the lines of a command as they are.
    pub(super) fn command(&mut self, text: &str, command: &str) -> io::Result<()> {
        self.line(text)?;
        writeln!(self.out)?;
        for line in command.lines() {
            let line = self.paint(COMMAND, line);
            writeln!(self.out, "  {line}")?;
        }
        writeln!(self.out)
    }

    /// Prints a JSON value.
    pub(super) fn json(&mut self, value: &serde_json::Value) -> io::Result<()> {
        writeln!(self.out, "{value:#}")
    }

    /// Prints a paragraph; an empty one is an empty line.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        self.erase()?;
        if text.is_empty() {
            return writeln!(self.out);
        }
        for line in wrap(text, self.columns) {
            writeln!(self.out, "{line}")?;
        }
        Ok(())
    }

    /// Ends the row of progress, so that what follows begins on a line of its own.
    pub(super) fn erase(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_pending) {
            // To the first column, and erases the line (ECMA-48, CR and EL).
            write!(self.out, "\r\x1b[2K")?;
        }
        Ok(())
    }

    fn paint(&self, style: Style, text: &str) -> String {
        if self.is_styled {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }
}

/// Breaks a text between words into lines of at most `columns` characters; a longer word has its own line.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Returns `12.3 ms`; a shorter time than 0.1 ms is `< 0.1 ms`, since 0 would look wrong.
fn milliseconds(elapsed: Duration) -> String {
    let ms = elapsed.as_secs_f64() * 1e3;
    if ms < 0.1 {
        "< 0.1 ms".to_owned()
    } else {
        format!("{ms:.1} ms")
    }
}

/// Where the text of a row begins: mark, name, status and time are before it.
const TEXT_COLUMN: usize = 39;
const FACT_COLUMN: usize = 13;
const PROGRESS: &str = "...  ";
const DEFAULT_COLUMNS: usize = 80;
const MIN_COLUMNS: usize = 60;
const MAX_COLUMNS: usize = 120;

const BOLD: Style = Style::new().effects(Effects::BOLD);
const DIM: Style = Style::new().effects(Effects::DIMMED);
const GOOD: Style = AnsiColor::Green.on_default().effects(Effects::BOLD);
const BAD: Style = AnsiColor::Red.on_default().effects(Effects::BOLD);
const COMMAND: Style = AnsiColor::Cyan.on_default();

#[cfg(test)]
mod tests {
    use super::*;

    fn printer(columns: usize, is_terminal: bool) -> Printer<Vec<u8>> {
        Printer {
            out: Vec::new(),
            columns,
            is_styled: is_terminal,
            has_progress: is_terminal,
            is_pending: false,
        }
    }

    fn report() -> StepReport {
        StepReport {
            passed: true,
            name: "failed over",
            status: "9 x 200".to_owned(),
            elapsed: Duration::from_micros(12_345),
            text: "a node was killed: 9 requests, none failed, the other nodes served them; it runs again"
                .to_owned(),
        }
    }

    #[test]
    fn rows_fit_the_terminal_and_are_aligned() {
        for columns in [60, 80, 120] {
            let mut printer = printer(columns, false);
            printer
                .headline(9, &[("gateway", "word ".repeat(40))])
                .unwrap();
            printer.row(&report()).unwrap();
            let text = String::from_utf8(printer.out).unwrap();
            let long = text.lines().find(|line| line.chars().count() > columns);
            assert_eq!(long, None, "{text}");
            let heading = text
                .lines()
                .find(|line| line.contains("what happened"))
                .unwrap();
            assert_eq!(heading.find("what happened"), Some(TEXT_COLUMN));
            let row = text.lines().find(|line| line.starts_with("ok")).unwrap();
            assert_eq!(&row[TEXT_COLUMN..TEXT_COLUMN + 6], "a node");
            assert!(row.contains("failed over  9 x 200     12.3 ms  "), "{row}");
        }
    }

    #[test]
    fn progress_is_replaced_and_only_shown_at_a_terminal() {
        for is_terminal in [false, true] {
            let mut printer = printer(80, is_terminal);
            printer.progress("waiting").unwrap();
            printer.closing(9, 9, Duration::from_millis(940)).unwrap();
            let text = String::from_utf8(printer.out).unwrap();
            assert_eq!(text.contains("waiting"), is_terminal);
            assert_eq!(text.contains("\r\x1b[2K"), is_terminal);
            assert!(text.contains("9 of 9 as expected in 0.9 s"), "{text:?}");
            assert_eq!(text.contains("\x1b["), is_terminal);
        }
    }

    #[test]
    fn a_short_time_is_not_shown_as_zero() {
        assert_eq!(milliseconds(Duration::from_nanos(10)), "< 0.1 ms");
        assert_eq!(milliseconds(Duration::from_micros(150)), "0.1 ms");
    }
}
