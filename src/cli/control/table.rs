//! Plain-text tables.

use std::fmt::Write;

use crate::escape;

/// A table whose columns are as wide as their widest cell.
#[derive(Debug)]
pub(super) struct Table {
    columns: &'static [Column],
    rows: Vec<Vec<String>>,
}

/// A column with its title; numbers are right-aligned.
#[derive(Debug)]
pub(super) enum Column {
    Text(&'static str),
    Number(&'static str),
}

impl Table {
    pub(super) fn new(columns: &'static [Column]) -> Self {
        let rows = Vec::new();
        Self { columns, rows }
    }

    pub(super) fn push_row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows
            .push(cells.map(|cell| replace_control_chars(&cell)).to_vec());
    }

    pub(super) fn render(&self) -> String {
        let titles: Vec<_> = self
            .columns
            .iter()
            .map(|it| it.title().to_owned())
            .collect();
        let lines = || std::iter::once(&titles).chain(&self.rows);
        let width = |index: usize| {
            let cells = lines().filter_map(|line| line.get(index));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..self.columns.len()).map(width).collect();
        let mut text = String::new();
        for line in lines() {
            let mut written = String::new();
            for ((cell, column), &width) in line.iter().zip(self.columns).zip(&widths) {
                // Writing to a `String` cannot fail.
                let _ = match column {
                    Column::Text(_) => write!(written, "{cell:<width$}  "),
                    Column::Number(_) => write!(written, "{cell:>width$}  "),
                };
            }
            text.push_str(written.trim_end());
            text.push('\n');
        }
        text
    }
}

impl Column {
    fn title(&self) -> &'static str {
        match self {
            Self::Text(title) | Self::Number(title) => title,
        }
    }
}

/// Replaces unsafe characters, so that no text of a gateway can control the terminal.
pub(super) fn replace_control_chars(text: &str) -> String {
    let replace = |c: char| if escape::is_unsafe(c) { '\u{fffd}' } else { c };
    text.chars().map(replace).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_needed() {
        let mut table = Table::new(&[
            Column::Text("NODE"),
            Column::Number("N"),
            Column::Text("LAST"),
        ]);
        table.push_row(["a".to_owned(), "1000".to_owned(), "-".to_owned()]);
        table.push_row(["long\x1b[2J".to_owned(), "1".to_owned(), "x".to_owned()]);
        let expected = "NODE         N  LAST\na         1000  -\nlong\u{fffd}[2J     1  x\n";
        assert_eq!(table.render(), expected);
    }
}
