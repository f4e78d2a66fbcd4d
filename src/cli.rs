//! (to come)

pub mod call;
pub mod client;
mod secret_key;
pub mod stand_in;
mod values;
