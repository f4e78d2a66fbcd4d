//! (to come)

pub mod signature;
