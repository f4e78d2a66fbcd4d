//! The listener against real sockets, with a toy handler.

mod http1;
mod stage;
