//! The listener against real sockets, with a toy handler.

mod drain;
mod http1;
mod http2;
mod stage;
