//! Colours of the screen. Nothing is told by colour alone.

use std::io;

use ratatui::style::{Color, Modifier, Style};

/// The colours, or none (`NO_COLOR`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    has_color: bool,
}

impl Theme {
    /// Returns the theme for this terminal.
    pub(super) fn new() -> Self {
        let choice = anstream::AutoStream::choice(&io::stdout());
        Self {
            has_color: choice != anstream::ColorChoice::Never,
        }
    }

    /// What fails.
    pub(super) fn bad(self) -> Style {
        self.color(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// What needs a look.
    pub(super) fn warning(self) -> Style {
        self.color(Color::Yellow)
    }

    /// What is as it should be.
    pub(super) fn good(self) -> Style {
        self.color(Color::Green)
    }

    /// What is in the background.
    pub(super) fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// Titles.
    pub(super) fn title(self) -> Style {
        self.color(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// The selected row, and the header.
    pub(super) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// The style of a severity of findings and events.
    pub(super) fn severity(self, severity: &str) -> Style {
        match severity {
            "critical" => self.bad(),
            "warning" => self.warning(),
            _ => Style::new(),
        }
    }

    /// The style of a node's state.
    pub(super) fn node(self, state: &str) -> Style {
        match state {
            "up" => self.good(),
            "down" | "unresolved" => self.bad(),
            _ => self.warning(),
        }
    }

    fn color(self, color: Color) -> Style {
        if self.has_color {
            Style::new().fg(color)
        } else {
            Style::new()
        }
    }
}
