//! The listener against real sockets, with a test handler.

mod drain;
pub(in crate::listener) mod hpack_encoder;
mod http1;
mod http2;
mod http2_heads;
mod parking;
pub(in crate::listener) mod support;
