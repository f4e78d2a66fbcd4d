//! Whether output is read by a person at a terminal.

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};

/// Returns whether text for this stream may have colours: it is a terminal that shows them, and `NO_COLOR`
/// is unset (<https://no-color.org>). `CLICOLOR_FORCE` demands them everywhere.
pub(super) fn has_colours(stream: &impl RawStream) -> bool {
    AutoStream::choice(stream) != ColorChoice::Never
}

/// Returns the width of the terminal that a stream leads to; `None` if it is no terminal.
#[cfg(feature = "stand-in")]
pub(super) fn columns(stream: &impl std::os::fd::AsFd) -> Option<usize> {
    terminal_size::terminal_size_of(stream).map(|(width, _)| width.0.into())
}
