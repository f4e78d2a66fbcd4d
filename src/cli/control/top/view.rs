//! Draws the screen: a header, what is chosen, and a footer.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph, Wrap};
use serde_json::Value;

use super::keys::HELP;
use super::model::{Model, View};
use super::theme::Theme;
use super::{findings, lists, nodes, overview};
use crate::cli::control::show::{cell, format_uptime};
use crate::words;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, model: &mut Model, theme: &Theme) {
    let [head, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(header(model, *theme, head.width), head);
    if model.status.is_null() {
        frame.render_widget(waiting(model, *theme), body);
    } else {
        match model.view {
            View::Overview => overview::draw(frame, body, model, *theme),
            View::Findings => findings::draw_all(frame, body, model, *theme),
            View::Nodes => nodes::draw(frame, body, model, *theme),
            View::AccessKeys => lists::draw_access_keys(frame, body, model, *theme),
            View::Events => lists::draw_events(frame, body, model, *theme),
        }
    }
    frame.render_widget(footer(model, *theme), foot);
    if model.shows_help {
        let lines = HELP
            .iter()
            .map(|(key, does)| Line::from(format!(" {key:<14} {does}")));
        draw_box(frame, " keys ", lines.collect(), *theme);
    }
    if let Some(order) = &model.question {
        let mut lines = vec![Line::from(format!(
            " {} {}/{}?",
            capitalized(order.command.as_str()),
            order.cluster,
            order.address
        ))];
        if order.command == super::model::Command::Drain {
            lines.push(Line::from(
                " It gets no new requests; those in flight may finish.",
            ));
            if model.is_last_usable(order) {
                let text = format!(" No other node of {} is usable!", order.cluster);
                lines.push(Line::styled(text, theme.bad()));
            }
        }
        lines.push(Line::from(" y: yes    any other key: no"));
        draw_box(frame, " sure? ", lines, *theme);
    }
}

/// Returns the first line: which gateway, and how it is.
fn header(model: &Model, theme: Theme, width: u16) -> Line<'static> {
    let status = &model.status;
    let name = match &status["instance"] {
        Value::Null => model.target.clone(),
        name => cell(name),
    };
    let state = match (&model.problem, status["draining"] == true) {
        (Some(_), _) => Span::styled("unreachable", theme.bad()),
        (None, _) if status.is_null() => Span::raw("connecting"),
        (None, true) => Span::styled("draining", theme.warning()),
        (None, false) => Span::styled("serving", theme.good()),
    };
    let mut spans = vec![Span::styled(format!("{name}  "), theme.title()), state];
    if !status.is_null() {
        let uptime = status["uptime_seconds"].as_u64().unwrap_or_default();
        spans.push(Span::raw(format!(
            "  {}  up {}  generation {}  {} in flight",
            cell(&status["version"]),
            format_uptime(uptime),
            status["generation"],
            status["requests_in_flight"],
        )));
    }
    let time = model.now().map(|now| now.strftime("%H:%M:%SZ").to_string());
    let time = time.unwrap_or_default();
    let used: usize = spans.iter().map(Span::width).sum();
    let gap = usize::from(width).saturating_sub(used + time.len());
    spans.push(Span::styled(format!("{:gap$}{time}", ""), theme.quiet()));
    Line::from(spans)
}

/// Returns what is shown before the first answer.
fn waiting(model: &Model, theme: Theme) -> Paragraph<'static> {
    let lines = match &model.problem {
        None => vec![Line::from("")],
        Some((error, since)) => vec![
            Line::from(""),
            Line::styled(cell(&Value::from(error.as_str())), theme.bad()),
            Line::from(format!(
                "Asked every second, for {}.",
                words::duration(i64::try_from(since.elapsed().as_secs()).unwrap_or(i64::MAX))
            )),
        ],
    };
    Paragraph::new(lines).wrap(Wrap { trim: true })
}

/// Returns the last line: the result of an order, or the keys.
fn footer(model: &Model, theme: Theme) -> Line<'static> {
    match model.fresh_notice() {
        Some(Ok(text)) => Line::styled(text.clone(), theme.good()),
        Some(Err(text)) => Line::styled(cell(&Value::from(text.as_str())), theme.bad()),
        None => Line::styled(
            "1-5 views  Tab next  ↑↓ node  s sort  d drain  u undrain  ? help  q quit",
            theme.quiet(),
        ),
    }
}

/// Draws a box in the middle of the screen.
fn draw_box(frame: &mut Frame<'_>, title: &'static str, lines: Vec<Line<'_>>, theme: Theme) {
    let area = frame.area();
    let longest = lines.iter().map(Line::width).max().unwrap_or_default();
    let width = u16::try_from(longest + 4)
        .unwrap_or(u16::MAX)
        .min(area.width);
    let height = u16::try_from(lines.len() + 2)
        .unwrap_or(u16::MAX)
        .min(area.height);
    let area = Rect {
        x: (area.width - width) / 2,
        y: (area.height - height) / 2,
        width,
        height,
    };
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(Span::styled(title, theme.title()));
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

/// Returns a block with a title on a line of its own, and what is behind the title.
pub(super) fn section(title: &str, behind: &str, theme: Theme) -> Block<'static> {
    let title = Line::from(vec![
        Span::styled(format!("{title} "), theme.title()),
        Span::styled(format!("{behind} "), theme.quiet()),
    ]);
    Block::new()
        .borders(Borders::TOP)
        .title(title)
        .border_style(theme.quiet())
}

/// Cuts a text to a width, with an ellipsis.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(characters).collect()
    })
}
