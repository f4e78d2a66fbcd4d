//! Flow control, learned: what a node takes of a class before it refuses with 0300008 or 0300009, and the
//! requests that wait while every usable node is at that bound. Pure: times are parameters.
//!
//! | file | does |
//! |---|---|
//! | `controller` | the bounds of one node and class, or of one access key there |
//! | `history` | the successes that these are learned from |
//! | `node_controller` | tells the limits of a node from those of an access key |
//! | `queue` | the waiting requests, in turn over access keys |

mod controller;
mod history;
mod node_controller;
mod queue;

#[cfg(test)]
mod simulation;
