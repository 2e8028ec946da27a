//! Runs: sessions, rounds, and the nodes' states.

pub mod lease;
pub mod nodes;
pub mod select;
pub mod status;
