//! The gateway from outside, over real TLS sockets, before stand-in nodes that verify signatures.
//! One binary, so that it links once; each module is one table or topic of the contract.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::too_many_lines,
    clippy::type_complexity,
    clippy::unwrap_used,
    reason = "a test fails by panicking, is at the edge where clocks and tasks are, and a table of               cases is one function"
)]

mod access_log;
mod admin;
mod balance;
mod browser;
mod cache;
mod certificates;
mod clocks;
#[cfg(feature = "otlp")]
mod collector;
mod commands;
mod commands_at_work;
mod config;
mod control;
mod covered;
mod deploy;
mod drain;
mod edge;
mod expect;
mod fetch;
mod flow;
mod forward;
mod fuzz;
mod health;
mod hostile;
mod http2;
mod interfaces;
mod invalid;
mod layers;
mod limit;
mod load;
mod memory;
mod metrics;
mod nodes;
mod operate;
mod outgoing;
mod page;
mod paths;
mod play;
mod process;
mod purge;
mod recording;
mod redaction;
mod refuse;
mod reload;
mod repeat;
mod retries;
mod revoked;
mod shadow;
mod shared;
mod signatures;
mod strangers;
mod streams;
mod support;
mod syscalls;
mod systemd;
#[cfg(feature = "otlp")]
mod traces;
mod traffic;
