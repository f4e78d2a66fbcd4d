//! The listener against real sockets, with a test handler.

mod drain;
mod http1;
mod http2;
mod support;
