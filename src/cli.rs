//! (to come)

pub mod call;
pub mod client;
mod secret_key;
pub mod signature;
pub mod stand_in;
mod values;
