//! The gateway from outside, over real TLS sockets, before stand-in nodes that verify signatures.
//! One binary, so that it links once; each module is one table or topic of the contract.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and is at the edge where clocks and tasks are"
)]

mod admin;
mod browser;
mod cache;
mod commands;
mod config;
mod control;
mod drain;
mod expect;
mod flow;
mod forward;
mod http2;
mod interfaces;
mod layers;
mod limit;
mod memory;
mod metrics;
mod page;
mod process;
mod recording;
mod redaction;
mod refuse;
mod reload;
mod signatures;
mod strangers;
mod support;
