//! The terminal: taken for the screen, and given back at the end, also after a panic.

use std::io;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use ratatui::layout::Rect;
use ratatui::{DefaultTerminal, Frame};
use tokio::sync::mpsc;

/// The terminal in raw mode with the alternate screen. Dropping it restores what was there.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: DefaultTerminal,
    is_open: bool,
}

/// What comes from the terminal.
#[derive(Clone, Copy, Debug)]
pub(super) enum Input {
    /// A key was pressed.
    Key(KeyEvent),
    /// The size has changed.
    Resized,
    /// The terminal is gone.
    Failed,
}

/// The inputs in their order.
pub(super) type Inputs = mpsc::Receiver<Input>;

impl Screen {
    /// Takes the terminal, and starts to read it.
    ///
    /// # Errors
    /// The terminal refuses.
    pub(super) fn open() -> io::Result<(Self, Inputs)> {
        // Also makes a panic give the terminal back before its message is written.
        let terminal = ratatui::try_init()?;
        let (sender, inputs) = mpsc::channel(64);
        tokio::task::spawn_blocking(move || read(&sender));
        let is_open = true;
        Ok((Self { terminal, is_open }, inputs))
    }

    /// Draws one frame; only what has changed is written.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw)?;
        Ok(())
    }

    /// Forgets what the terminal shows, so that the next frame is written whole.
    pub(super) fn forget(&mut self) -> io::Result<()> {
        // `clear` would ask the terminal for the cursor, whose answer the reader of the keys takes.
        let size = self.terminal.size()?;
        self.terminal
            .resize(Rect::new(0, 0, size.width, size.height))
    }

    /// Gives the terminal back.
    pub(super) fn close(mut self) -> io::Result<()> {
        self.is_open = false;
        ratatui::try_restore()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.is_open {
            // The error that ends the command is told instead.
            let _ = ratatui::try_restore();
        }
    }
}

/// Reads the terminal until its reader is gone.
fn read(sender: &mpsc::Sender<Input>) {
    while !sender.is_closed() {
        let input = match event::poll(POLL) {
            Ok(false) => continue,
            Ok(true) => match event::read() {
                Ok(Event::Key(key)) if key.kind == KeyEventKind::Press => Input::Key(key),
                Ok(Event::Resize(..)) => Input::Resized,
                Ok(_) => continue,
                Err(_) => Input::Failed,
            },
            Err(_) => Input::Failed,
        };
        let is_last = matches!(input, Input::Failed);
        if sender.blocking_send(input).is_err() || is_last {
            return;
        }
    }
}

/// How long the end of the command may wait for this thread. It does not wait for it.
const POLL: Duration = Duration::from_millis(250);
