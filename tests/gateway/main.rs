//! Scenario tests: the gateway from outside, over real TLS sockets, in front of stand-in nodes that
//! verify signatures. One binary, so that it links once; each module covers one table or topic of
//! the contract.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::too_many_lines,
    clippy::type_complexity,
    clippy::unwrap_used,
    reason = "a test fails by panicking, uses clocks and tasks, and a table of cases is one function"
)]

mod access_key_orders;
mod access_log;
mod admin;
mod assertions;
mod audit;
mod balance;
mod browser;
mod cache;
mod callers;
mod certificates;
#[cfg(feature = "otlp")]
mod collector;
mod commands;
mod commands_at_work;
mod config;
mod control;
mod daylight_saving;
mod deploy;
mod drain;
mod edge;
mod errors;
mod examples;
mod fetch;
mod findings;
mod first_steps;
mod flow;
mod flow_control;
mod followers;
mod forward;
mod fuzz;
mod health;
mod hints;
mod hostile;
mod http2;
mod interfaces;
mod invalid;
mod json_schema;
mod key_directory;
mod layers;
mod least_time;
mod limit;
mod load;
mod logs;
mod loops;
mod memory;
mod metrics;
mod migration;
mod node_statuses;
mod nodes;
mod openapi;
mod operation_under_load;
mod page;
mod pages;
mod playback;
mod prefer;
mod process;
mod proxy_status;
mod purge;
mod real_clients;
mod recording;
mod redaction;
mod refused_signatures;
mod reload;
mod repeated_bodies;
mod retries;
mod retry_idempotency;
mod revoked;
mod routing;
mod shadow;
mod shadow_authentication;
mod shared;
mod signature_hints;
mod signatures;
mod signed_parts;
mod status_members;
mod status_schema;
mod streams;
mod support;
mod syscalls;
mod systemd;
mod tail;
mod terminal;
mod tickets;
mod tiers;
mod top;
#[cfg(feature = "otlp")]
mod traces;
mod traffic;
mod trust;
mod unverified_clients;
mod upstream_request;
