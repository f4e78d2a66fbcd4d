//! What the keys do. No I/O.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::model::{Command, KEY_SORTS, Model, NodeSort, Order, View};

/// What a key asks of the command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Action {
    None,
    Quit,
    Send(Order),
}

/// All keys, for the help.
pub(super) const HELP: [(&str, &str); 11] = [
    ("1", "overview"),
    ("2", "findings, with what to do"),
    ("3", "nodes"),
    ("4", "access keys, and callers without a secret key"),
    ("5", "last events and failed requests"),
    ("Tab", "the next of these"),
    ("↑ ↓ PgUp PgDn", "select a node, or scroll"),
    ("s", "sort by the next column"),
    ("d, u", "drain, undrain the selected node"),
    ("?", "this help"),
    ("q, Ctrl-C", "quit"),
];

impl Model {
    /// Takes a key.
    pub(super) fn on_key(&mut self, key: KeyEvent) -> Action {
        let has_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if has_control => return Action::Quit,
            _ if has_control => return Action::None,
            _ => {}
        }
        if let Some(order) = self.question.take() {
            return match key.code {
                KeyCode::Char('y' | 'Y') => Action::Send(order),
                _ => Action::None,
            };
        }
        if self.shows_help {
            self.shows_help = false;
            return match key.code {
                KeyCode::Char('q') => Action::Quit,
                _ => Action::None,
            };
        }
        match key.code {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Char('?' | 'h') => self.shows_help = true,
            KeyCode::Char(digit @ '1'..='5') => self.show(VIEWS[digit as usize - '1' as usize]),
            KeyCode::Tab => self.show(self.next_view()),
            KeyCode::Esc => self.show(View::Overview),
            KeyCode::Char('s') => self.next_sort(),
            KeyCode::Char('d') => self.ask(Command::Drain),
            KeyCode::Char('u') => self.ask(Command::Undrain),
            KeyCode::Down | KeyCode::Char('j') => self.go(1),
            KeyCode::Up | KeyCode::Char('k') => self.go(-1),
            KeyCode::PageDown => self.go(PAGE),
            KeyCode::PageUp => self.go(-PAGE),
            KeyCode::Home => self.go(isize::MIN / 2),
            KeyCode::End => self.go(isize::MAX / 2),
            _ => {}
        }
        Action::None
    }

    fn show(&mut self, view: View) {
        self.view = view;
        self.scroll = 0;
    }

    fn next_view(&self) -> View {
        let at = VIEWS.iter().position(|&view| view == self.view);
        VIEWS[(at.unwrap_or_default() + 1) % VIEWS.len()]
    }

    fn next_sort(&mut self) {
        if self.view == View::AccessKeys {
            self.key_sort = (self.key_sort + 1) % KEY_SORTS.len();
            return;
        }
        let all = NodeSort::ALL;
        let at = all.iter().position(|&sort| sort == self.node_sort);
        self.node_sort = all[(at.unwrap_or_default() + 1) % all.len()];
        self.sort_nodes();
    }

    /// Asks before a node is drained or undrained.
    fn ask(&mut self, command: Command) {
        let shows_nodes = matches!(self.view, View::Overview | View::Nodes);
        let node = self.selected_index().and_then(|at| self.nodes.get(at));
        self.question = node.filter(|_| shows_nodes).map(|node| Order {
            command,
            cluster: node.cluster.clone(),
            address: node.address.clone(),
        });
    }

    fn go(&mut self, by: isize) {
        match self.view {
            View::Overview | View::Nodes => {
                let at = self.selected_index().unwrap_or_default();
                self.select(at.saturating_add_signed(by));
            }
            // The view bounds it to what there is.
            View::Findings | View::AccessKeys | View::Events => {
                self.scroll = self.scroll.saturating_add_signed(by);
            }
        }
    }
}

const VIEWS: [View; 5] = [
    View::Overview,
    View::Findings,
    View::Nodes,
    View::AccessKeys,
    View::Events,
];

/// Rows of a page.
const PAGE: isize = 10;
