//! A real pseudo-terminal, with a parser of what a command writes there.

use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::process::Child;
use std::sync::{Arc, Mutex};

use pty_process::Size;
use pty_process::blocking::{Command, Pty, open};

use crate::process::PROGRAM;
use crate::support::eventually;

/// A command that runs in a terminal; killed when dropped.
pub(crate) struct Terminal {
    child: Child,
    pty: Arc<Pty>,
    screen: Arc<Mutex<vt100::Parser>>,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Starts the program with these arguments in a terminal of this size.
    pub(crate) fn start(arguments: &[&str], rows: u16, columns: u16) -> Self {
        Self::start_with(arguments, (rows, columns), &[])
    }

    /// Like [`Terminal::start`], with these variables.
    pub(crate) fn start_with(
        arguments: &[&str],
        (rows, columns): (u16, u16),
        variables: &[(&str, &str)],
    ) -> Self {
        let (pty, pts) = open().unwrap();
        pty.resize(Size::new(rows, columns)).unwrap();
        let command = Command::new(PROGRAM)
            .args(arguments)
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .envs(variables.iter().copied());
        let child = command.spawn(pts).unwrap();
        let size = |number| NonZeroU16::new(number).unwrap();
        let terminal = Self {
            child,
            pty: Arc::new(pty),
            screen: Arc::new(Mutex::new(vt100::Parser::new(size(rows), size(columns), 0))),
            written: Arc::default(),
        };
        let (pty, screen) = (terminal.pty.clone(), terminal.screen.clone());
        let written = terminal.written.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Fails once the command has ended.
            while let Ok(count @ 1..) = (&*pty).read(&mut bytes) {
                screen.lock().unwrap().process(&bytes[..count]);
                written.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        terminal
    }

    /// The rows of the screen.
    pub(crate) fn rows(&self) -> Vec<String> {
        let parser = self.screen.lock().unwrap();
        let columns = parser.screen().size().1.get();
        parser.screen().rows(0, columns).collect()
    }

    /// The screen as one text.
    pub(crate) fn text(&self) -> String {
        self.rows().join("\n")
    }

    /// Everything that was written, with its escape sequences.
    pub(crate) fn written(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    /// Whether the alternate screen is shown.
    pub(crate) fn is_alternate(&self) -> bool {
        self.screen.lock().unwrap().screen().alternate_screen()
    }

    /// Whether the cursor can be seen.
    pub(crate) fn has_cursor(&self) -> bool {
        !self.screen.lock().unwrap().screen().hide_cursor()
    }

    /// Types.
    pub(crate) fn type_text(&self, text: &str) {
        (&*self.pty).write_all(text.as_bytes()).unwrap();
    }

    /// Waits until the screen shows all of these texts.
    pub(crate) async fn shows(&self, parts: &[&str]) {
        let has_all = || {
            let text = self.text();
            parts.iter().all(|part| text.contains(part))
        };
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        while !has_all() {
            assert!(
                tokio::time::Instant::now() < deadline,
                "not all of {parts:?} within 10 s:\n{}",
                self.text()
            );
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Changes the size of the terminal.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let size = |number| NonZeroU16::new(number).unwrap();
        let mut screen = self.screen.lock().unwrap();
        screen.set_size(size(rows), size(columns));
        self.pty.resize(Size::new(rows, columns)).unwrap();
    }

    /// Sends a signal by name, e.g. `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = std::process::Command::new("kill")
            .args([&format!("-{name}"), &id])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Whether the command still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end of the command; returns its exit code.
    pub(crate) async fn exit(&mut self) -> Option<i32> {
        let mut status = None;
        eventually("the command ends", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap().code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
