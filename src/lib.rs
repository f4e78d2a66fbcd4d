//! # Code map
//!
//! `ccfs-gateway` is a reverse proxy in front of CC-FS clusters: it verifies a request's signature,
//! normalizes its body, answers from a cache where that is safe, and otherwise forwards it to a node.
//!
//! The crate is one program. The library exists for its tests and benches; it is not a stable API.
//!
//! A request becomes, step by step, one value: a [`message::VerifiedRequest`], with a verified caller, a
//! normalized payload and the cluster that serves it. Authentication happens before this value exists,
//! delivery after it. The modules below stand in the order of their layers. A module may use only
//! modules of a lower layer, which `tests/gateway/layers.rs` enforces:
//!
//! | layer | modules | responsibility |
//! |---|---|---|
//! | 9 commands | [`cli`] | the command line |
//! | 8 tools | [`client`], [`stand_in`] | a signing HTTPS client; a stand-in CC-FS node with faults |
//! | 7 composition | [`app`] | wires all parts, reloads them and shuts them down in order |
//! | 6 edges | [`listener`], [`admin`] | sockets, TLS, HTTP, deadlines; not what a request means |
//! | 5 path | [`gateway`] | the stages of a request, and every error response |
//! | 4 services | [`cache`], [`limit`], [`shared_store`], [`upstream`] | one service each |
//! | 3 messages | [`message`] | the types between `gateway` and `upstream` |
//! | 2 settings | [`config`] | the configuration file |
//! | 1 rules | [`auth`], [`ccfs`], [`cluster`], [`findings`] | pure: no IO, no async, no clock |
//! | 0 leaves | [`drain`], `encoding`, [`escape`], `framing`, [`gauge`], `hex`, [`http_fields`], [`metrics`], [`sharded_map`], `task`, [`telemetry`], [`tick_timer`], [`tls`], `words` | no dependencies |

pub mod drain;
pub(crate) mod encoding;
pub mod escape;
pub(crate) mod framing;
pub mod gauge;
pub(crate) mod hex;
pub mod http_fields;
pub mod metrics;
pub mod sharded_map;
pub(crate) mod task;
pub mod telemetry;
pub mod tick_timer;
pub mod tls;
pub(crate) mod words;

pub mod auth;
pub mod ccfs;
pub mod cluster;
pub mod findings;

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
#[cfg(feature = "stand-in")]
pub mod stand_in;
