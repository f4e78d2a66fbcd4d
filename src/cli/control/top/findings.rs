//! What is wrong: in short, or with what to do.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};
use serde_json::{Value, json};

use super::model::Model;
use super::theme::Theme;
use super::view::{cut, section};
use crate::cli::control::show::cell;
use crate::words;

/// Returns the findings, with the one about a gateway that cannot be reached first.
fn all(model: &Model) -> Vec<Value> {
    let mut all = Vec::new();
    if let Some((error, since)) = &model.problem {
        let age = i64::try_from(since.elapsed().as_secs()).unwrap_or(i64::MAX);
        all.push(json!({
            "id": "gateway-unreachable",
            "severity": "critical",
            "subject": { "kind": "gateway", "name": model.target },
            "age": age,
            "cause": error,
            "advice": "It is asked every second. What is shown here is from before.",
        }));
    }
    all.extend(model.items("findings").iter().cloned());
    all
}

fn omitted(model: &Model) -> u64 {
    model.status["findings_omitted"]
        .as_u64()
        .unwrap_or_default()
}

/// Returns the rows that the findings need, with at most `most` of them.
pub(super) fn height(model: &Model, most: u16) -> u16 {
    let count = model.items("findings").len() + usize::from(model.problem.is_some());
    let shown = u16::try_from(count).unwrap_or(most).clamp(1, most);
    shown + 1
}

/// Draws one line for each finding, as many as there is room for.
pub(super) fn draw_short(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    let all = all(model);
    let room = usize::from(area.height).saturating_sub(1);
    let more = all.len().saturating_sub(room) as u64 + omitted(model);
    let behind = match more {
        0 => String::new(),
        more => format!("{more} more: press 2"),
    };
    let lines: Vec<_> = match all.len() {
        0 => vec![Line::styled("nothing is wrong", theme.good())],
        _ => (all.iter().take(room))
            .map(|finding| short(finding, model, theme, usize::from(area.width)))
            .collect(),
    };
    let block = section("findings", &behind, theme);
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn short(finding: &Value, model: &Model, theme: Theme, width: usize) -> Line<'static> {
    let severity = cell(&finding["severity"]);
    let head = format!("{:<8} ", severity.to_uppercase());
    let what = format!(
        "{} {}, {}: ",
        cell(&finding["id"]),
        cell(&finding["subject"]["name"]),
        age(finding, model)
    );
    let left = width.saturating_sub(head.chars().count() + what.chars().count());
    Line::from(vec![
        Span::styled(head, theme.severity(&severity)),
        Span::raw(what),
        Span::styled(cut(&cell(&finding["cause"]), left), theme.quiet()),
    ])
}

fn age(finding: &Value, model: &Model) -> String {
    let age = finding["age"]
        .as_i64()
        .or_else(|| model.age(&finding["since"]));
    age.map_or("-".to_owned(), words::duration)
}

/// Draws all findings with cause and advice, scrolled.
pub(super) fn draw_all(frame: &mut Frame<'_>, area: Rect, model: &mut Model, theme: Theme) {
    let all = all(model);
    let mut lines = Vec::new();
    for finding in &all {
        let severity = cell(&finding["severity"]);
        let subject = &finding["subject"];
        lines.push(Line::from(vec![
            Span::styled(
                format!("{:<8} ", severity.to_uppercase()),
                theme.severity(&severity),
            ),
            Span::raw(format!(
                "{}  {} {}, for {}{}",
                cell(&finding["id"]),
                cell(&subject["kind"]).replace('_', " "),
                cell(&subject["name"]),
                age(finding, model),
                failing(finding)
            )),
        ]));
        lines.push(Line::from(format!("  {}", cell(&finding["cause"]))));
        lines.push(Line::from(format!(
            "  What to do: {}",
            cell(&finding["advice"])
        )));
        lines.push(Line::from(""));
    }
    if all.is_empty() {
        lines.push(Line::styled("nothing is wrong", theme.good()));
    }
    model.scroll = model.scroll.min(lines.len().saturating_sub(1));
    let behind = match omitted(model) {
        0 => words::count(all.len() as u64, "finding"),
        more => format!(
            "{} and {more} more",
            words::count(all.len() as u64, "finding")
        ),
    };
    let scroll = u16::try_from(model.scroll).unwrap_or(u16::MAX);
    let text = Paragraph::new(lines)
        .wrap(Wrap { trim: false })
        .scroll((scroll, 0))
        .block(section("findings", &behind, theme));
    frame.render_widget(text, area);
}

fn failing(finding: &Value) -> String {
    let rate = finding["failing_per_second"]
        .as_f64()
        .filter(|&it| it > 0.0);
    rate.map_or_else(String::new, |rate| format!(", {rate:.1}/s fail"))
}
