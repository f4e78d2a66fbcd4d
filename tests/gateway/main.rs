//! The gateway from outside, over real TLS sockets, before stand-in nodes that verify signatures.
//! One binary, so that it links once; each module is one table or topic of the contract.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and is at the edge where clocks and tasks are"
)]

mod balance;
mod config;
mod flow;
mod health;
mod layers;
mod load;
mod retries;
mod streams;
mod support;
