//! `keys import`: a spreadsheet of accounts becomes a file of access keys. No message shows a cell: a
//! secret can stand in any of them.

mod encoding;
mod row;

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::cli::EX_CONFIG;
use crate::config::{MAX_LISTED, read_named_file};
use row::{Column, Row};

/// Makes an `access_keys_file` of a spreadsheet
///
/// The first line names the columns, in any order: ak and sk, and if wanted zone, rate, burst, name, plan
/// and not_after. Separators are commas, semicolons or tabs; the text is UTF-8, UTF-16 or GBK. A rate is
/// 50, 50/s, 12/min or 500/h. A day as not_after is the last day, in the zone of the access key. Mistakes
/// are listed with line and column, and nothing is written then (exit code 78). Secrets are never shown.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Import {
    /// The spreadsheet, saved as CSV
    file: PathBuf,
    /// The file to write, with mode 600
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    /// List every mistake, instead of stopping after 20
    #[arg(long)]
    all: bool,
    /// Print one JSON object: imported, errors, warnings
    #[arg(long)]
    pub(super) json: bool,
}

/// A mistake, or something that was skipped.
#[derive(Debug, Eq, PartialEq)]
struct Note {
    /// Lines and columns are counted from 1; 0 is the whole file, or the whole line.
    line: u64,
    column: usize,
    message: String,
    help: &'static str,
}

/// The accounts of a spreadsheet.
#[derive(Debug, Default)]
struct Sheet {
    rows: Vec<Row>,
    errors: Vec<Note>,
    warnings: Vec<Note>,
}

impl Import {
    /// Reads the spreadsheet and writes the file.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub(super) fn run(&self, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let bytes = read_named_file(&self.file);
        let bytes = bytes.with_context(|| format!("cannot read {}", self.file.display()))?;
        let bytes = Zeroizing::new(bytes);
        let sheet = match encoding::decode(&bytes) {
            Ok(text) => Sheet::read(&text),
            Err(error) => Sheet {
                errors: vec![error],
                ..Sheet::default()
            },
        };
        if sheet.errors.is_empty() {
            self.write(&sheet)?;
        }
        self.report(&sheet, out, err)?;
        Ok(match sheet.errors.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(EX_CONFIG),
        })
    }

    /// Writes the file beside its final name, so that it is never seen half written.
    fn write(&self, sheet: &Sheet) -> anyhow::Result<()> {
        if !self.force && self.output.symlink_metadata().is_ok() {
            bail!("{} exists: --force replaces it", self.output.display());
        }
        let folder = self
            .output
            .parent()
            .filter(|folder| *folder != Path::new(""));
        let folder = folder.unwrap_or(Path::new("."));
        let cannot = || format!("cannot write {}", self.output.display());
        // Created with mode 600.
        let mut file = tempfile::NamedTempFile::new_in(folder).with_context(cannot)?;
        let mut text = Zeroizing::new(String::new());
        for row in &sheet.rows {
            row.write(&mut text);
        }
        file.write_all(text.as_bytes()).with_context(cannot)?;
        let mode = std::fs::Permissions::from_mode(0o600);
        file.as_file().set_permissions(mode).with_context(cannot)?;
        file.as_file().sync_all().with_context(cannot)?;
        if self.force {
            file.persist(&self.output)
                .map(drop)
                .map_err(|error| error.error)
        } else {
            let written = file.persist_noclobber(&self.output);
            written.map(drop).map_err(|error| error.error)
        }
        .with_context(cannot)
    }

    fn report(
        &self,
        sheet: &Sheet,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let listed = if self.all { usize::MAX } else { MAX_LISTED };
        let imported = if sheet.errors.is_empty() {
            sheet.rows.len()
        } else {
            0
        };
        let omitted = sheet.errors.len().saturating_sub(listed);
        if self.json {
            let notes = |notes: &[Note]| -> Vec<Value> {
                notes
                    .iter()
                    .take(listed)
                    .map(|note| self.note_json(note))
                    .collect()
            };
            let mut report = json!({
                "imported": imported,
                "errors": notes(&sheet.errors),
                "warnings": notes(&sheet.warnings),
            });
            if omitted > 0 {
                report["errors_omitted"] = omitted.into();
            }
            writeln!(out, "{report:#}")?;
            return Ok(());
        }
        let notes = sheet.warnings.iter().map(|note| ("warning", note));
        for (kind, note) in notes.take(listed) {
            writeln!(err, "{kind}: {}", self.note_text(note))?;
        }
        for note in sheet.errors.iter().take(listed) {
            writeln!(err, "error: {}", self.note_text(note))?;
        }
        if omitted > 0 {
            writeln!(err, "errors_omitted: {omitted} (--all lists them)")?;
        }
        if sheet.errors.is_empty() {
            let plural = if imported == 1 { "" } else { "s" };
            writeln!(
                out,
                "{imported} access key{plural} in {}",
                self.output.display()
            )?;
        }
        Ok(())
    }

    fn note_text(&self, note: &Note) -> String {
        let mut text = self.file.display().to_string();
        for number in [note.line, note.column as u64] {
            if number > 0 {
                text.push_str(&format!(":{number}"));
            }
        }
        text.push_str(": ");
        text.push_str(&note.message);
        if !note.help.is_empty() {
            text.push_str("; ");
            text.push_str(note.help);
        }
        text
    }

    fn note_json(&self, note: &Note) -> Value {
        json!({
            "file": self.file.display().to_string(),
            "line": Some(note.line).filter(|line| *line > 0),
            "column": Some(note.column).filter(|column| *column > 0),
            "message": note.message,
            "help": Some(note.help).filter(|help| !help.is_empty()),
            "count": 1,
        })
    }
}

impl Sheet {
    fn read(text: &str) -> Self {
        let mut sheet = Self::default();
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(separator(text))
            .has_headers(false)
            .flexible(true)
            .from_reader(text.as_bytes());
        let mut columns: Option<Vec<Option<Column>>> = None;
        let mut lines: HashMap<String, (u64, Row)> = HashMap::new();
        for record in reader.records() {
            // The text is UTF-8, and the number of cells may differ: nothing else can fail.
            let Ok(record) = record else { continue };
            let line = record.position().map_or(0, csv::Position::line);
            if record.iter().all(|cell| row::trim(cell).is_empty()) {
                continue;
            }
            let Some(columns) = &columns else {
                match sheet.read_header(&record, line) {
                    Some(header) => columns = Some(header),
                    None => return sheet,
                }
                continue;
            };
            let Some(row) = Row::read(&record, line, columns, &mut sheet.errors) else {
                continue;
            };
            match lines.get(row.access_key()) {
                Some((first, same)) if *same == row => sheet.warnings.push(Note {
                    line,
                    column: 0,
                    message: format!("the same as line {first}"),
                    help: "taken once",
                }),
                Some((first, _)) => sheet.errors.push(Note {
                    line,
                    column: row::column_of(columns, Column::Ak),
                    message: format!("this ak is in line {first} too, with other values"),
                    help: "must be in one line",
                }),
                None => {
                    lines.insert(row.access_key().to_owned(), (line, row.clone()));
                    sheet.rows.push(row);
                }
            }
        }
        if sheet.rows.is_empty() && sheet.errors.is_empty() {
            sheet.errors.push(Note {
                line: 0,
                column: 0,
                message: "no accounts".to_owned(),
                help: "the first line names the columns, each further line is an account",
            });
        }
        sheet
    }

    /// Reads the line that names the columns; `None` if it does not.
    fn read_header(
        &mut self,
        record: &csv::StringRecord,
        line: u64,
    ) -> Option<Vec<Option<Column>>> {
        let columns: Vec<_> = record.iter().map(Column::named).collect();
        for (index, column) in columns.iter().enumerate() {
            let cell = record.get(index).map_or("", row::trim);
            if column.is_none() && !cell.is_empty() {
                self.warnings.push(Note {
                    line,
                    column: index + 1,
                    message: "this column is not known".to_owned(),
                    help: "ignored; known are ak, sk, zone, rate, burst, name, plan, not_after",
                });
            }
            if column.is_some() && columns[..index].contains(column) {
                self.errors.push(Note {
                    line,
                    column: index + 1,
                    message: "this column is there twice".to_owned(),
                    help: "must be there once",
                });
            }
        }
        let has = |column| columns.contains(&Some(column));
        if !has(Column::Ak) || !has(Column::Sk) {
            self.warnings.clear();
            self.errors.push(Note {
                line,
                column: 0,
                message: "the first line does not name the columns ak and sk".to_owned(),
                help: "must be, for example, ak,sk,zone,rate,burst,name,plan,not_after",
            });
        }
        self.errors.is_empty().then_some(columns)
    }
}

/// Returns the separator that is most frequent in the first line.
fn separator(text: &str) -> u8 {
    let first = text
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default();
    let count = |separator: &u8| first.bytes().filter(|byte| byte == separator).count();
    // Of equal counts the last one is taken.
    [b'\t', b';', b',']
        .into_iter()
        .max_by_key(count)
        .unwrap_or(b',')
}

const EXAMPLES: &str = "\
Examples:
  ccfs-gateway keys import accounts.csv -o secrets/access_keys.toml
  ccfs-gateway keys import accounts.csv -o secrets/access_keys.d/desk.toml --force --json";

#[cfg(test)]
mod tests;
