//! A part of everything: findings, rates and latency, nodes, access keys, events.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline};
use serde_json::Value;

use super::model::Model;
use super::theme::Theme;
use super::view::section;
use super::{findings, lists, nodes};
use crate::cli::control::show::{cell, format_number, mebibytes};

/// Draws the overview.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &mut Model, theme: Theme) {
    let is_tall = area.height >= TALL;
    let most = if is_tall { 8 } else { 3 };
    let [found, figures, of_nodes, keys, events] = Layout::vertical([
        Constraint::Length(findings::height(model, most)),
        Constraint::Length(3),
        Constraint::Fill(3),
        Constraint::Fill(2),
        Constraint::Fill(if is_tall { 2 } else { 1 }),
    ])
    .areas(area);
    findings::draw_short(frame, found, model, theme);
    draw_figures(frame, figures, model, theme);
    nodes::draw(frame, of_nodes, model, theme);
    lists::draw_access_keys(frame, keys, model, theme);
    lists::draw_events(frame, events, model, theme);
}

/// Draws the rates, the latency, and the requests of the last quarter of an hour where there is room.
fn draw_figures(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    let status = &model.status;
    let [text, chart] = if area.width >= WIDE {
        Layout::horizontal([Constraint::Length(76), Constraint::Fill(1)]).areas(area)
    } else {
        [area, Rect::ZERO]
    };
    let cache = &status["cache"];
    let behind = format!(
        "cache {} entries, {} of {}",
        cell(&cache["entries"]),
        mebibytes(&cache["bytes"]),
        mebibytes(&cache["max_bytes"])
    );
    let lines = vec![rates(&status["rates"], theme), latency(&status["latency"])];
    let block = section("rates", &behind, theme);
    frame.render_widget(Paragraph::new(lines).block(block), text);
    if chart.width > 0 {
        let block = section("requests, 15 minutes", "", theme);
        let room = usize::from(chart.width);
        let from = model.history.len().saturating_sub(room);
        let data = model.history[from..].to_vec();
        frame.render_widget(Sparkline::default().data(data).block(block), chart);
    }
}

fn rates(rates: &Value, theme: Theme) -> Line<'static> {
    let share = rates["hit_ratio"].as_f64();
    let hits = share.map_or("-".to_owned(), |ratio| format!("{:.0} %", ratio * 100.0));
    let mut spans = vec![Span::raw(format!(
        "{}/s",
        format_number(&rates["requests"])
    ))];
    for (name, word) in [
        ("errors", "errors"),
        ("refused", "refused"),
        ("limited", "limited"),
    ] {
        let is_some = rates[name].as_f64().is_some_and(|rate| rate > 0.0);
        let style = match (is_some, name) {
            (false, _) => theme.quiet(),
            (true, "errors") => theme.bad(),
            (true, _) => theme.warning(),
        };
        let text = format!("  {word} {}/s", format_number(&rates[name]));
        spans.push(Span::styled(text, style));
    }
    spans.push(Span::raw(format!("  cache hits {hits}")));
    Line::from(spans)
}

/// Returns the percentiles of the last minute, in milliseconds.
fn latency(latency: &Value) -> Line<'static> {
    let part = |name: &str, word: &str| {
        let of = &latency[name];
        let figures = ["p50_ms", "p90_ms", "p99_ms"].map(|figure| format_number(&of[figure]));
        format!("{word} {}", figures.join(" / "))
    };
    Line::from(format!(
        "ms p50/p90/p99  {}  {}  {}",
        part("all", "all"),
        part("hit", "hits"),
        part("node", "nodes")
    ))
}

/// From here on there is room for more findings.
const TALL: u16 = 34;

/// From here on there is room for a chart.
const WIDE: u16 = 100;
