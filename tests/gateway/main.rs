//! The gateway from outside, over real TLS sockets, before stand-in nodes that verify signatures.
//! One binary, so that it links once; each module is one table or topic of the contract.

mod admin;
mod cache;
mod commands;
mod drain;
mod flow;
mod layers;
mod limit;
mod memory;
mod page;
mod process;
mod redaction;
mod reload;
mod support;
