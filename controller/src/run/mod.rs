//! Runs: sessions, rounds, and the nodes' states.

pub mod discovery;
pub mod hub;
pub mod lease;
mod net;
mod node;
pub mod nodes;
pub mod produce;
pub mod registry;
pub mod select;
pub mod session;
mod slow;
pub mod source;
pub mod status;
mod stream;
