//! The table of nodes.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Rect};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Row, Table, TableState};
use serde_json::Value;

use super::model::{Model, Node};
use super::theme::Theme;
use super::view::section;
use crate::cli::control::show::{cell, format_number};
use crate::words;

/// Draws the nodes in the order of the sort, with the selected one in sight.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    let unwell = model.nodes.iter().filter(|node| !node.is_usable()).count();
    let mut behind = words::count(model.nodes.len() as u64, "node");
    if unwell > 0 {
        behind += &format!(", {unwell} not usable");
    }
    behind += &format!(", by {}", model.node_sort.as_str());
    let name_width = model
        .nodes
        .iter()
        .map(|node| name(node).chars().count())
        .max();
    let name_width = u16::try_from(name_width.unwrap_or_default().clamp(4, 40)).unwrap_or(40);
    let widths = [
        Constraint::Length(name_width),
        Constraint::Length(10),
        Constraint::Length(6),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Fill(1),
    ];
    let titles = [
        "NODE",
        "STATE",
        "FLIGHT",
        "PER S",
        "FAILED",
        "P99 MS",
        "LAST FAILURE",
    ];
    let header = titles.into_iter().enumerate().map(|(column, title)| {
        let is_number = (2..=5).contains(&column);
        let side = if is_number {
            Alignment::Right
        } else {
            Alignment::Left
        };
        Cell::from(Text::from(Line::from(title).alignment(side)))
    });
    let rows = model.nodes.iter().map(|node| row(node, model, theme));
    let table = Table::new(rows, widths)
        .header(Row::new(header).style(theme.quiet()))
        .row_highlight_style(theme.selected())
        .block(section("nodes", &behind, theme));
    let mut state = TableState::default().with_selected(model.selected_index());
    frame.render_stateful_widget(table, area, &mut state);
}

fn row(node: &Node, model: &Model, theme: Theme) -> Row<'static> {
    let state = node.state().to_owned();
    let style = theme.node(&state);
    let right = |text: String| Cell::from(Text::from(Line::from(text).alignment(Alignment::Right)));
    let status = &node.status;
    Row::new([
        Cell::from(name(node)),
        Cell::from(state).style(style),
        right(cell(&status["in_flight"])),
        right(format_number(&status["attempts_per_second"])),
        right(cell(&status["failures"])),
        right(format_number(&status["p99_ms"])),
        Cell::from(last_failure(status, model)),
    ])
}

fn name(node: &Node) -> String {
    cell(&Value::from(format!("{}/{}", node.cluster, node.address)))
}

/// Returns the last failure with its age.
fn last_failure(status: &Value, model: &Model) -> String {
    let cause = match (&status["last_cause"], &status["last_error"]) {
        (Value::Null, Value::Null) => return String::new(),
        (Value::Null, error) => cell(error),
        (cause, _) => cell(cause),
    };
    match model.age(&status["last_failure_at"]) {
        Some(age) => format!("{} ago: {cause}", words::duration(age)),
        None => cause,
    }
}
