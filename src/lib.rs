//! # The code map
//!
//! `ccfs-gateway` stands in front of CC-FS clusters: it verifies who asks, makes the request
//! well-formed, answers from a cache where that is safe, and delivers to a node where it is not.
//!
//! A request is turned, step by step, into one value, a [`message::Call`]: who asks (proved), what for
//! (normalized), of which cluster. Everything before it is about trust, everything after it about
//! delivery. The modules below stand in the order of their layers; a module may use only modules of
//! a lower layer, which `tests/gateway/layers.rs` enforces:
//!
//! | layer | modules | knows |
//! |---|---|---|
//! | 9 commands | [`cli`] | the program from outside |
//! | 8 tools | [`client`], [`stand_in`] | what a CC-FS node does, and all the ways it can fail |
//! | 7 shell | [`app`] | how all parts are wired, and in which order they end |
//! | 6 edges | [`listener`], [`admin`] | sockets, TLS, deadlines; not what a request means |
//! | 5 path | [`gateway`] | the stages of a request, and every refusal |
//! | 4 services | [`cache`], [`limit`], [`shared_store`], [`upstream`] | one service each |
//! | 3 waist | [`message`] | what is delivered, and what comes back |
//! | 2 settings | [`config`] | the one file an operator writes |
//! | 1 rules | [`auth`], [`ccfs`], [`cluster`] | pure: no IO, no async, no clock |
//! | 0 leaves | [`drain`], [`gauge`], [`metrics`], [`telemetry`], [`tls`] | nobody |

pub mod drain;
pub mod gauge;
pub mod metrics;
pub mod telemetry;
pub mod tls;

pub mod auth;
pub mod ccfs;
pub mod cluster;

pub mod config;

pub mod message;

pub mod cache;
pub mod limit;
pub mod shared_store;
pub mod upstream;

pub mod gateway;

pub mod admin;
pub mod listener;

pub mod app;

pub mod cli;
pub mod client;
pub mod stand_in;
