//! Access keys and callers, and the last events and failed requests.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Rect};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};
use serde_json::Value;

use super::model::{KEY_SORTS, Model};
use super::theme::Theme;
use super::view::section;
use crate::cli::control::show::{cell, format_number};

/// Draws the access keys with the most of what they are sorted by.
pub(super) fn draw_access_keys(frame: &mut Frame<'_>, area: Rect, model: &mut Model, theme: Theme) {
    let callers = model.items("callers");
    let count = model.access_keys().len() + callers.len();
    let scroll = model.scroll.min(count.saturating_sub(1));
    let behind = format!(
        "{} configured, by {}",
        cell(&model.status["access_keys"]),
        KEY_SORTS[model.key_sort].1
    );
    let columns = [
        ("ACCESS KEY", 24),
        ("PER S", 7),
        ("REQUESTS", 10),
        ("HITS", 8),
        ("REFUSED", 8),
        ("LIMITED", 8),
        ("NOT FOUND", 9),
    ];
    let widths = columns.iter().map(|(_, width)| Constraint::Length(*width));
    let right = |text: String| Cell::from(Text::from(Line::from(text).alignment(Alignment::Right)));
    let header = columns
        .iter()
        .enumerate()
        .map(|(column, (title, _))| match column {
            0 => Cell::from(*title),
            _ => right((*title).to_owned()),
        });
    // A caller stands below the access keys, by its own name.
    let rows = model.access_keys().iter().chain(callers).map(|key| {
        let name = match (&key["name"], key.get("interfaces")) {
            (Value::Null, _) => cell(&key["access_key"]),
            (name, None) => format!("{} {}", cell(&key["access_key"]), cell(name)),
            (name, Some(_)) => format!("caller {}", cell(name)),
        };
        let figures = ["requests", "hits", "refused", "limited", "not_found"];
        let figures = figures.map(|figure| right(cell(&key[figure])));
        let rate = right(format_number(&key["per_second"]));
        Row::new([Cell::from(name), rate].into_iter().chain(figures))
    });
    let table = Table::new(rows, widths)
        .header(Row::new(header).style(theme.quiet()))
        .block(section("access keys", &behind, theme));
    let mut state = TableState::default().with_offset(scroll);
    frame.render_stateful_widget(table, area, &mut state);
    model.scroll = scroll;
}

/// Draws what happened, the newest first.
pub(super) fn draw_events(frame: &mut Frame<'_>, area: Rect, model: &mut Model, theme: Theme) {
    let mut lines: Vec<_> = (model.items("events").iter())
        .map(|event| {
            let severity = event["severity"].as_str().unwrap_or_default();
            line(
                &event["at"],
                theme,
                vec![Span::styled(cell(&event["text"]), theme.severity(severity))],
            )
        })
        .collect();
    let failed = model.items("failed_requests");
    if !failed.is_empty() && area.height > LONG {
        lines.push(Line::styled("failed requests", theme.title()));
        lines.extend(failed.iter().map(|request| {
            let parts: Vec<_> = (FAILED.iter())
                .filter(|name| !request[**name].is_null())
                .map(|name| cell(&request[*name]))
                .collect();
            line(&request["at"], theme, vec![Span::raw(parts.join("  "))])
        }));
    }
    if lines.is_empty() {
        lines.push(Line::styled("nothing has happened", theme.quiet()));
    }
    model.scroll = model.scroll.min(lines.len().saturating_sub(1));
    let scroll = u16::try_from(model.scroll).unwrap_or(u16::MAX);
    let text =
        Paragraph::new(lines)
            .scroll((scroll, 0))
            .block(section("events", "times in UTC", theme));
    frame.render_widget(text, area);
}

/// Returns a line that begins with the time of day.
fn line(at: &Value, theme: Theme, mut spans: Vec<Span<'static>>) -> Line<'static> {
    let at = cell(at);
    let time = at.get(11..19).unwrap_or(&at).to_owned();
    spans.insert(0, Span::styled(format!("{time}  "), theme.quiet()));
    Line::from(spans)
}

/// The members of a failed request, in the order of their importance.
const FAILED: [&str; 7] = [
    "status",
    "outcome",
    "access_key",
    "call_id",
    "interface",
    "node",
    "reason",
];

/// An area of so many rows has room for failed requests.
const LONG: u16 = 12;
